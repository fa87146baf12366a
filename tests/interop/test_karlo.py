"""Karlo's original files hold what diffusers' folder of the same weights holds, and draw the same picture."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from foreign_files import karlo_files, openai_clip
from networks import read, same
from unclip_pipelines import unclip_pipeline

from unclip.clip import clip_preset
from unclip.errors import CheckpointError
from unclip.interop import ForeignModel
from unclip.interop.karlo import import_karlo
from unclip.interop.unclip import import_unclip
from unclip.model.opening import join_foreign
from unclip.pipelines import Model
from unclip.pipelines.tasks.text_to_image import text_to_image
from unclip.runtime import forked_random_state

CLIP = clip_preset("tiny").replace(
    vision_width=64, vision_heads=1, text_heads=1, embedding_dim=24, vocab_size=49408, context_length=11
)


class Both(NamedTuple):
    """One model, as diffusers keeps it and in the original files."""

    theirs: ForeignModel
    files: list[Path]
    shapes: dict[str, Any]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp("karlo")
    with forked_random_state(0):
        pipeline = unclip_pipeline(folder)
    pipeline.save_pretrained(folder / "diffusers")
    theirs = import_unclip(folder / "diffusers", json.loads((folder / "diffusers/model_index.json").read_text()))
    stages = {"prior": "prior", "decoder": "decoder", "upsampler": "upsampler_32"}
    shapes = {option: theirs.stages[stage].config for option, stage in stages.items()}
    return Both(theirs, karlo_files(pipeline, folder), shapes)


def test_every_tensor_is_that_of_diffusers(both: Both) -> None:
    ours = import_karlo(both.files[::-1], **both.shapes)
    assert ours.description == "Karlo's original files (statistics, upsampler, decoder, prior)"
    assert ours.stages.keys() == both.theirs.stages.keys() - {"clip"}
    for stage, weights in ours.stages.items():
        theirs = both.theirs.stages[stage]
        assert (weights.network, weights.config) == (theirs.network, theirs.config)
        same(read(weights.tensors), read(theirs.tensors))
    assert ours.dropped == {}


def test_sampling_is_that_of_the_original_code(both: Both) -> None:
    ours = import_karlo(both.files, **both.shapes)
    assert ours.sampling["prior"] == both.theirs.sampling["prior"] | {"x0_bound": 10.0, "schedule_dtype": "float64"}
    for stage in ("decoder", "upsampler_32"):
        assert ours.sampling[stage] == both.theirs.sampling[stage] | {"schedule_dtype": "float64"}


def test_both_draw_the_same_picture(both: Both) -> None:
    theirs = replace(both.theirs, sampling={})
    clip = replace(theirs, stages={"clip": theirs.stages["clip"]})
    ours = import_karlo(both.files, **both.shapes)
    models = [join_foreign("karlo", [clip, ours]), join_foreign("karlo", [replace(theirs, sampling=ours.sampling)])]
    pictures = [draw(Model.from_source(source, "cpu", torch.float32)) for source in models]
    assert pictures[0].std() > 0.1
    # Not the same bits: where a file puts a tensor decides how a convolution adds up.
    torch.testing.assert_close(*pictures, rtol=0, atol=1e-4)


def draw(model: Model) -> torch.Tensor:
    result = text_to_image(model, ["a red apple"], seed=3, num_steps=3, output_type="pt")
    return torch.stack(result.images)


def test_stages_come_one_by_one_and_clip_with_its_tokenizer(both: Both, tmp_path: Path) -> None:
    (decoder,) = import_karlo(both.files[1:2], **both.shapes).stages.values()
    assert decoder.network == "Decoder"
    clip = openai_clip(CLIP, tmp_path / "any name")
    found = import_karlo([tmp_path / "any name"])
    assert found.stages["clip"].config == CLIP
    same(read(found.stages["clip"].tensors), clip.state_dict())
    assert found.tokenizers["clip"].vocab_size == 49408


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([0, 3], r"stats\.th should hold a mean and a deviation of 768 numbers each"),
        ([1], r"decoder-ckpt.*: tensor 'model\.cf_param' has shape \(24,\), which does not make the \(768,\)"),
        ([2], r"model_first_steps: tensor 'time_embed\.0\.weight' has shape \(128, 32\), .* the \(1280, 320\)"),
    ],
)
def test_published_shapes_are_assumed(both: Both, files: list[int], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        import_karlo([both.files[index] for index in files])


def refusal(files: list[Path], shapes: dict[str, Any]) -> str:
    with pytest.raises(CheckpointError) as refused:
        import_karlo(files, **shapes)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_does_not_fit_is_refused(both: Both, tmp_path: Path) -> None:
    prior, decoder, upsampler, statistics = both.files
    assert refusal([prior], both.shapes) == (
        f"{prior} needs the statistics of CLIP's embeddings; give ViT-L-14_stats.th with it."
    )
    other = tmp_path / "other.ckpt"
    torch.save({"state_dict": {"weight": torch.ones(2)}}, other)
    assert "other.ckpt is none of Karlo's files: it holds 'state_dict.weight'" in refusal([other], {})
    assert refusal([decoder, decoder], both.shapes).endswith("are both Karlo's decoder; give one of them.")
    state = torch.load(upsampler, weights_only=True)
    torch.save({"state_dict": state["state_dict"] | {"ema": torch.ones(2)}}, other)
    assert "tensor 'state_dict.ema' is left over; Karlo's upsampler has no" in refusal([other], both.shapes)
    torch.save((torch.ones(23), torch.ones(24)), other)
    message = "should hold a mean and a deviation of 24 numbers each; it holds 0 (23,), 1 (24,)."
    assert refusal([prior, other], both.shapes).endswith(message)
    other.write_bytes(statistics.read_bytes()[:200])
    assert "other.ckpt is not a whole file of torch.save" in refusal([other], {})
