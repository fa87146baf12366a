"""Files as other libraries write them are read lazily and exactly; damaged, foreign and hostile ones in one line."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from packaging.version import Version
from safetensors.torch import save_file
from torch import Tensor, nn

import unclip
from unclip.errors import CheckpointError
from unclip.interop.sources import open_component, open_weights, read_json

State = dict[str, Tensor]


def save_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_script(state: State, path: Path) -> None:
    holder = nn.Module()
    for name, tensor in state.items():
        holder.register_buffer(name, tensor)
    torch.jit.script(holder).save(path)


SAVERS: dict[str, Callable[[State, Path], None]] = {
    "safetensors": save_file,
    "zip": torch.save,
    "legacy": save_legacy,
    "script": save_script,
}
every_format = pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
# torch.jit is deprecated, but OpenAI's archives are what they are.
needs_script = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def state() -> State:
    return {
        "f16": torch.randn(3, 4).half(),
        "bf16": torch.randn(5).bfloat16(),
        "f32": torch.randn(2, 3, 1, 1),
        "f64": torch.randn(2).double(),
        "i64": torch.arange(4),
        "flags": torch.tensor([True, False]),
        "number": torch.tensor(3.5),
        "nothing": torch.empty(0, 2),
    }


def assert_same(found: Any, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].shape, found[name].dtype) == (tuple(tensor.shape), tensor.dtype)
        assert torch.equal(found[name].read(), tensor)
        assert found[name].read().dtype == tensor.dtype


def refusal(call: Callable[..., object], *arguments: object) -> str:
    """What the refusal says, which is one line."""
    with pytest.raises(CheckpointError) as refused:
        call(*arguments)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


@every_format
@needs_script
def test_formats_are_told_by_content(save: Callable[[State, Path], None], tmp_path: Path) -> None:
    save(state_ := state(), tmp_path / "weights.dat")
    assert_same(open_weights(tmp_path / "weights.dat").tensors, state_)


@pytest.mark.parametrize("save", [torch.save, save_legacy])
def test_views_are_read_as_they_are(save: Callable[[object, Path], None], tmp_path: Path) -> None:
    base = torch.randn(6, 4)
    views = {"columns": base.T, "rows": base[2:4], "weight": nn.Parameter(base[:, 1])}
    save(views, tmp_path / "views.pt")
    tensors = open_weights(tmp_path / "views.pt").tensors
    assert_same(tensors, views)
    assert not tensors["weight"].read().requires_grad


def test_safetensors_bring_their_metadata(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "a.bin", metadata={"format": "pt"})
    assert open_weights(tmp_path / "a.bin").values == {"format": "pt"}


def test_nested_containers(tmp_path: Path) -> None:
    weights, mean, std = state(), torch.randn(768), torch.rand(768)
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "prior.ckpt")
    torch.save((mean, std), tmp_path / "ViT-L-14_stats.th")
    karlo = open_weights(tmp_path / "prior.ckpt")
    assert_same(karlo.under("state_dict"), weights)
    assert karlo.values == {"epoch": 3}
    assert_same(open_weights(tmp_path / "ViT-L-14_stats.th").tensors, {"0": mean, "1": std})


def foreign_class(patch: pytest.MonkeyPatch, module: str, name: str, *bases: type) -> type:
    """A class of a package that is not there, or is of another release."""
    kind = type(name, bases, {"__module__": module})
    for part in (module.partition(".")[0], module):
        patch.setitem(sys.modules, part, sys.modules.get(part, ModuleType(part)))
    patch.setattr(sys.modules[module], name, kind, raising=False)
    return kind


def made(kind: type, **attributes: object) -> object:
    instance = kind()
    instance.__dict__.update(attributes)
    return instance


def test_what_a_trainer_of_dalle2_pytorch_saves_beside_weights(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW([{"params": [network.weight]}, {"params": [network.bias], "weight_decay": 0}])
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0).state_dict(),
        "model": network.state_dict(),
        "version": Version("1.15.6"),
        "config": {"prior": {"net": {"dim": 2}, "clip": None}, "splits": [0.7, 0.3]},
        "step": torch.tensor([7]),
    }
    with pytest.MonkeyPatch.context() as patch:
        warm_up = foreign_class(patch, "pytorch_warmup.base", "LinearWarmup")
        torch.save(content | {"warmup_scheduler": made(warm_up, optimizer=optimizer)}, tmp_path / "prior.pth")
    found = open_weights(tmp_path / "prior.pth")
    assert_same(found.under("model"), network.state_dict())
    assert_same(found.under("optimizer.state.0"), optimizer.state_dict()["state"][0])
    assert found.values["version"] == "1.15.6"
    assert found.values["config"] == content["config"]
    assert found.values["warmup_scheduler"] is None
    assert {name.partition(".")[0] for name in found.tensors} == {"model", "step", "optimizer"}


def test_versions_as_packaging_had_them(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kind = foreign_class(patch, "packaging.version", "Version")
        parts = foreign_class(patch, "packaging.version", "_Version", Parts)
        infinity = foreign_class(patch, "packaging._structures", "InfinityType")
        version = made(kind, _version=parts(0, (1, 1, 0), None, None, None, None), _key=(0, (1, 1), infinity()))
        torch.save({"version": version, "step": torch.tensor(1)}, tmp_path / "old.pth")
    assert open_weights(tmp_path / "old.pth").values == {"version": "1.1.0"}


class Parts(NamedTuple):
    epoch: int
    release: tuple[int, ...]
    dev: None
    pre: None
    post: None
    local: None


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2)
        self.ln_1 = nn.LayerNorm(8)
        self.attn_mask = torch.full((3, 3), float("-inf")).triu(1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.ln_1(x)
        return x + self.attn(hidden, hidden, hidden, need_weights=False, attn_mask=self.attn_mask)[0]


class Clip(nn.Module):
    """Of the parts that OpenAI's has: towers, sequences, bare parameters, numbers as buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Sequential(Block(), Block())
        self.positional_embedding = nn.Parameter(torch.randn(3, 8))
        self.logit_scale = nn.Parameter(torch.tensor(4.6))
        self.register_buffer("context_length", torch.tensor(77))
        self.visual = nn.ModuleDict({"conv1": nn.Conv2d(3, 8, 2, bias=False), "proj": nn.Linear(8, 4)})

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        pooled = self.visual["proj"](self.visual["conv1"](image).mean((2, 3)))
        return self.transformer(x + self.positional_embedding[:, None]).sum() * self.logit_scale * pooled.sum()


@needs_script
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torchscript_has_the_names_and_types_of_the_state_dict(tmp_path: Path) -> None:
    clip = Clip().eval()
    traced = torch.jit.trace(clip, (torch.randn(3, 1, 8), torch.randn(1, 3, 4, 4)))
    with torch.no_grad():
        for parameter in traced.transformer.parameters():
            parameter.data = parameter.data.half()
    traced.save(tmp_path / "ViT-L-14.pt")
    expected = clip.state_dict()
    assert {tensor.dtype for tensor in expected.values()} == {torch.float16, torch.float32, torch.int64}
    assert_same(open_weights(tmp_path / "ViT-L-14.pt").tensors, expected)


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.folder,)


def save_hostile_script(content: object, path: Path) -> None:
    torch.save(content, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{path.stem}/constants.pkl", b"\x80\x02).")


@pytest.mark.parametrize("save", [torch.save, save_legacy, save_hostile_script])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(
    save: Callable[[object, Path], None], tmp_path: Path
) -> None:
    save({"state_dict": state(), "more": Hostile(tmp_path / "harm")}, tmp_path / "hostile.pt")
    message = refusal(open_weights, tmp_path / "hostile.pt")
    assert "hostile.pt asks for posix.mkdir: a pickle that can run code is not read" in message
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(("protocol", "told"), [(2, "asks for posix.mkdir"), (4, "is not a whole file of torch.save")])
def test_a_pickle_by_itself_is_refused_and_does_not_run(protocol: int, told: str, tmp_path: Path) -> None:
    torch.save(Hostile(tmp_path / "harm"), tmp_path / "archive.pt", pickle_protocol=protocol)
    path = tmp_path / "bare.pkl"
    path.write_bytes(zipfile.ZipFile(tmp_path / "archive.pt").read("archive/data.pkl"))
    assert told in refusal(open_weights, path)
    assert not (tmp_path / "harm").exists()
    subprocess.run([sys.executable, "-m", "pickle", path], check=True, capture_output=True)
    assert (tmp_path / "harm").exists()  # it was able to


def test_objects_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    assert "asks for torch.nn.modules.linear.Linear" in refusal(open_weights, tmp_path / "module.pt")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "is a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b"<HTML>404</HTML>", "is a web page"),
        (b"\x89PNG\r\n\x1a\n....", "is no weights file"),
        (b"short", "is no weights file"),
    ],
)
def test_what_is_no_weights_file(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "weights.ckpt").write_bytes(content)
    assert f"weights.ckpt {told}" in refusal(open_weights, tmp_path / "weights.ckpt")


def test_folders_and_absent_files_and_other_archives(tmp_path: Path) -> None:
    assert "Is a directory" in refusal(open_weights, tmp_path)
    assert "No such file" in refusal(open_weights, tmp_path / "absent.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("folder/readme.txt", "text")
    assert "torch did not write" in refusal(open_weights, tmp_path / "other.zip")
    torch.save({"epoch": 3}, tmp_path / "values.pt")
    assert "holds no tensors" in refusal(open_weights, tmp_path / "values.pt")
    endless: list[object] = []
    endless.append(endless)
    torch.save(endless, tmp_path / "endless.pt")
    assert "recursion" in refusal(open_weights, tmp_path / "endless.pt")


@every_format
@needs_script
def test_a_file_cut_short_is_refused(save: Callable[[State, Path], None], tmp_path: Path) -> None:
    save(state(), tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for number, size in enumerate([9, 40, len(whole) // 2, len(whole) - 20, len(whole) - 1]):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(whole[:size])
        assert str(path) in refusal(open_weights, path)


@every_format
@needs_script
def test_a_flipped_bit_is_found_where_the_format_can_tell(save: Callable[[State, Path], None], tmp_path: Path) -> None:
    """Any damage is either refused in one line or harmless; zip archives tell all of it, by their checksums."""
    save({"weight": torch.randn(6), "f16": torch.randn(2).half()}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    expected = {name: value.read() for name, value in open_weights(tmp_path / "whole.pt").tensors.items()}
    is_zip, refusals = whole.startswith(b"PK"), []
    for place in range(0, len(whole), 5 if is_zip else 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path = tmp_path / f"{place}.pt"
        path.write_bytes(damaged)
        try:
            found = {name: value.read() for name, value in open_weights(path).tensors.items()}
        except CheckpointError as error:
            refusals.append(str(error))
        else:
            assert not is_zip or all(torch.equal(found[name], value) for name, value in expected.items())
        path.unlink()
    assert len(refusals) > 50
    assert {len(message.splitlines()) for message in refusals} == {1}


def test_damaged_data_of_an_archive_is_named(tmp_path: Path) -> None:
    torch.save({"weight": torch.full((100,), 3.0)}, tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    content[content.index(b"\0\0\x40\x40" * 100) + 17] ^= 4
    (tmp_path / "a.pt").write_bytes(content)
    assert "a/data/0 does not match its CRC-32" in refusal(open_weights, tmp_path / "a.pt")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e5m2])
def test_nan_and_infinity_are_found_when_they_are_read(number: float, dtype: torch.dtype, tmp_path: Path) -> None:
    weights = {"good": torch.ones(9).to(dtype), "bad": torch.tensor([1.0, number, 2.0]).to(dtype)}
    save_file(weights, tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        tensors = open_weights(tmp_path / name).tensors
        assert torch.equal(tensors["good"].read().float(), torch.ones(9))
        assert f"{name}: tensor 'bad' holds NaN or infinity" in refusal(tensors["bad"].read)


STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
BEST_FIRST = (
    "model.safetensors",
    "model.safetensors.index.json",
    "model.bf16.safetensors",
    "model.fp16.safetensors.index.json",
    "model.safetensors.index.fp16.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin.index.fp16.json",
    "pytorch_model.fp16.bin",
)


def put(folder: Path, name: str, weights: State) -> None:
    """A component under one of the names that diffusers and transformers use, sharded if it is an index."""
    save = save_file if "safetensors" in name else torch.save
    if not name.endswith(".json"):
        save(weights, folder / name)
        return
    shards = {key: f"{name}-{number:05}-of-00002.part" for number, key in enumerate(weights, start=1)}
    for key, shard in shards.items():
        save({key: weights[key]}, folder / shard)
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 8}, "weight_map": shards}))


@pytest.mark.parametrize("best", range(len(BEST_FIRST)))
def test_the_best_file_of_a_component_is_taken(best: int, tmp_path: Path) -> None:
    for number, name in enumerate(BEST_FIRST[best:]):
        put(tmp_path, name, {"a": torch.full((2,), float(number)), "b": torch.ones(1)})
    assert_same(open_component(tmp_path, STEMS), {"a": torch.zeros(2), "b": torch.ones(1)})


def test_shards_and_index_must_agree(tmp_path: Path) -> None:
    name = "diffusion_pytorch_model.safetensors.index.json"
    weights = {"a": torch.ones(1), "b": torch.ones(2)}
    first = tmp_path / f"{name}-00001-of-00002.part"

    put(tmp_path, name, weights)
    save_file({"a": weights["a"], "c": weights["b"]}, first)
    assert f"{first} holds 'c', which is not in {name}" in refusal(open_component, tmp_path, STEMS)
    save_file({}, first)
    assert "holds no tensors" in refusal(open_component, tmp_path, STEMS)
    save_file({"c": weights["b"]}, first)
    assert f"{first} lacks 'a', which is in {name}" in refusal(open_component, tmp_path, STEMS)
    first.unlink()
    assert f"{first} is missing, a shard that {name} names" in refusal(open_component, tmp_path, STEMS)
    for weight_map in (None, ["a"], {"a": 3}, {"a": "../outside.safetensors"}):
        (tmp_path / name).write_text(json.dumps({"weight_map": weight_map}))
        assert "no weight_map" in refusal(open_component, tmp_path, STEMS)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "optimizer.safetensors")
    save_file(state(), tmp_path / "model-00001-of-00002.safetensors")
    for folder in (tmp_path, tmp_path / "absent"):
        message = refusal(open_component, folder, ["model", "pytorch_model"])
        assert f"{folder} holds no weights; model.safetensors or pytorch_model.safetensors or model.bin" in message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"a": [1', "is not JSON"),
        (b'{"a": "\xff"}', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1, 2]", "holds a list, not a JSON object"),
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ],
)
def test_json_that_cannot_be_read(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    assert f"config.json {told}" in refusal(read_json, tmp_path / "config.json")


def test_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"act_fn": "gelu", "größe": [1]}', encoding="utf-8")
    assert read_json(tmp_path / "config.json") == {"act_fn": "gelu", "größe": [1]}


COPY = """
import sys
from pathlib import Path
from unclip.checkpoint import write_tensors
from unclip.interop.sources import open_weights

def kibibytes(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

*sources, target = sys.argv[1:]
before = kibibytes("VmRSS")
tensors = {f"{source}.{name}": value for source in sources for name, value in open_weights(source).tensors.items()}
opened = kibibytes("VmHWM")
write_tensors(target, tensors, {})
print((opened - before) * 1024, (kibibytes("VmHWM") - before) * 1024)
"""


def growth(*sources: Path) -> tuple[int, int]:
    """Bytes by which memory grew at most, when files were opened and until they were copied, in a new process."""
    target = sources[0].with_name("copy.safetensors")
    environment = os.environ | {"PYTHONPATH": str(Path(unclip.__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, "-c", COPY, *sources, target], env=environment, check=True, capture_output=True, text=True
    )
    assert target.stat().st_size > sum(source.stat().st_size for source in sources) * 0.99
    opened, copied = map(int, run.stdout.split())
    return opened, copied


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are read from /proc")
def test_memory_holds_one_tensor_of_safetensors_and_one_archive(tmp_path: Path) -> None:
    weights = {f"blocks.{number}": torch.randn(2500, 2500) for number in range(8)}  # 25 MB each
    size = sum(tensor.nbytes for tensor in weights.values())
    save_file(weights, tmp_path / "a.safetensors")
    opened, copied = growth(tmp_path / "a.safetensors")
    assert opened < 0.05 * size
    assert copied < 0.4 * size

    torch.save(weights, tmp_path / "a.bin")
    torch.save(dict(list(weights.items())[:4]), tmp_path / "b.bin")
    opened, copied = growth(tmp_path / "a.bin", tmp_path / "b.bin")
    assert opened < 0.05 * size
    assert copied < 1.3 * size
    for path in tmp_path.iterdir():
        path.unlink()
