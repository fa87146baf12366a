"""diffusers' unCLIP folders in and out: bit for bit, and in every form that they come in."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from diffusers import DiffusionPipeline, UnCLIPScheduler
from diffusers.pipelines.deprecated import unclip as deprecated
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from networks import read, same
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from unclip_pipelines import change_tensors, imported

from unclip.interop import ForeignModel, export_unclip
from unclip.interop.sources import read_json
from unclip.interop.unclip import import_unclip

INDEX = "model_index.json"
PIPELINES = {"text": deprecated.UnCLIPPipeline, "variation": deprecated.UnCLIPImageVariationPipeline}
every_kind = pytest.mark.parametrize("kind", PIPELINES)
CLASSES = {
    "prior": diffusers.PriorTransformer,
    "decoder": diffusers.UNet2DConditionModel,
    "text_proj": UnCLIPTextProjModel,
    "super_res_first": diffusers.UNet2DModel,
    "super_res_last": diffusers.UNet2DModel,
    "text_encoder": transformers.CLIPTextModelWithProjection,
    "image_encoder": transformers.CLIPVisionModelWithProjection,
    "tokenizer": transformers.CLIPTokenizer,
    "feature_extractor": transformers.CLIPImageProcessor,
    **{f"{stage}_scheduler": UnCLIPScheduler for stage in ("prior", "decoder", "super_res")},
}


@pytest.fixture(scope="module")
def models(sources: dict[str, Path]) -> dict[str, ForeignModel]:
    """What is imported of them."""
    return {kind: imported(folder) for kind, folder in sources.items()}


def exported(model: ForeignModel, folder: Path) -> dict[str, str]:
    bounds = {stage: settings["x0_bound"] for stage, settings in model.sampling.items()}
    return export_unclip(model.stages, model.tokenizers["clip"], bounds, folder)


def stored(folder: Path) -> dict[str, dict[str, Tensor]]:
    """The content of every weights file."""
    return {str(path.relative_to(folder)): load_file(path) for path in folder.rglob("*.safetensors")}


def check_equal(found: ForeignModel, expected: ForeignModel) -> None:
    assert found.stages.keys() == expected.stages.keys()
    assert found.sampling == expected.sampling
    for stage, weights in expected.stages.items():
        assert found.stages[stage].config == weights.config
        same(read(found.stages[stage].tensors), read(weights.tensors))


def options_of(part: object) -> dict[str, Any]:
    """All options of a part that was loaded, those too that its file leaves to the defaults."""
    config = getattr(part, "config", part)
    options = config if isinstance(config, Mapping) else config.to_dict()
    return json.loads(json.dumps({name: value for name, value in options.items() if not name.startswith("_")}))


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_round_trips_keep_every_bit(sources: dict[str, Path], tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    folder = Path(shutil.copytree(sources[kind], tmp_path / "source"))
    for path in folder.rglob("*.safetensors"):
        save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path)
    model = imported(folder)
    assert model.dropped == {}
    assert exported(model, tmp_path / "back").keys() == {"logit_scale"}
    before, after = stored(folder), stored(tmp_path / "back")
    assert before.keys() == after.keys()
    for path, tensors in before.items():
        same(after[path], tensors)
        assert {tensor.dtype for tensor in after[path].values()} == {dtype}


@every_kind
def test_their_classes_load_what_was_exported(
    sources: dict[str, Path], models: dict[str, ForeignModel], tmp_path: Path, kind: str
) -> None:
    exported(models[kind], tmp_path)
    parts = [path.name for path in sources[kind].iterdir() if path.is_dir()]
    assert sorted(parts) == sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    for part in parts:
        found, expected = (CLASSES[part].from_pretrained(folder / part) for folder in (tmp_path, sources[kind]))
        if part == "tokenizer":
            odd = ["", "🍎 日本の猫", "WOW!!! &amp; naïve\n\t fox", "a red apple " * 9]
            asked = {"padding": "max_length", "truncation": True, "max_length": expected.model_max_length}
            assert found(odd, **asked).data == expected(odd, **asked).data
            assert found.model_max_length == expected.model_max_length
        else:
            assert options_of(found) == options_of(expected), part
        if isinstance(found, torch.nn.Module):
            same(found.state_dict(), expected.state_dict())


@every_kind
def test_their_pipelines_draw_the_same(
    sources: dict[str, Path],
    models: dict[str, ForeignModel],
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exported(models[kind], tmp_path)
    before = PIPELINES[kind].from_pretrained(sources[kind])
    # What diffusers writes it reads by the patch of the tests alone; what we write must do without.
    monkeypatch.delattr(diffusers.pipelines, "unclip")
    after = DiffusionPipeline.from_pretrained(tmp_path)
    assert type(after) is PIPELINES[kind]
    asked = "a red apple" if kind == "text" else Image.linear_gradient("L").convert("RGB")
    steps = {f"{stage}_num_inference_steps": 2 for stage in ("prior", "decoder", "super_res")}
    if kind == "variation":
        del steps["prior_num_inference_steps"]
    for part in (*before.components.values(), *after.components.values()):
        if isinstance(part, torch.nn.Module):
            copy_weights(part)
    drawn = [
        pipeline(asked, generator=torch.Generator().manual_seed(7), output_type="np", **steps).images
        for pipeline in (before, after)
    ]
    assert np.array_equal(*drawn)


def copy_weights(module: torch.nn.Module) -> None:
    """Move mapped weights to where torch puts tensors: the last bit of a product depends on the address."""
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()


LIBRARIES = ["unclip", "diffusers", "diffusers.pipelines.deprecated.unclip.text_proj", "nonsense"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_do_not_matter(sources: dict[str, Path], models: dict[str, ForeignModel], library: str) -> None:
    index = read_json(sources["text"] / INDEX)
    changed = {name: [library, entry[1]] if isinstance(entry, list) else entry for name, entry in index.items()}
    check_equal(import_unclip(sources["text"], changed), models["text"])


@every_kind
@pytest.mark.parametrize("form", ["bin", "sharded", "variant", "sharded variant"])
def test_files_in_every_form(
    sources: dict[str, Path], models: dict[str, ForeignModel], tmp_path: Path, kind: str, form: str
) -> None:
    folder = Path(shutil.copytree(sources[kind], tmp_path / "source"))
    for path in folder.rglob("*.safetensors"):
        if form == "bin":
            name = "pytorch_model.bin" if path.stem == "model" else f"{path.stem}.bin"
            torch.save(load_file(path), path.with_name(name))
        path.unlink()
    if form != "bin":
        saved = {"max_shard_size": "20KB"} if "sharded" in form else {}
        saved |= {"variant": "fp16"} if "variant" in form else {}
        PIPELINES[kind].from_pretrained(sources[kind]).save_pretrained(folder, **saved)
    assert bool(list(folder.rglob("*.index*.json"))) == ("sharded" in form)
    check_equal(imported(folder), models[kind])


def test_components_may_be_null(sources: dict[str, Path], models: dict[str, ForeignModel]) -> None:
    index = read_json(sources["text"] / INDEX) | {"image_encoder": [None, None], "feature_extractor": [None, None]}
    check_equal(import_unclip(sources["text"], index), models["text"])


def test_what_is_dropped_is_named(folder: Path, models: dict[str, ForeignModel]) -> None:
    name = "text_model.embeddings.position_ids"
    change_tensors(folder / "text_encoder" / "model.safetensors", lambda found: found.update({name: torch.arange(11)}))
    model = imported(folder)
    assert model.dropped == {f"clip: {name}": "positions are counted without it"}
    check_equal(model, models["text"])
