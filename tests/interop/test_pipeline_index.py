"""`model_index.json` in every form that people have: custom pipelines, absent components, options, damage."""

import json
import shutil
from pathlib import Path

import pytest
from networks import read, same
from safetensors.torch import load_file, save_file

from unclip.errors import CheckpointError, ConfigError, UnclipError
from unclip.interop import import_foreign, needed_weights
from unclip.interop.sources import read_index
from unclip.interop.unclip import import_unclip

FOLDER = Path("folder")
KIND = {"_class_name": "UnCLIPPipeline"}


def test_a_custom_pipeline_names_its_module_first() -> None:
    index = read_index(FOLDER, {"_class_name": ["pipeline", "UnCLIPPipeline"], "prior": ["module", "PriorTransformer"]})
    assert (index.kind, index.components) == ("UnCLIPPipeline", {"prior": "PriorTransformer"})
    assert index.dropped == {"model_index.json: _class_name": "pipeline is code of the model's own, which is never run"}


def test_components_may_be_absent_in_every_form() -> None:
    entries = {"a": None, "b": [None], "c": [None, None], "d": ["diffusers", None], "e": [None, "Class"]}
    assert read_index(FOLDER, KIND | entries).components == {"e": "Class"}


def test_options_of_a_pipeline_are_named() -> None:
    index = read_index(FOLDER, KIND | {"_diffusers_version": "0.15.0", "requires_safety_checker": True})
    assert index.dropped.keys() == {"model_index.json: requires_safety_checker"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"prior": ["PriorTransformer"]}, r"prior is \['PriorTransformer'\], no pair of library and class"),
        ({"prior": []}, r"prior is \[\], no pair"),
        ({"prior": ["a", "b", "c"]}, "no pair"),
        ({"prior": ["a", ["b"]]}, "no pair"),
        ({"_class_name": None}, r"names no class of a pipeline \(_class_name is None\)"),
        ({"_class_name": []}, "names no class of a pipeline"),
        ({"_class_name": {"a": 1}}, "names no class of a pipeline"),
    ],
)
def test_other_forms_are_one_line(change: dict[str, object], line: str) -> None:
    with pytest.raises(CheckpointError, match=line) as caught:
        read_index(FOLDER, KIND | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [["module", "MyPipeline"], "MyPipeline"])
def test_a_pipeline_that_is_not_known_is_one_line(tmp_path: Path, kind: object) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    for look in (lambda: import_foreign([tmp_path]), lambda: needed_weights(tmp_path, [])):
        with pytest.raises(UnclipError, match="looks like a MyPipeline of diffusers, which is not read"):
            look()


def test_a_folder_of_a_custom_pipeline_is_read(folder: Path) -> None:
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    (expected,) = import_foreign([folder])
    path.write_text(json.dumps(index | {"_class_name": ["my_pipeline", "UnCLIPPipeline"], "safety_checker": [None]}))
    (model,) = import_foreign([folder])
    same(read(model.stages["prior"].tensors), read(expected.stages["prior"].tensors))
    with pytest.raises(ConfigError, match="prior is a MyPrior; only PriorTransformer is read there"):
        import_unclip(folder, index | {"prior": ["my_module", "MyPrior"]})


def test_needed_weights_are_those_that_are_opened(folder: Path, tmp_path: Path) -> None:
    """With all other files taken away the folder gives the same model."""
    part = folder / "prior"
    weights = load_file(part / "diffusion_pytorch_model.safetensors")
    save_file(
        {name: value.half() for name, value in weights.items()}, part / "diffusion_pytorch_model.fp16.safetensors"
    )
    save_file(weights, part / "pytorch_lora_weights.safetensors")
    save_file(weights, folder / "whole.safetensors")
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    needed = needed_weights(folder, names)
    assert len(needed) == 6
    less = Path(shutil.copytree(folder, tmp_path / "less"))
    for name in names:
        if name.endswith(".safetensors") and name not in needed:
            (less / name).unlink()
    (expected,), (model,) = import_foreign([folder]), import_foreign([less])
    for stage, network in expected.stages.items():
        same(read(model.stages[stage].tensors), read(network.tensors))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.ckpt", "a.safetensors", "b.th", "c.md"], {"a.safetensors", "b.th"}),
        (
            ["decoder_fp16.ckpt", "inpainting_fp16.ckpt", "movq_final.ckpt", "text_encoder/pytorch_model.bin"],
            {"decoder_fp16.ckpt", "movq_final.ckpt", "text_encoder/pytorch_model.bin"},
        ),
    ],
)
def test_original_files_are_needed_once(tmp_path: Path, names: list[str], expected: set[str]) -> None:
    assert set(needed_weights(tmp_path, names)) == expected


def test_of_a_clip_one_layout_is_needed(tmp_path: Path) -> None:
    files = ["model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    (tmp_path / "open_clip_config.json").write_text("{}")
    assert needed_weights(tmp_path, files) == ["open_clip_model.safetensors"]
    (tmp_path / "config.json").write_text('{"architecture": "vit_base"}')
    assert needed_weights(tmp_path, files) == ["open_clip_model.safetensors"]
    (tmp_path / "config.json").write_text('{"architectures": ["CLIPModel"]}')
    assert needed_weights(tmp_path, files) == ["model.safetensors"]
    assert needed_weights(tmp_path, files[1:]) == ["pytorch_model.bin"]
