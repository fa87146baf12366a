"""Conversion of whole folders: what is read is what is written, one tensor at a time, and nothing after a failure."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from networks import same
from unclip.errors import CheckpointError, ConfigError, InputError, UnclipError
from unclip.model import convert, describe_model, open_sources
from unclip.pipelines import UnClip
from unclip_pipelines import Size, change_json, unclip_pipeline

SETTINGS = {"num_steps": {"prior": 2, "decoder": 2, "upsampler_32": 2}, "seed": 7, "output_type": "pt"}


@pytest.fixture
def folder(karlo_folder: Path) -> Path:
    return karlo_folder


def tensors(name: Path) -> dict[str, torch.Tensor]:
    """All tensors of a model, by stage and name."""
    networks = open_sources([name]).source.networks
    return {f"{stage}.{key}": value.read() for stage in networks for key, value in networks[stage].tensors.items()}


def test_a_converted_model_is_the_one_that_was_there_and_back_again(folder: Path, tmp_path: Path) -> None:
    done = convert(folder, tmp_path / "ours")
    assert done.descriptions == ["a diffusers unCLIP folder (UnCLIPPipeline)"]
    back = convert(tmp_path / "ours", tmp_path / "back", to="diffusers")
    assert set(back.dropped) == {"logit_scale"}
    before = tensors(folder)
    same(tensors(tmp_path / "ours"), before)
    same(tensors(tmp_path / "back"), before)
    drawn = [
        UnClip.load(path, "cpu", torch.float32).text_to_image("a red apple", **SETTINGS).images[0]
        for path in (folder, tmp_path / "ours", tmp_path / "back")
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


def test_number_formats_are_kept_unless_another_is_asked_for(folder: Path, tmp_path: Path) -> None:
    half = Path(shutil.copytree(folder, tmp_path / "half"))
    file = half / "prior" / "diffusion_pytorch_model.safetensors"
    save_file({name: value.half() for name, value in load_file(file).items()}, file)
    convert(half, tmp_path / "kept")
    convert(half, tmp_path / "int8", storage="int8")
    kept = tensors(tmp_path / "kept")
    assert {value.dtype for name, value in kept.items() if name.startswith("prior.")} == {torch.float16}
    exact, rough = kept["prior.out.weight"].float(), tensors(tmp_path / "int8")["prior.out.weight"]
    torch.testing.assert_close(rough, exact, atol=float(exact.abs().max()) / 127, rtol=0.0)
    size = {name: (tmp_path / name / "prior.safetensors").stat().st_size for name in ("kept", "int8")}
    assert size["int8"] < 0.8 * size["kept"]


@pytest.mark.parametrize("damage", ["truncated", "missing", "foreign"])
def test_after_a_failure_there_is_nothing(folder: Path, tmp_path: Path, damage: str) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    file = broken / "super_res_last" / "diffusion_pytorch_model.safetensors"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-64])
    elif damage == "missing":
        file.unlink()
    else:
        index = (broken / "model_index.json").read_text().replace("UnCLIPPipeline", "StableDiffusionPipeline")
        (broken / "model_index.json").write_text(index)
    with pytest.raises(CheckpointError) as caught:
        convert(broken, tmp_path / "new" / "ours")
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"broken"}


def test_a_failure_while_writing_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    """The last tensor read holds NaN: by then most of the folder is written."""
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    file = broken / "super_res_last" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    state["time_embedding.linear_2.weight"][0, 0] = torch.nan
    save_file(state, file)
    with pytest.raises(CheckpointError, match=r"time_embedding\.linear_2\.weight' holds NaN"):
        convert(broken, tmp_path / "ours")
    assert {path.name for path in tmp_path.iterdir()} == {"broken"}


def test_what_cannot_be_is_refused(folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        convert(folder, folder)
    with pytest.raises(InputError, match="which would hold its own conversion"):
        convert(folder, folder / "new")
    with pytest.raises(InputError, match="unknown layout 'difusers' to convert to; did you mean 'diffusers'"):
        convert(folder, tmp_path / "new", to="difusers")
    with pytest.raises(InputError, match="storage=int8 belongs to our own layout"):
        convert(folder, tmp_path / "new", to="diffusers", storage="int8")
    with pytest.raises(CheckpointError, match="clip is there twice"):
        convert([folder, folder], tmp_path / "new")
    with pytest.raises(InputError, match="is a whole model already"):
        convert([folder, tiny_folder], tmp_path / "new")
    with pytest.raises(
        ConfigError, match=r"the model 'tiny' cannot be said in diffusers' unCLIP layout: .*prior: text_dim"
    ):
        convert(tiny_folder, tmp_path / "new", to="diffusers")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("part", "option", "value", "message"),
    [
        ("prior", "num_layers", 10**9, "depth: Input should be less than or equal to 1000"),
        ("decoder", "block_out_channels", [], r"block_out_channels=\[\] is not a list"),
        ("decoder", "block_out_channels", 7, "block_out_channels=7 is not a list"),
        ("super_res_first", "sample_size", 64, "super_res_last draws other sizes than super_res_first"),
        ("prior_scheduler", "clip_sample_range", "a", "clip_sample_range='a' is not a number"),
        ("prior_scheduler", "clip_sample_range", -3, "x0_bound: Input should be greater than 0"),
        ("prior", "dropout", True, "dropout=True is not a number"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_before_anything_is_built(
    folder: Path, tmp_path: Path, part: str, option: str, value: object, message: str
) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    change_json(next((broken / part).glob("*config.json")), {option: value})
    with pytest.raises(UnclipError, match=message) as caught:
        convert(broken, tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"broken"}


def test_parts_that_do_not_fit_are_not_written(folder: Path, tmp_path: Path) -> None:
    """A text tower alone finds no tokenizer beside it, and OpenAI's has other ids."""
    with pytest.raises(ConfigError, match="the tokenizer has 49408 tokens"):
        convert(folder / "text_encoder", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "'' names no model"),
        ("karlo", "'karlo' is a preset, shapes without weights"),
        ("./nowhere.ckpt", r"\./nowhere\.ckpt does not exist"),
        ("https://huggingface.co/owner/name/tree/main", "give the repository's id, owner/name"),
    ],
)
def test_names_of_nothing_are_told_what_they_are(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        UnClip.load(name)


MEASURE = """
import sys, unclip.pipelines
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
small, large, out = sys.argv[1:]
unclip.model.convert(small, out + "-small")  # what is imported late is imported now
before = peak()
unclip.model.convert(large, out)
print(peak() - before)
"""


def test_memory_is_bounded_by_the_largest_file(folder: Path, tmp_path: Path) -> None:
    """1.3 times the largest file is the promise; as tensors go one by one, half of it must do."""
    with torch.random.fork_rng(devices=[]):
        pipeline = unclip_pipeline(tmp_path / "tokenizer files", Size(prior_heads=48))
        pipeline.save_pretrained(tmp_path / "karlo")
    del pipeline
    largest = max(path.stat().st_size for path in (tmp_path / "karlo").rglob("*.safetensors"))
    assert largest > 50e6
    command = [sys.executable, "-c", MEASURE, str(folder), str(tmp_path / "karlo"), str(tmp_path / "ours")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0 <= int(run.stdout) < 0.5 * largest


def test_all_that_is_in_the_way_of_diffusers_is_said_at_once_and_beforehand(tmp_path: Path) -> None:
    """The shipped model differs in every stage: one line says it all, and `info` says the same."""
    described = describe_model("emoji")
    with pytest.raises(ConfigError) as caught:
        convert("emoji", tmp_path / "new", to="diffusers")
    line = str(caught.value)
    assert "\n" not in line
    assert list(tmp_path.iterdir()) == []
    assert len(described.not_in_diffusers) >= 4
    for obstacle in described.not_in_diffusers:
        assert obstacle in line
    for name in ("num_text_tokens=0", "convolutional stem", "decoder draws 8 channels", "there is one upsampler in it"):
        assert name in line
    assert line.endswith(
        "keep it in our layout, or train these stages as the preset karlo has them (unclip info karlo)."
    )


@pytest.mark.parametrize(
    ("name", "obstacles"),
    [
        ("karlo", ()),
        ("laion-prior", ("there is no decoder", "prior is a Dalle2PriorConfig")),
        ("kandinsky-2.2", ("decoder is a KandinskyDecoderConfig", "autoencoder is a AutoencoderConfig")),
        ("dalle2-paper", ("text_transformer=", "upsampler_1024: schedule='linear'")),
    ],
)
def test_presets_say_whether_diffusers_has_a_place_for_them(name: str, obstacles: tuple[str, ...]) -> None:
    found = describe_model(name).not_in_diffusers
    assert bool(found) == bool(obstacles)
    for obstacle in obstacles:
        assert any(obstacle in reason for reason in found), found


def test_settings_that_an_export_loses_are_named(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "ours")
    path = tmp_path / "ours" / "config.json"
    config = json.loads(path.read_text())
    config["defaults"]["num_candidates"] = 3
    config["defaults"]["stages"]["decoder"] |= {"sampler": "ddim", "num_steps": 9}
    path.write_text(json.dumps(config))
    dropped = convert(tmp_path / "ours", tmp_path / "theirs", to="diffusers").dropped
    assert set(dropped) == {"logit_scale", "num_candidates=3", "decoder: num_steps=9, sampler=ddim"}
