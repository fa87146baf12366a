"""Text to image on the tiny model: seeds, independence, sizes, settings, outputs, progress, refusals."""

from typing import Any

import numpy as np
import pytest
import torch

from unclip.clip import TextFeatures
from unclip.errors import InputError
from unclip.images import to_pil
from unclip.pipelines import Condition, Model, UnClip
from unclip.pipelines.options import check_options
from unclip.runtime import NoiseSource

PROMPT = "a red apple"
LONG = "a red apple and a blue heart and a green tree and an old house near the yellow sun with a cat"


def pixels(pipe: UnClip, prompts: str | list[str] = PROMPT, num_images: int = 1, **settings: Any) -> torch.Tensor:
    return torch.stack(pipe.text_to_image(prompts, num_images, output_type="pt", **{"seed": 7, **settings}).images)


def test_the_same_seed_gives_the_same_picture_and_another_another(pipe: UnClip) -> None:
    assert torch.equal(pixels(pipe), pixels(pipe))
    assert not torch.allclose(pixels(pipe), pixels(pipe, seed=8), atol=0.1)


def test_the_prompt_matters(pipe: UnClip) -> None:
    assert not torch.allclose(pixels(pipe), pixels(pipe, "a cat with sunglasses"), atol=0.1)


def test_seeds_of_every_picture_draw_what_each_draws_alone(pipe: UnClip) -> None:
    prompts = [PROMPT, "a cat"]
    result = pipe.text_to_image(prompts, 2, seed=[3, 9, 5, 3], output_type="pt")
    assert result.seeds == [3, 9, 5, 3]
    alone = [pixels(pipe, prompts[place // 2], seed=seed)[0] for place, seed in enumerate(result.seeds)]
    assert torch.equal(torch.stack(result.images), torch.stack(alone))


def test_picture_k_has_seed_plus_k_whatever_the_number(pipe: UnClip) -> None:
    four = pixels(pipe, num_images=4)
    assert torch.equal(four[:2], pixels(pipe, num_images=2))
    for k in range(4):
        assert torch.equal(four[k : k + 1], pixels(pipe, seed=7 + k))


def test_prompts_do_not_touch_each_other(pipe: UnClip) -> None:
    result = pipe.text_to_image([PROMPT, "a cat"], 2, seed=7, output_type="pt")
    assert result.prompts == [PROMPT, PROMPT, "a cat", "a cat"]
    assert result.seeds == [7, 8, 7, 8]
    assert torch.equal(torch.stack(result.images[:2]), pixels(pipe, num_images=2))
    assert torch.equal(torch.stack(result.images[2:]), pixels(pipe, "a cat", num_images=2))
    assert result.image_embeddings.shape == (4, pipe.clip.embedding_dim)


def test_batches_change_no_more_than_rounding(pipe: UnClip) -> None:
    torch.testing.assert_close(
        pixels(pipe, num_images=5, batch_size=3), pixels(pipe, num_images=5), atol=1e-3, rtol=1e-3
    )


def test_noise_order_is_prior_decoder_upsampler(model: Model, pipe: UnClip) -> None:
    """The chain by hand with one generator: start and steps of each stage in turn."""
    noise = NoiseSource.from_seeds([7])
    text, null = model.need_clip.encode_text([PROMPT]), model.need_clip.encode_text([""])
    z = model.need_prior.sample(text, null, noise, num_candidates=2)
    small = model.need_decoder.sample(z, Condition(text, null), noise)
    large = model.need_upsampler.sample(small, noise)
    result = pipe.text_to_image(PROMPT, seed=7, num_candidates=2, output_type="pt")
    torch.testing.assert_close(result.image_embeddings, z)
    torch.testing.assert_close(result.images[0], large[0])


def test_embeddings_outlive_inference_mode(pipe: UnClip) -> None:
    embedding = pipe.text_to_image(PROMPT, seed=7).image_embeddings.clone().requires_grad_()
    embedding.square().sum().backward()
    torch.testing.assert_close(embedding.grad, 2 * embedding.detach())


def test_sizes(pipe: UnClip) -> None:
    assert pipe.image_sizes == [16, 32]
    assert pixels(pipe).shape == pixels(pipe, image_size=32).shape == (1, 3, 32, 32)
    small = pipe.text_to_image(PROMPT, seed=7, image_size=16)
    assert small.images[0].size == (16, 16)
    assert "upsampler_32" not in small.settings
    with pytest.raises(InputError, match=r"image_size=24 is not one that the model 'tiny' draws; use one of: 16, 32"):
        pipe.text_to_image(PROMPT, image_size=24)


def test_stopping_early_changes_nothing_before(pipe: UnClip) -> None:
    small, large = (pipe.text_to_image(PROMPT, seed=7, image_size=size) for size in (16, 32))
    assert torch.equal(small.image_embeddings, large.image_embeddings)


def test_settings_reach_their_stage_and_are_reported(pipe: UnClip) -> None:
    settings = pipe.text_to_image(
        PROMPT,
        seed=7,
        num_steps={"prior": 5, "upsampler_32": 1},
        guidance_scale=1.5,
        sampler={"decoder": "heun"},
        num_candidates=4,
    ).settings
    assert settings["image_size"] == 32
    assert settings["num_candidates"] == 4
    found = {
        stage: (settings[stage]["num_steps"], settings[stage]["guidance_scale"], settings[stage]["sampler"])
        for stage in ("prior", "decoder", "upsampler_32")
    }
    assert found == {"prior": (5, 1.5, "ddpm"), "decoder": (3, 1.5, "heun"), "upsampler_32": (1, 1.0, "ddim")}


@pytest.mark.parametrize(
    "change",
    [
        {"num_steps": {"prior": 5}},
        {"num_steps": {"decoder": 4}},
        {"num_steps": {"upsampler_32": 3}},
        {"guidance_scale": {"prior": 1.0}},
        {"guidance_scale": {"decoder": 1.0}},
        {"guidance_scale": 0.0},
        {"sampler": {"prior": "dpm++"}},
        {"sampler": "heun"},
        {"sampler": "dpm++sde"},
        {"num_candidates": 1},
    ],
)
def test_every_setting_changes_the_picture(pipe: UnClip, change: dict[str, Any]) -> None:
    changed = pixels(pipe, **change)
    assert changed.isfinite().all()
    assert not torch.allclose(changed, pixels(pipe), atol=1e-2)


def test_output_types_show_the_same_picture(pipe: UnClip) -> None:
    pil, array, tensor = (
        pipe.text_to_image(PROMPT, seed=7, output_type=kind).images[0] for kind in ("pil", "np", "pt")
    )
    assert array.dtype == np.float32
    assert array.shape == (32, 32, 3)
    assert 0.0 <= array.min() < array.max() <= 1.0
    np.testing.assert_allclose(array, (tensor.permute(1, 2, 0).numpy() + 1) / 2, atol=1e-6)
    assert to_pil(tensor[None])[0].tobytes() == pil.tobytes()
    with pytest.raises(InputError, match="output_type 'pill'; did you mean 'pil'"):
        check_options({"output_type": "pill"})


def test_a_long_prompt_is_drawn_and_the_part_cut_is_named(pipe: UnClip) -> None:
    result = pipe.text_to_image([LONG, PROMPT], seed=7)
    assert len(result.images) == 2
    assert result.cut[1] == ""
    assert result.cut[0]
    assert LONG.endswith(result.cut[0].strip())
    read = LONG.removesuffix(result.cut[0].strip()).strip()
    assert pipe.text_to_image(read, seed=7).cut == [""]


def test_progress_counts_the_steps_of_all_pictures(pipe: UnClip) -> None:
    seen: list[tuple[str, int, int]] = []
    pipe.text_to_image(PROMPT, 2, seed=7, progress=lambda *step: seen.append(step))
    expected = [("prior", done, 6) for done in range(1, 7)]
    expected += [("decoder", done, 6) for done in range(1, 7)]
    expected += [("upsampler_32", done, 4) for done in range(1, 5)]
    assert seen == expected


def test_progress_can_stop_the_drawing(pipe: UnClip) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage == "decoder":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe.text_to_image(PROMPT, seed=7, progress=stop)
    assert torch.equal(pixels(pipe), pixels(pipe))


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        ("", {}, "the prompt is empty"),
        ([], {}, "no prompt"),
        (PROMPT, {"num_images": 0}, "num_images=0"),
        (PROMPT, {"num_candidates": 0}, "num_candidates=0"),
        (PROMPT, {"batch_size": 0}, "batch_size=0"),
        (PROMPT, {"num_steps": 0}, "num_steps of prior=0"),
        (PROMPT, {"num_steps": {"decoder": 1001}}, "num_steps=1001 exceeds the 1000 steps"),
        (PROMPT, {"guidance_scale": float("nan")}, "guidance_scale of prior=nan"),
        (PROMPT, {"seed": -4}, "seed=-4"),
        (PROMPT, {"image_size": 16, "num_steps": {"upsampler_32": 3}}, "no stage 'upsampler_32'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_drawn(
    pipe: UnClip, prompts: Any, settings: dict[str, Any], message: str
) -> None:
    seen: list[str] = []
    with pytest.raises(InputError, match=message):
        pipe.text_to_image(prompts, progress=lambda stage, done, total: seen.append(stage), **settings)
    assert seen == []


def test_text_features_are_those_of_clip(model: Model) -> None:
    """The empty prompt has two real tokens, so guidance has something to read."""
    null: TextFeatures = model.need_clip.encode_text([""])
    assert int(null.mask.sum()) == 2
