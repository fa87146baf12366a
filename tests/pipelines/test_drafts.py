"""Stopping after a stage and going on is not stopping, to the bit; a file that is no draft is refused in one line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from unclip.errors import CheckpointError, InputError
from unclip.model import StageSettings
from unclip.pipelines import Draft, UnClip
from unclip.runtime import NoiseSource

PROMPTS = ["a red apple", "a cat"]
STAGES = ["prior", "decoder", "upsampler_32"]
ASKED: dict[str, Any] = {"num_steps": {"decoder": 4}, "guidance_scale": {"prior": 1.5}, "image_size": (48, 32)}


def drawn(pipe: UnClip, **options: Any) -> torch.Tensor:
    return torch.stack(pipe.text_to_image(PROMPTS, seed=7, output_type="pt", **options).images)


def finished(pipe: UnClip, draft: Draft, **options: Any) -> torch.Tensor:
    return torch.stack(pipe.finish(draft, output_type="pt", **options).images)


@pytest.fixture(scope="module")
def whole(pipe: UnClip) -> torch.Tensor:
    """Two pictures drawn without a stop."""
    return drawn(pipe)


@pytest.fixture(scope="module")
def begun(pipe: UnClip) -> Draft:
    """The same, stopped after the prior."""
    return pipe.draft(PROMPTS, stop_after="prior", seed=7)


@pytest.fixture(scope="module")
def draft(pipe: UnClip, begun: Draft) -> Draft:
    """The same, stopped after the decoder."""
    return pipe.advance(begun, stop_after="decoder")


@pytest.mark.parametrize("stage", ["prior", "decoder", "upsampler_32"])
def test_stopping_is_not_seen(pipe: UnClip, tmp_path: Path, stage: str) -> None:
    path = tmp_path / "d.safetensors"
    pipe.draft("a cat", 2, stop_after=stage, seed=7, negative_prompt="a tree", **ASKED).save(path)
    result = pipe.finish(Draft.load(path), output_type="pt")
    whole = pipe.text_to_image("a cat", 2, seed=7, negative_prompt="a tree", output_type="pt", **ASKED)
    assert torch.equal(torch.stack(result.images), torch.stack(whole.images))
    assert torch.equal(result.image_embeddings, whole.image_embeddings)
    assert (result.prompts, result.seeds, result.settings) == (whole.prompts, whole.seeds, whole.settings)
    assert list(tmp_path.iterdir()) == [path]


def test_every_stage_may_be_stopped_after(pipe: UnClip, begun: Draft, draft: Draft, whole: torch.Tensor) -> None:
    assert begun.images is None
    assert draft.images is not None
    assert draft.images.shape == (2, 3, 16, 16)
    large = pipe.advance(draft, stop_after="upsampler_32")
    assert [list(part.done) for part in (begun, draft, large)] == [STAGES[:1], STAGES[:2], STAGES]
    assert [list(part.to_come) for part in (begun, draft, large)] == [STAGES[1:], STAGES[2:], []]
    assert torch.equal(finished(pipe, large), whole)


def test_only_the_stages_to_come_run_and_cancelling_leaves_the_draft(
    pipe: UnClip, draft: Draft, whole: torch.Tensor
) -> None:
    seen: list[str] = []

    def stop(stage: str, done: int, total: int) -> None:
        seen.append(stage)
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe.finish(draft, progress=stop)
    assert seen == ["upsampler_32"] * 3
    assert torch.equal(finished(pipe, draft), whole)


def test_what_is_to_come_can_be_changed(pipe: UnClip, draft: Draft) -> None:
    changed = {"num_steps": {"upsampler_32": 3}}
    assert torch.equal(finished(pipe, draft, **changed), drawn(pipe, **changed))
    assert torch.equal(finished(pipe, draft, image_size=16), drawn(pipe, image_size=16))


def test_some_pictures_are_picked(pipe: UnClip, draft: Draft, whole: torch.Tensor) -> None:
    assert torch.equal(finished(pipe, draft.pick([1, 0])), whole[[1, 0]])
    assert draft.pick([1]).prompts == ["a cat"]
    with pytest.raises(InputError, match="there is no picture 2 among 2"):
        draft.pick([0, 2])


def test_own_embeddings_are_drawn(pipe: UnClip, begun: Draft, whole: torch.Tensor) -> None:
    """As the prior's from where its noise is; from a seed alone as the variation of a picture that CLIP sees so."""
    own = Draft.of_embeddings(begun.image_embeddings, seed=7)
    assert torch.equal(finished(pipe, replace(own, noise=begun.noise, prompts=begun.prompts)), whole)
    varied = pipe.image_variations(Image.new("RGB", (20, 30), "red"), 2, seed=3, output_type="pt")
    again = pipe.finish(Draft.of_embeddings(varied.image_embeddings, seed=3), output_type="pt")
    assert torch.equal(torch.stack(again.images), torch.stack(varied.images))
    assert again.seeds == [3, 4]


def test_another_model_goes_on_with_its_own_settings(pipe: UnClip) -> None:
    begun = pipe.draft("a cat", stop_after="prior", seed=7, num_steps=1)
    settings = [replace(pipe, name=name).finish(begun).settings for name in ("tiny", "other")]
    assert [[found[stage]["num_steps"] for stage in STAGES] for found in settings] == [[1, 1, 1], [1, 3, 2]]
    assert [found.get("begun_by") for found in settings] == [None, "tiny"]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"seed": 7}, "seed=7 cannot be set"),
        ({}, {"num_steps": {"decoder": 3}}, "there is no stage 'decoder' to set it for"),
        (
            {"images": torch.zeros(2, 3, 24, 24)},
            {},
            "the draft's pictures are 24x24, but 'tiny' makes 16x16, then 32x32",
        ),
        ({}, {"image_size": (48, 32)}, "the draft's pictures are 16x16, but 'tiny' makes 24x16, then 48x32"),
        (
            {"images": None, "image_embeddings": torch.zeros(2, 24)},
            {},
            "24 numbers, but the decoder of 'tiny' reads 16",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_both_numbers(
    pipe: UnClip, draft: Draft, change: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    seen: list[str] = []
    with pytest.raises(InputError, match=message):
        pipe.finish(replace(draft, **change), progress=lambda stage, done, total: seen.append(stage), **options)
    assert seen == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": [7]}, r"as many of everything, at least 1; found 1 and \[2, 2, 2, 2\]"),
        ({"images": torch.zeros(2, 1, 16, 16)}, r"images is float32 \(2, 1, 16, 16\)"),
        ({"images": torch.zeros(2, 3, 16, 16, dtype=torch.uint8)}, "images is uint8"),
        ({"image_embeddings": torch.full((2, 16), float("nan"))}, "finite"),
        ({"image_embeddings": torch.zeros(2)}, r"image_embeddings is float32 \(2,\)"),
        ({"noise": torch.zeros(2, 9)}, "noise is float32"),
        ({"noise": torch.zeros(2, 9, dtype=torch.uint8)}, "not the state of a random generator"),
    ],
)
def test_what_is_no_draft_is_refused(draft: Draft, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(draft, **change)


@pytest.mark.parametrize("stage", ["colour", "prior"])
def test_a_stage_that_is_not_to_come_is_named(pipe: UnClip, draft: Draft, stage: str) -> None:
    with pytest.raises(InputError, match=f"no stage '{stage}' is to come; .*allowed: upsampler_32"):
        pipe.advance(draft, stop_after=stage)
    with pytest.raises(InputError, match=r"no stage 'upsampler_32' is to come; .*allowed: decoder, prior"):
        pipe.draft("a cat", stop_after="upsampler_32", image_size=16)


Tensors = dict[str, torch.Tensor]
Metadata = dict[str, str]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t, m: m.update(kind="prior"), "holds 'prior', not 'draft'"),
        (lambda t, m: m.clear(), "holds 'no named stage', not 'draft'"),
        (lambda t, m: m.pop("draft"), "is a damaged draft"),
        (lambda t, m: m.update(draft="{"), "is a damaged draft"),
        (lambda t, m: m.update(draft=m["draft"].replace('"seeds":[7', '"seeds":[-7')), "seeds.0: .*greater than"),
        (lambda t, m: m.update(draft=m["draft"].replace("num_steps", "num_stepz")), "num_steps: Field required"),
        (lambda t, m: m.update(draft=m["draft"].replace('"prompts":[', '"prompts":["b",')), "as many"),
        (lambda t, m: t.pop("noise"), "noise"),
        (lambda t, m: t.update(more=torch.zeros(1)), "more"),
        (lambda t, m: t.update(noise=torch.zeros_like(t["noise"])), "not the state of a random generator"),
        (lambda t, m: t.update(image_embeddings=t["image_embeddings"] / 0), "finite"),
    ],
)
def test_a_file_that_is_no_draft_is_one_line(
    begun: Draft, tmp_path: Path, damage: Callable[[Tensors, Metadata], object], message: str
) -> None:
    path = tmp_path / "d.safetensors"
    begun.save(path)
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    tensors = load_file(path)
    damage(tensors, metadata)
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match=message) as refused:
        Draft.load(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_file_cut_short_or_missing_is_one_line(draft: Draft, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    with pytest.raises(CheckpointError, match="does not exist"):
        Draft.load(path)
    draft.save(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        Draft.load(path)


def test_settings_and_places_survive_a_file(draft: Draft, tmp_path: Path) -> None:
    changed = replace(draft, image_size=(48, 32), done={"prior": StageSettings(num_steps=2, sampler="ddpm")})
    changed.save(tmp_path / "d.safetensors")
    loaded = Draft.load(tmp_path / "d.safetensors")
    assert (loaded.image_size, loaded.done, loaded.to_come) == ((48, 32), changed.done, changed.to_come)
    expected = NoiseSource.from_states(draft.noise)((5,))
    assert torch.equal(loaded.generators()((5,)), expected)
    assert torch.equal(loaded.generators()((5,)), expected)
