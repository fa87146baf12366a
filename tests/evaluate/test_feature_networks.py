"""Feature networks by name: weights that are given, found or fetched, and what is said where there are none."""

import hashlib
import io
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from unclip.data import cache_folder
from unclip.errors import CheckpointError, InputError, UnclipError
from unclip.evaluate import open_features
from unclip.evaluate.networks import PublishedWeights, find_weights
from unclip.metrics import ClipFeatures, DinoV2, FeatureNetwork, Inception, InceptionFeatures, dino_config
from unclip.model import open_clip

PICTURES = torch.arange(2 * 3 * 9 * 8, dtype=torch.uint8).reshape(2, 3, 9, 8)
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def inception() -> Inception:
    return Inception().eval()


@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_inception_of_a_file(inception: Inception, tmp_path: Path, form: str) -> None:
    """As safetensors and as both formats that torch has written; normalisations of others count batches too."""
    path, state = tmp_path / "weights.pth", inception.state_dict()
    if form == "safetensors":
        save_file(state, path)
    else:
        counters = {
            f"{name.removesuffix('weight')}num_batches_tracked": torch.tensor(0) for name in state if "bn" in name
        }
        torch.save(state | counters, path, _use_new_zipfile_serialization=form == "zip")
    features = open_features("inception", path, "cpu")
    assert isinstance(features, FeatureNetwork)
    assert features.device == torch.device("cpu")
    assert features.fingerprint == InceptionFeatures(inception).fingerprint


def test_dinov2_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = DinoV2(dino_config("dinov2-vits14")).eval()
    save_file(network.state_dict(), tmp_path / "dinov2_vits14_pretrain.safetensors")
    monkeypatch.setenv("UNCLIP_CACHE", str(tmp_path))
    features = open_features("dinov2-vits14", device="cpu")
    assert features.name == "dinov2-vits14"
    with pytest.raises(CheckpointError, match=r"does not fit DinoV2: .* the network wants"):
        open_features("dinov2-vitb14", tmp_path / "dinov2_vits14_pretrain.safetensors", "cpu")
    assert features(PICTURES)["dinov2"].shape == (2, 384)


def test_clip_of_a_model(tiny_folder: Path) -> None:
    features = open_features(f"clip:{tiny_folder}", device="cpu")
    assert isinstance(features, ClipFeatures)
    assert features.name == f"clip:{tiny_folder}"
    assert features.fingerprint == ClipFeatures(open_clip(tiny_folder, "cpu"), "tiny").fingerprint


def test_the_cache_is_in_the_home_folder_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.delenv("UNCLIP_CACHE", raising=False)
    assert cache_folder() == Path("/somewhere/.cache/unclip")
    monkeypatch.setenv("UNCLIP_CACHE", "~/features")
    assert cache_folder() == Path("/somewhere/features")


def refused(error: type[UnclipError], message: str, *arguments: object, **options: object) -> None:
    """`open_features` fails so, in one line."""
    with pytest.raises(error, match=message) as caught:
        open_features(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_without_network_it_says_where_the_file_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", NOWHERE)
    folder = tmp_path / "cache"
    file = "weights-inception-2015-12-05-6726825d.pth"
    message = rf"inception are not in {folder} and cannot be fetched \(.*\); get https://.*/{file} and put {file} into"
    refused(InputError, message, "inception", device="cpu", cache=folder)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_in_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    path.write_bytes(b"half of it")
    refused(CheckpointError, r"is damaged: its SHA-256 starts with \w{8}, not 6726825d", "inception", cache=tmp_path)
    assert path.exists()


def test_files_that_are_no_such_weights(tmp_path: Path) -> None:
    other, text = tmp_path / "other.safetensors", tmp_path / "text.pth"
    save_file({"fc.weight": torch.zeros(1000, 2048)}, other)
    text.write_text("no weights")
    fault = (
        r"other.safetensors does not fit Inception: fc.weight is \(1000, 2048\), the network wants \(1008, 2048\); mis"
    )
    refused(CheckpointError, fault, "inception", other, "cpu")
    refused(CheckpointError, r"text.pth is no weights file", "inception", text, "cpu")
    refused(CheckpointError, r"none.pth cannot be read \(No such file", "inception", tmp_path / "none.pth", "cpu")


def test_names_that_are_none(tmp_path: Path) -> None:
    refused(InputError, r"no feature network 'incepton'; did you mean 'inception'\? allowed: clip:MODEL", "incepton")
    refused(InputError, r"clip:tiny names a model with weights of its own", "clip:tiny", tmp_path)
    refused(InputError, r"''.*names no model", "clip:")
    refused(InputError, r"device 'tpu' cannot be used", "inception", device="tpu", cache=tmp_path)


CONTENT = bytes(range(256)) * 10_000


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; what is called "short" ends early."""

    def do_GET(self) -> None:
        if "absent" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:5000] if "short" in self.path else CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


SHA256 = hashlib.sha256(CONTENT).hexdigest()
DIGITS = SHA256[:8]


def test_weights_are_fetched_once(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    cache = tmp_path / "new" / "cache"
    path = find_weights("toy", PublishedWeights(f"{address}/toy.pth", SHA256), cache)
    assert path == cache / "toy.pth"
    assert path.read_bytes() == CONTENT
    assert terminal.getvalue().endswith("toy.pth: 3 of 3 MB\n")
    assert find_weights("toy", PublishedWeights(f"{NOWHERE}/toy.pth", SHA256), cache) == path
    assert list(cache.iterdir()) == [path]


@pytest.mark.parametrize(
    ("file", "sha256", "error", "message"),
    [
        ("toy.pth", 64 * "0", CheckpointError, rf"its SHA-256 starts with {DIGITS}, not 00000000"),
        ("short.pth", SHA256, InputError, r"cannot be fetched \(broke off after 5000 of 2560000 bytes\)"),
        ("absent.pth", SHA256, InputError, r"cannot be fetched \(Not Found\)"),
    ],
)
def test_nothing_is_left_of_a_failed_fetch(
    address: str, tmp_path: Path, file: str, sha256: str, error: type[UnclipError], message: str
) -> None:
    with pytest.raises(error, match=message):
        find_weights("toy", PublishedWeights(f"{address}/{file}", sha256), tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written(address: str, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(InputError, match=r"cannot write .*cache/toy.pth: (Not a directory|File exists)"):
        find_weights("toy", PublishedWeights(f"{address}/toy.pth", SHA256), tmp_path / "cache")
