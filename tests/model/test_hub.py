"""Hub repositories, from a cache laid out as the hub's own library does, and from a hub on this machine."""

import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from hub_server import COMMIT, serve
from networks import same
from unclip.errors import CheckpointError, InputError
from unclip.model import find_model
from unclip.model.opening import looks_like_repository
from unclip.pipelines import UnClip

COMMITS = {"main": "0123456789abcdef0123456789abcdef01234567", "v2": "fedcba9876543210fedcba9876543210fedcba98"}


@pytest.fixture
def cache(tiny_folder: Path, karlo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds the tiny model as someone/tiny and a diffusers folder as someone/karlo, at two commits."""
    for name, folder in (("tiny", tiny_folder), ("karlo", karlo_folder)):
        repository = tmp_path / "hub" / f"models--someone--{name}"
        (repository / "refs").mkdir(parents=True)
        for revision, commit in COMMITS.items():
            shutil.copytree(folder, repository / "snapshots" / commit)
            (repository / "refs" / revision).write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub" / "models--someone--tiny"


def test_a_repository_is_read_from_the_cache(cache: Path) -> None:
    assert find_model("someone/tiny") == cache / "snapshots" / COMMITS["main"]
    pipe = UnClip.load("someone/tiny", "cpu", torch.float32)
    assert pipe.decoder.image_size == 16


def test_a_repository_of_diffusers_is_read_too(cache: Path, karlo_folder: Path) -> None:
    pipe = UnClip.load("someone/karlo@v2", "cpu", torch.float32)
    assert pipe.name == f"someone/karlo@{COMMITS['v2'][:12]}"
    expected = UnClip.load(karlo_folder, "cpu", torch.float32).decoder.network.unet.conv_in.weight
    assert torch.equal(pipe.decoder.network.unet.conv_in.weight, expected)


@pytest.mark.parametrize("revision", ["v2", COMMITS["v2"]])
def test_a_revision_is_pinned(cache: Path, revision: str) -> None:
    expected = cache / "snapshots" / COMMITS["v2"]
    assert find_model("someone/tiny", revision) == expected
    assert find_model(f"someone/tiny@{revision}") == expected


def test_what_is_not_there_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    for name, revision in (("someone/else", None), ("someone/tiny", "v3")):
        line = rf"^{name} is no folder here, the hub's cache does not have it, .* as HF_HUB_OFFLINE is set; unset it"
        with pytest.raises(InputError, match=line) as caught:
            UnClip.load(name, revision=revision)
        assert "\n" not in str(caught.value)


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """An empty cache, and a function that points the hub's library to an address."""

    def use(address: str) -> None:
        for name, value in {
            "HF_HUB_OFFLINE": False,
            "ENDPOINT": address,
            "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
        }.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)

    return use


def as_pickle(path: Path) -> None:
    """Write the weights again as torch does, under the name that their library gives them."""
    name = "pytorch_model.bin" if path.stem == "model" else f"{path.stem}.bin"
    torch.save(load_file(path), path.with_name(name))


def test_one_format_and_one_precision_of_each_part_is_fetched(
    karlo_folder: Path, tmp_path: Path, online: Callable[[str], None]
) -> None:
    """Mixed formats, both precisions, LoRA weights beside a part and at the top: what the folder would be read from."""
    folder = Path(shutil.copytree(karlo_folder, tmp_path / "karlo"))
    wanted = {str(path.relative_to(folder)) for path in folder.rglob("*.safetensors")}
    for part in ("prior", "decoder"):
        file = folder / part / "diffusion_pytorch_model.safetensors"
        as_pickle(file)
        half = {name: value.half() for name, value in load_file(file).items()}
        save_file(half, file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    (folder / "decoder" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "decoder" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    wanted ^= {"decoder/diffusion_pytorch_model.safetensors", "decoder/diffusion_pytorch_model.bin"}
    lora = {"unet.lora_A.weight": torch.ones(2)}
    for path in ("decoder/pytorch_lora_weights.safetensors", "lora.safetensors", "other/model.safetensors"):
        (folder / path).parent.mkdir(exist_ok=True)
        save_file(lora, folder / path)
    with serve({"someone/karlo": folder}) as hub:
        online(hub.address)
        pipe = UnClip.load("someone/karlo", "cpu", torch.float32)
        weights = [path for path in hub.fetched if path.endswith((".safetensors", ".bin"))]
        assert sorted(weights) == sorted(wanted)
        hub.fetched.clear()
        find_model("someone/karlo")
        assert hub.fetched == []
    expected = UnClip.load(folder, "cpu", torch.float32).decoder.network.state_dict()
    same(pipe.decoder.network.state_dict(), expected)
    # The hub is gone; the cache is not.
    assert find_model("someone/karlo").name == COMMIT


def test_a_model_of_another_kind_is_refused_before_its_weights_are_fetched(
    tmp_path: Path, online: Callable[[str], None]
) -> None:
    (tmp_path / "sd" / "unet").mkdir(parents=True)
    (tmp_path / "sd" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    save_file({"x": torch.ones(2)}, tmp_path / "sd" / "unet" / "diffusion_pytorch_model.safetensors")
    with serve({"someone/sd": tmp_path / "sd"}) as hub:
        online(hub.address)
        with pytest.raises(CheckpointError, match="looks like a StableDiffusionPipeline"):
            find_model("someone/sd")
        assert hub.fetched == ["model_index.json"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("someone/gated", "gives it only to those who accepted its terms; do so on its page, and log in"),
        ("someone/nowhere", "has no such repository, or a private one; check the id, or log in"),
        ("someone/model@v9", "its repository has no revision 'v9'; give a branch, tag or commit that it has"),
        ("someone/broken", r"the hub answers with an error \(HTTP 503\); try again later"),
    ],
)
def test_what_the_hub_refuses_is_said(tmp_path: Path, online: Callable[[str], None], name: str, line: str) -> None:
    errors = {"someone/gated": (403, "GatedRepo"), "someone/broken": (503, "")}
    with serve({"someone/model": tmp_path}, errors) as hub:
        online(hub.address)
        with pytest.raises(InputError, match=line) as caught:
            find_model(name)
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_said(online: Callable[[str], None]) -> None:
    with serve({}) as hub:
        online(hub.address)
    with pytest.raises(
        InputError, match=r"the hub cannot be reached \(.*\); check the network, or give a folder"
    ) as caught:
        find_model("someone/model")
    assert "\n" not in str(caught.value)


def test_names_of_repositories() -> None:
    assert looks_like_repository("owner/name-1.0")
    assert looks_like_repository("owner/name@main")
    assert not looks_like_repository("emoji")
    assert not looks_like_repository("a/b/c")
    assert not looks_like_repository("./here")
    assert not looks_like_repository("/tmp/x")
