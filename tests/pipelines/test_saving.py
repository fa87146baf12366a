"""What was stored is saved bit for bit, whatever it is computed in; low memory serves several threads at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from unclip.checkpoint import Storage, load_tensors, open_tensors, read_metadata
from unclip.errors import InputError
from unclip.model import find_model
from unclip.pipelines import UnClip
from unclip.testing import tiny_pipeline


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("low_memory", [False, True])
def test_what_was_stored_comes_back_whatever_it_is_computed_in(
    tiny_folder: Path, tmp_path: Path, dtype: torch.dtype, low_memory: bool
) -> None:
    loaded = UnClip.load(tiny_folder, "cpu", dtype, low_memory=low_memory)
    loaded.save(tmp_path / "same")
    assert weights(tmp_path / "same") == weights(tiny_folder)
    swapped = loaded.replace(decoder=UnClip.load(tiny_folder, "cpu", dtype))
    swapped.save(tmp_path / "swapped")
    assert weights(tmp_path / "swapped") == weights(tiny_folder)


@pytest.mark.parametrize("storage", [None, "int8"])
def test_the_shipped_weights_come_back_as_int8(tmp_path: Path, storage: Storage | None) -> None:
    """Values and scales as they are stored; written by an earlier version, their places in the file differ."""
    UnClip.load("emoji").save(tmp_path, storage)
    for path in find_model("emoji").glob("*.safetensors"):
        stored, found = open_tensors(path).tensors, open_tensors(tmp_path / path.name).tensors
        assert found.keys() == stored.keys()
        for name, tensor in stored.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name].read(), tensor.read()), name


def test_another_storage_is_made_of_what_was_stored(tiny_folder: Path, tmp_path: Path) -> None:
    tiny_pipeline().save(tmp_path / "expected", "bfloat16")
    UnClip.load(tiny_folder, "cpu", torch.float16).save(tmp_path / "found", "bfloat16")
    assert weights(tmp_path / "found") == weights(tmp_path / "expected")


def test_weights_that_were_changed_in_memory_are_saved_as_they_are(tiny_folder: Path, tmp_path: Path) -> None:
    pipe = UnClip.load(tiny_folder, "cpu", torch.float32)
    network = pipe.decoder.network
    name, parameter = next(iter(network.named_parameters()))
    with torch.no_grad():
        parameter += 1
    pipe.save(tmp_path)
    found, stored = (load_tensors(folder / "decoder.safetensors").tensors for folder in (tmp_path, tiny_folder))
    assert torch.equal(found.pop(name), stored.pop(name) + 1)
    assert all(torch.equal(found[key], tensor) for key, tensor in stored.items())


@pytest.mark.parametrize("low_memory", [False, True])
def test_a_folder_may_be_replaced_by_the_model_that_was_read_from_it(
    tiny_folder: Path, tmp_path: Path, low_memory: bool
) -> None:
    tiny_pipeline().save(tmp_path, "int8")
    before = weights(tmp_path)
    pipe = UnClip.load(tmp_path, "cpu", torch.bfloat16, low_memory=low_memory)
    drawn = pipe.text_to_image("a cat", seed=1, output_type="pt").images[0]
    pipe.save(tmp_path, "float32")
    assert read_metadata(tmp_path / "prior.safetensors")["storage"] == "float32"
    assert torch.equal(pipe.text_to_image("a cat", seed=1, output_type="pt").images[0], drawn)
    pipe.save(tmp_path)
    assert weights(tmp_path) == before


def test_low_memory_may_be_used_by_several_threads(tiny_folder: Path) -> None:
    pipe = UnClip.load(tiny_folder, "cpu", torch.float32, low_memory=True)
    expected = [pipe.text_to_image("a cat", seed=seed, output_type="pt").images[0] for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        found = list(
            threads.map(lambda seed: pipe.text_to_image("a cat", seed=seed % 4, output_type="pt").images[0], range(16))
        )
    for place, images in enumerate(found):
        assert torch.equal(images, expected[place % 4])
    stages = (pipe.prior, pipe.decoder, *pipe.upsamplers.values())
    assert all(parameter.is_meta for stage in stages for parameter in stage.network.parameters())


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.bool])
def test_formats_that_nothing_is_drawn_in_are_refused(tiny_folder: Path, dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match="is not a number format to draw in"):
        UnClip.load(tiny_folder, "cpu", dtype)
