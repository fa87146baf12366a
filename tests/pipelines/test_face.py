"""What a person calls: the model itself, `embed`, `decode`, and each stage without anything but inputs and a seed."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from unclip.clip import TextImageEncoder
from unclip.errors import InputError
from unclip.images import from_pil, to_pil
from unclip.pipelines import Condition, Model, UnClip
from unclip.runtime import NoiseSource
from unclip.testing import tiny_pipeline

PROMPT = "a red apple"


def picture(side: int = 16) -> Image.Image:
    ramp = np.add.outer(np.arange(side), 2 * np.arange(side)) * 255 // (3 * side)
    return Image.fromarray(np.stack([ramp, 255 - ramp, np.full_like(ramp, 90)], axis=-1).astype(np.uint8))


def clip_of(pipe: UnClip) -> TextImageEncoder:
    return pipe.need_clip


def test_calling_the_model_is_text_to_image(pipe: UnClip) -> None:
    called, named = pipe([PROMPT, "a cat"], 2, seed=7), pipe.text_to_image([PROMPT, "a cat"], 2, seed=7)
    assert [image.tobytes() for image in called] == [image.tobytes() for image in named]
    assert list(inspect.signature(pipe.__call__).parameters) == list(inspect.signature(pipe.text_to_image).parameters)
    assert next(iter(inspect.signature(pipe.text_to_image).parameters)) == "prompts"


def test_texts_and_pictures_are_embedded_by_clip_in_their_order(pipe: UnClip, tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    array = np.asarray(picture())
    given = [PROMPT, picture(), tmp_path / "a.png", str(tmp_path / "a.png"), array, array / 255, "a cat"]
    embeddings = pipe.embed([*given, from_pil([picture()])[0]])
    text = clip_of(pipe).encode_text([PROMPT]).embedding[0]
    seen = clip_of(pipe).encode_pictures([picture()])[0]
    assert embeddings.shape == (8, clip_of(pipe).embedding_dim)
    torch.testing.assert_close(embeddings[0], text)
    for place in (1, 2, 3, 4, 5, 7):
        torch.testing.assert_close(embeddings[place], seen)
    torch.testing.assert_close(embeddings[6], clip_of(pipe).encode_text(["a cat"]).embedding[0])
    assert not torch.allclose(embeddings[0], embeddings[1], atol=1e-2)


def test_one_is_a_vector_and_a_sequence_are_rows(pipe: UnClip) -> None:
    dim = pipe.clip.embedding_dim
    assert pipe.embed(PROMPT).shape == pipe.embed(picture()).shape == pipe.embed(np.asarray(picture())).shape == (dim,)
    assert pipe.embed([PROMPT]).shape == pipe.embed((picture(),)).shape == (1, dim)
    assert pipe.embed(np.stack([np.asarray(picture())] * 3)).shape == (3, dim)
    assert pipe.embed(from_pil([picture(), picture()])).shape == (2, dim)


def test_normalised_embeddings_have_length_one_and_the_same_direction(pipe: UnClip) -> None:
    plain, unit = pipe.embed([PROMPT, picture()]), pipe.embed([PROMPT, picture()], normalize=True)
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(unit * plain.norm(dim=-1, keepdim=True), plain)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "nothing to embed"),
        ("  ", "is empty"),
        (Path("nowhere.png"), "nowhere.png"),
        ("nowhere.png", "no such file"),
        (np.zeros((4, 4, 2)), r"shape \(4, 4, 2\) is no picture"),
        (np.full((4, 4, 3), 200), "8-bit whole numbers, or floats"),
        (np.full((4, 4, 3), 2.0), r"floats in \[0, 1\]; found float64 from 2 to 2"),
        (torch.full((3, 4, 4), 200.0), r"float numbers in \[-1, 1\]; found torch.float32 from 200 to 200"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "found torch.uint8"),
        (torch.full((3, 4, 4), torch.nan), "found torch.float32 from nan"),
        (torch.zeros(4, 4, 3), r"found \(4, 4, 3\)"),
    ],
)
def test_what_is_neither_text_nor_picture_is_refused(pipe: UnClip, inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe.embed(inputs)


def test_the_prior_draws_what_text_to_image_draws_pictures_of(pipe: UnClip) -> None:
    result = pipe([PROMPT, "a cat"], 2, seed=7)
    assert torch.equal(pipe.prior.sample([PROMPT, "a cat"], 2, seed=7), result.image_embeddings)
    (one,) = pipe.prior.sample(PROMPT, seed=8)
    assert torch.equal(one, result.image_embeddings[1])
    assert not torch.equal(pipe.prior.sample(PROMPT, seed=8, num_candidates=5)[0], one)
    changed = pipe.prior.sample(PROMPT, seed=8, num_steps=5, guidance_scale=3.0, sampler="ddim")[0]
    settings = {"num_steps": {"prior": 5}, "guidance_scale": {"prior": 3.0}, "sampler": {"prior": "ddim"}}
    assert torch.equal(changed, pipe(PROMPT, seed=8, **settings).image_embeddings[0])


def test_stages_by_seed_are_the_stages_by_noise(pipe: UnClip, model: Model) -> None:
    """What a person gets is the sampler on tensors: the same numbers, from the same generators."""
    embeddings = pipe.embed([picture(), PROMPT])
    null = clip_of(pipe).encode_text([""])
    texts = clip_of(pipe).encode_text(["", ""])
    noise = NoiseSource.from_seeds([3, 3])
    small = pipe.decoder.sample(embeddings, seed=3)
    torch.testing.assert_close(
        small, model.need_decoder.sample(embeddings, Condition(texts, null), noise), atol=1e-4, rtol=1e-3
    )
    assert pipe.decoder.sample(embeddings[0], 3, seed=3).shape == (3, 3, 16, 16)
    large = pipe.upsamplers[32].sample(small, seed=3)
    noise = NoiseSource.from_seeds([3, 3])
    torch.testing.assert_close(large, model.need_upsampler.sample(small, noise).clamp(-1.0, 1.0), atol=1e-4, rtol=1e-3)


def test_decode_is_decoder_and_upsampler_from_one_generator(pipe: UnClip, model: Model) -> None:
    embedding, noise = pipe.embed(picture()), NoiseSource.from_seeds([7])
    empty = clip_of(pipe).encode_text([""])
    small = model.need_decoder.sample(embedding[None], Condition(empty, empty), noise)
    large = model.need_upsampler.sample(small, noise).clamp(-1.0, 1.0)
    result = pipe.decode(embedding, seed=7, output_type="pt")
    torch.testing.assert_close(result[0], large[0])
    torch.testing.assert_close(pipe.decode(embedding, seed=7, image_size=16, output_type="pt")[0], small[0])
    assert torch.equal(
        pipe.decoder.sample(embedding, seed=7)[0], pipe.decode(embedding, seed=7, image_size=16, output_type="pt")[0]
    )
    assert torch.equal(result.image_embeddings[0], embedding)
    assert result.prompts == [""]


def test_decode_takes_vectors_rows_and_arrays(pipe: UnClip) -> None:
    rows = pipe.prior.sample([PROMPT, "a cat"], seed=7)
    both = pipe.decode(rows, 2, seed=3, output_type="pt")
    assert (len(both), both.seeds) == (4, [3, 4, 3, 4])
    for values in (rows[1], rows[1].numpy(), rows[1:].double(), rows[1:].numpy().astype(np.float64)):
        assert torch.equal(pipe.decode(values, seed=3, output_type="pt")[0], both[2])
    trained = rows.clone().requires_grad_()
    assert torch.equal(pipe.decode(trained, 2, seed=3, output_type="pt")[3], both[3])


def test_a_decoder_that_reads_text_is_told_the_prompt(pipe: UnClip) -> None:
    z = pipe.embed([picture(), picture(8)])
    told = pipe.decode(z, seed=3, prompt=[PROMPT, "a cat"], output_type="pt")
    assert told.prompts == [PROMPT, "a cat"]
    assert torch.equal(told[0], pipe.decode(z[0], seed=3, prompt=PROMPT, output_type="pt")[0])
    assert not torch.allclose(told[0], pipe.decode(z[0], seed=3, output_type="pt")[0], atol=1e-3)


def test_a_prior_alone_and_a_decoder_alone_can_be_sampled(pipe: UnClip, model: Model) -> None:
    prior = replace(pipe, stages={"prior": model.need_prior})
    assert torch.equal(prior.prior.sample(PROMPT, seed=1), pipe.prior.sample(PROMPT, seed=1))
    upsampler = replace(pipe, encoders={}, stages={"upsampler_32": model.need_upsampler})
    small = from_pil([picture()])
    assert torch.equal(upsampler.upsamplers[32].sample(small, seed=1), pipe.upsamplers[32].sample(small, seed=1))
    for missing, call in (("decoder", lambda: prior.decoder), ("prior", lambda: upsampler.prior)):
        with pytest.raises(InputError, match=f"the model 'tiny' has no {missing}"):
            call()


def test_an_upsampler_takes_pictures_in_every_form(pipe: UnClip, tmp_path: Path) -> None:
    stage, small = pipe.upsamplers[32], picture()
    small.save(tmp_path / "small.png")
    expected = stage.sample(from_pil([small]), seed=4)
    for form in (small, tmp_path / "small.png", np.asarray(small), from_pil([small])[0], [small]):
        assert torch.equal(stage.sample(form, seed=4), expected)
    assert stage.sample(picture().resize((24, 16)), seed=4).shape == (1, 3, 32, 48)
    assert stage.sample(picture(8), seed=4, image_size=(40, 32)).shape == (1, 3, 32, 40)


def test_a_size_that_a_stage_does_not_divide_is_refused(pipe: UnClip) -> None:
    z = torch.ones(16)
    assert pipe.decoder.sample(z, seed=1, image_size=(24, 16)).shape == (1, 3, 16, 24)
    with pytest.raises(InputError, match=r"image_size=17x16 has a side that is not divisible by 2, .*; use 16x16"):
        pipe.decoder.sample(z, image_size=(17, 16))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(3), r"have the shape \(3,\), but the decoder of 'tiny' reads \(16,\) or \(embeddings, 16\)"),
        (torch.zeros(2, 2, 16), r"have the shape \(2, 2, 16\)"),
        (torch.zeros(0, 16), r"have the shape \(0, 16\)"),
        (torch.full((16,), torch.nan), "not finite"),
    ],
)
def test_what_is_no_embedding_is_refused_before_anything_is_drawn(pipe: UnClip, values: Any, message: str) -> None:
    for call in (pipe.decode, pipe.decoder.sample):
        with pytest.raises(InputError, match=message):
            call(values)


def test_prompts_of_another_number_are_refused(pipe: UnClip) -> None:
    with pytest.raises(InputError, match="prompt has 2 texts for 1 embeddings"):
        pipe.decode(torch.zeros(16), prompt=[PROMPT, PROMPT])


STAGES: dict[str, Callable[..., torch.Tensor]] = {
    "prior": lambda pipe, **o: pipe.prior.sample([PROMPT, "a cat"], **o),
    "decoder": lambda pipe, **o: pipe.decoder.sample(torch.ones(2, 16), **o),
    "upsampler_32": lambda pipe, **o: pipe.upsamplers[32].sample(torch.zeros(2, 3, 16, 16), **o),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_s_output_trains_a_layer_and_its_progress_is_counted(pipe: UnClip, name: str) -> None:
    seen: list[tuple[str, int, int]] = []
    output = STAGES[name](pipe, seed=1, batch_size=2, progress=lambda *step: seen.append(step))
    layer = nn.Linear(output.shape[-1], 1)
    layer(output).square().mean().backward()
    assert layer.weight.grad.abs().sum() > 0
    assert not output.requires_grad
    assert [done for _, done, _ in seen] == list(range(1, seen[0][2] + 1))
    assert {stage for stage, _, _ in seen} == {name}


@pytest.mark.parametrize("name", STAGES)
def test_stages_with_low_memory_are_the_same(tiny_folder: Path, name: str) -> None:
    held, light = (UnClip.load(tiny_folder, "cpu", torch.float32, low_memory=low) for low in (False, True))
    assert torch.equal(STAGES[name](held, seed=1), STAGES[name](light, seed=1))
    assert torch.equal(held.embed([PROMPT, picture()]), light.embed([PROMPT, picture()]))


def test_a_stage_of_another_model_is_swapped_in(pipe: UnClip) -> None:
    other = replace(tiny_pipeline(seed=1), name="other")
    by_model = pipe.replace(prior=other, decoder=other, upsamplers=other)
    by_stage = pipe.replace(prior=other.prior, decoder=other.decoder, upsamplers=other.upsamplers)
    assert by_stage.name == by_model.name == "tiny (prior of other, decoder of other, upsamplers of other)"
    assert by_stage(PROMPT, seed=7)[0].tobytes() == by_model(PROMPT, seed=7)[0].tobytes()
    with pytest.raises(InputError, match=r"decoder=<prior of 'other': .*> gives no decoder; write decoder=other or"):
        UnClip.replace.__wrapped__(pipe, decoder=other.prior)  # type: ignore[attr-defined]  # annotations say so, too
    with pytest.raises(InputError, match=r"upsamplers=\{\} gives no upsamplers"):
        pipe.replace(upsamplers={})


def test_what_is_printed_is_short(pipe: UnClip, tiny_folder: Path) -> None:
    light = UnClip.load(tiny_folder, "cpu", low_memory=True)
    lines = repr(pipe).splitlines()
    assert lines[0] == "<UnClip 'tiny' on cpu: 16, 32 px"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["clip", "prior", "decoder", "upsamplers[32]"]
    stages = [pipe.prior, pipe.decoder, pipe.upsamplers[32], *pipe.stages.values(), *lines[1:]]
    assert all(len(repr(stage)) < 120 for stage in stages)
    assert "parameters in float32, 3 steps of" in repr(pipe.prior)
    assert "parameters read when needed" in repr(light.decoder)


def test_a_picture_that_was_drawn_can_be_given_again(pipe: UnClip) -> None:
    result = pipe(PROMPT, seed=7, output_type="np")
    by_array = pipe.image_variations(result[0], seed=1)
    by_picture = pipe.image_variations(result.pictures()[0], seed=1)
    assert by_array[0].tobytes() == by_picture[0].tobytes()
    tensor = pipe(PROMPT, seed=7, output_type="pt")[0]
    torch.testing.assert_close(pipe.embed(tensor), pipe.embed(to_pil(tensor[None])[0]))
