"""CLIP in single files: checkpoints of open_clip's training, transformers' layout, OpenAI's without its archive."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from foreign_files import clip_folder, openai_clip
from networks import fill, lazy, read, same
from unclip.checkpoint import LazyTensor
from unclip.clip import Clip, ClipConfig, clip_preset
from unclip.errors import CheckpointError, ConfigError
from unclip.interop import import_foreign
from unclip.interop.clip import openai_names
from unclip.interop.clip_files import import_clip, picture_resize
from unclip.interop.rules import to_theirs

TINY = clip_preset("tiny").replace(
    vision_width=64, vision_heads=1, text_heads=1, vocab_size=49408, context_length=9, activation="gelu", resize="crop"
)
CONFIG = {"model_cfg": {"vision_cfg": {"head_width": 64}, "text_cfg": {"heads": 1}}}


def state(config: ClipConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random weights of ours, and the same by open_clip's names."""
    clip = Clip(config)
    fill(clip)
    theirs = read(to_theirs(lazy(clip.state_dict()), openai_names(config), ""))
    return clip.state_dict(), {name: tensor.contiguous() for name, tensor in theirs.items()}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "module.text."])
def test_a_checkpoint_of_open_clips_training(tmp_path: Path, prefix: str) -> None:
    ours, theirs = state(TINY)
    towers = {name for name in theirs if name.startswith("visual.") or name == "logit_scale"}
    start = prefix.removesuffix("text.")
    weights = {(start if name in towers else prefix) + name: tensor for name, tensor in theirs.items()}
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
    optimizer.step()
    checkpoint = {"epoch": 3, "name": "a run", "state_dict": weights, "optimizer": optimizer.state_dict()}
    torch.save(checkpoint, tmp_path / "epoch_3.pt")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(CONFIG))
    (model,) = import_foreign([tmp_path / "epoch_3.pt"])
    assert (model.description, model.stages["clip"].config) == ("a CLIP of open_clip's", TINY)
    same(read(model.stages["clip"].tensors), ours)
    place = ".".join(["state_dict", *start.split(".")]).strip(".")
    assert model.dropped == {"clip: optimizer": f"the weights are taken from {place!r}"}


@pytest.mark.parametrize(
    ("params", "activation", "resize"),
    [
        ("model: ViT-B-32", "gelu", "crop"),
        ("model: ViT-B-32-quickgelu\nimage_interpolation: None\nimage_mean: None", "quick_gelu", "crop"),
        ("force_quick_gelu: True\nimage_resize_mode: squash\nmodel: ViT-B-32", "quick_gelu", "squash"),
    ],
)
def test_a_run_of_open_clip_says_what_its_checkpoints_are(
    tmp_path: Path, params: str, activation: str, resize: str
) -> None:
    config = clip_preset("vit-b-32").replace(vision_layers=1, text_layers=1, activation="gelu", resize="crop")
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in Clip(config).state_dict().items()}
    tensors = {name: LazyTensor.of(torch.zeros(()).expand(shape)) for name, shape in shapes.items()}
    theirs = read(to_theirs(tensors, openai_names(config), ""))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "params.txt").write_text(params)
    file = tmp_path / "checkpoints" / "epoch_1.pt"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in theirs.items()}}, file)
    found = import_clip(file).stages["clip"].config
    assert found == config.replace(activation=activation, resize=resize)


def test_another_filter_of_a_run_is_refused(tmp_path: Path) -> None:
    torch.save(state(TINY)[1], tmp_path / "epoch_1.pt")
    (tmp_path / "params.txt").write_text("model: ViT-B-32\nimage_interpolation: bilinear\n")
    with pytest.raises(ConfigError, match=r"preprocess_cfg\.interpolation='bilinear' is not supported"):
        import_clip(tmp_path / "epoch_1.pt")


@pytest.mark.parametrize("save", [save_file, torch.save])
def test_the_hint_for_a_bare_state_dict_is_right(
    tmp_path: Path, save: Callable[[dict[str, Tensor], Path], None]
) -> None:
    ours, theirs = state(TINY)
    file = tmp_path / "ViT.bin"
    save(theirs, file)
    with pytest.raises(CheckpointError, match=r"put its open_clip_config\.json beside it, or .*name with \{") as caught:
        import_clip(file)
    assert "\n" not in str(caught.value)
    example = str(caught.value).partition("of that name with ")[2].partition(", where quick_gelu")[0]
    (tmp_path / "open_clip_config.json").write_text(example)
    found = import_clip(file).stages["clip"]
    assert found.config == TINY.replace(activation="quick_gelu")
    same(read(found.tensors), ours)


@pytest.mark.parametrize("form", ["model.fp16.safetensors", "clip.bin", "epoch.pt"])
def test_a_file_of_transformers(tmp_path: Path, form: str) -> None:
    theirs = clip_folder(tmp_path)
    expected = import_clip(tmp_path).stages["clip"]
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    file = tmp_path / form
    if form.endswith("safetensors"):
        save_file(weights, file)
    else:
        torch.save({"model": weights} if form == "epoch.pt" else weights, file)
    found = import_clip(file).stages["clip"]
    assert found.config == expected.config
    same(read(found.tensors), read(import_clip(file).stages["clip"].tensors))
    assert torch.equal(found.tensors["text.projection.weight"].read(), theirs.text_projection.weight)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"is a CLIP of transformers, .* put its config\.json beside it\.$"):
        import_clip(file)


def test_an_archive_of_openai_may_be_saved_as_safetensors(tmp_path: Path) -> None:
    config = TINY.replace(activation="quick_gelu")
    clip = openai_clip(config, tmp_path / "ViT-B-32.pt")
    theirs = read(to_theirs(lazy(clip.state_dict()), openai_names(config), ""))
    numbers = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    save_file({name: value.contiguous() for name, value in (theirs | numbers).items()}, tmp_path / "x.safetensors")
    found = import_clip(tmp_path / "x.safetensors")
    assert (found.description, found.stages["clip"].config) == ("a CLIP of OpenAI's", config)
    same(read(found.stages["clip"].tensors), clip.state_dict())


def test_files_beside_the_weights_are_left_behind(tmp_path: Path) -> None:
    openai_clip(TINY.replace(activation="quick_gelu"), tmp_path / "ViT.pt")
    save_file({"unet.lora_A.weight": torch.ones(2)}, tmp_path / "lora.safetensors")
    (model,) = import_foreign([tmp_path])
    assert model.dropped["lora.safetensors"] == "looks like LoRA weights, which come on top of a model"
    with pytest.raises(CheckpointError, match="looks like LoRA weights"):
        import_foreign([tmp_path / "ViT.pt", tmp_path / "lora.safetensors"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "crop"),
        ({"size": 224}, "crop"),
        ({"size": {"shortest_edge": 224}, "crop_size": 224}, "crop"),
        ({"size": {"shortest_edge": 224}, "crop_size": [224, 224]}, "crop"),
        # Height and width are squashed to; cutting the middle out of that cuts nothing.
        ({"size": [224, 224]}, "squash"),
        ({"size": {"height": 224, "width": 224}, "crop_size": {"height": 224, "width": 224}}, "squash"),
        ({"size": {"height": 224, "width": 224}, "do_center_crop": False, "crop_size": None}, "squash"),
    ],
)
@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_sizes_of_pictures_in_every_form(tmp_path: Path, options: dict[str, object], expected: str, file: str) -> None:
    content = options if file == "preprocessor_config.json" else {"image_processor": options}
    (tmp_path / file).write_text(json.dumps(content))
    assert picture_resize(tmp_path, 224) == expected


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"size": [224, 336]}, r"size=\[224, 336\] is not supported; pictures and patches are square"),
        ({"size": {"height": 224, "width": 336}}, r"size=\[224, 336\] is not supported"),
        ({"size": {"longest_edge": 224}}, "is no size of square pictures; give a number"),
        ({"size": "224"}, "is no size of square pictures"),
        ({"size": []}, "is no size of square pictures"),
        ({"size": 336}, r"pictures of \[224, 336\] pixels are not supported"),
        ({"rescale_factor": 0.5}, "rescale_factor=0.5 is not supported"),
        ({"do_pad": True}, "do_pad=True is not supported"),
        ({"image_mean": [0.5, 0.5, 0.5]}, "image_mean="),
        ({"odd": 1}, "odd=1 is not supported"),
    ],
)
def test_other_preparations_are_one_line(tmp_path: Path, options: dict[str, object], line: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(options))
    with pytest.raises(ConfigError, match=line) as caught:
        picture_resize(tmp_path, 224)
    assert "\n" not in str(caught.value)
