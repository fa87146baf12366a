"""Weights files as other libraries write them are read lazily and exactly."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from packaging.version import Version
from safetensors.torch import save_file
from torch import Tensor, nn

import unclip
from unclip.interop.sources import open_weights
from weights_files import State, assert_same, every_format, save_legacy, state


@every_format
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


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
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
