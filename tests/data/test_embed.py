"""`embed`: the numbers of the encoder itself, the same bytes however the work was divided, one model in a folder."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from picture_shards import CAPTIONS, DAMAGED, contents, write_picture_shards
from shard_files import write_set
from unclip.clip import TextImageEncoder
from unclip.data import EmbeddingSet, ShardSet, embed
from unclip.errors import DataError, InputError
from unclip.model import open_clip


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_picture_shards(folder)
    return folder


@pytest.fixture
def clip(tiny_folder: Path) -> TextImageEncoder:
    return open_clip(tiny_folder, "cpu")


@pytest.fixture(scope="session")
def whole(shards: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one undisturbed call makes."""
    out = tmp_path_factory.mktemp("embedded")
    embed(shards, open_clip(tiny_folder, "cpu"), out, hidden=True, batch_size=2, num_workers=0)
    return out


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_features_are_those_of_the_encoder_rounded_to_half(tmp_path: Path, clip: TextImageEncoder, resize: str) -> None:
    pictures = write_picture_shards(tmp_path / "pictures")
    clip.clip.config = clip.clip.config.replace(resize=resize)
    embed(tmp_path / "pictures", clip, tmp_path / "out", hidden=True, num_workers=0)
    found, shards = EmbeddingSet.open(tmp_path / "out"), ShardSet.open(tmp_path / "pictures")
    assert list(found.keys) == list(shards.keys)
    for index, key in enumerate(found.keys):
        captions = found.captions(index)
        assert captions == list(shards.sample(index).captions)
        if key != DAMAGED:
            expected = clip.encode_pictures([Image.open(io.BytesIO(pictures[key]))])
            # 2^-11 is half a unit in the last place of float16.
            torch.testing.assert_close(found.image(np.array([index])), expected, rtol=2**-10, atol=1e-5)
        numbers = [*range(len(captions)), -1]
        texts, expected_text = found.text([(index, n) for n in numbers]), clip.encode_text([*captions, ""])
        assert texts.hidden is not None
        assert texts.mask is not None
        assert torch.equal(texts.mask, expected_text.mask)
        torch.testing.assert_close(texts.embedding, expected_text.embedding, rtol=2**-10, atol=1e-5)
        hidden = expected_text.hidden * expected_text.mask[:, :, None]
        torch.testing.assert_close(texts.hidden, hidden, rtol=2**-10, atol=1e-5)


def test_processes_that_decode_change_no_byte(
    shards: Path, clip: TextImageEncoder, tmp_path: Path, whole: Path
) -> None:
    calls: list[tuple[int, int]] = []
    report = embed(
        shards, clip, tmp_path, hidden=True, batch_size=2, num_workers=2, progress=lambda *call: calls.append(call)
    )
    assert contents(tmp_path) == contents(whole)
    assert (report.num_samples, report.num_shards, report.finished) == (13, 3, True)
    assert calls == [(done, 13) for done in (2, 4, 5, 7, 9, 11, 13)]


def test_a_damaged_sample_is_named(whole: Path, shards: Path, clip: TextImageEncoder) -> None:
    report = embed(shards, clip, whole, hidden=True, batch_size=2, num_workers=0)
    assert (report.num_samples, list(report.damaged)) == (0, [DAMAGED])
    found = EmbeddingSet.open(whole)
    damaged = list(found.keys).index(DAMAGED)
    assert np.flatnonzero(~found.valid(np.arange(len(found)))).tolist() == [damaged]
    assert found.captions(damaged) == ["half a picture"]
    with pytest.raises(DataError, match=DAMAGED):
        found.image(np.array([damaged]))


def test_an_interrupted_run_goes_on(shards: Path, clip: TextImageEncoder, tmp_path: Path, whole: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(shards, clip, tmp_path, hidden=True, batch_size=2, num_workers=0, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures-00000.safetensors"]
    before = (tmp_path / "pictures-00000.safetensors").stat().st_mtime_ns
    with pytest.raises(DataError, match="is not finished"):
        EmbeddingSet.open(tmp_path)
    report = embed(shards, clip, tmp_path, hidden=True, batch_size=2, num_workers=0)
    assert (report.num_samples, report.num_shards) == (8, 2)
    assert (tmp_path / "pictures-00000.safetensors").stat().st_mtime_ns == before
    assert contents(tmp_path) == contents(whole)


def test_machines_divide_the_shards(shards: Path, clip: TextImageEncoder, tmp_path: Path, whole: Path) -> None:
    first = embed(shards, clip, tmp_path, hidden=True, batch_size=2, num_workers=0, node=(1, 2))
    assert (first.num_shards, first.finished) == (1, False)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures-00001.safetensors"]
    second = embed(shards, clip, tmp_path, hidden=True, batch_size=2, num_workers=0, node=(0, 2))
    assert (second.num_shards, second.finished) == (2, True)
    assert contents(tmp_path) == contents(whole)


def test_a_shard_of_other_keys_is_computed_again(clip: TextImageEncoder, tmp_path: Path) -> None:
    write_picture_shards(tmp_path / "pictures", num_shards=2)
    embed(tmp_path / "pictures", clip, tmp_path / "out", num_workers=0)
    (tmp_path / "pictures" / "pictures-00000.tar").unlink()
    (tmp_path / "pictures" / "pictures-00001.tar").rename(tmp_path / "pictures" / "pictures-00000.tar")
    report = embed(tmp_path / "pictures", clip, tmp_path / "out", num_workers=0)
    assert report.num_shards == 1


def test_another_model_is_refused(shards: Path, clip: TextImageEncoder, tmp_path: Path) -> None:
    embed(shards, clip, tmp_path, num_workers=0)
    before = contents(tmp_path)
    with pytest.raises(DataError, match="was made without hidden states of texts; leave out --hidden"):
        embed(shards, clip, tmp_path, hidden=True, num_workers=0)
    with torch.no_grad():
        clip.clip.logit_scale.add_(1.0)
    with pytest.raises(DataError, match=r"was made by the CLIP [0-9a-f]{12}, but this one is [0-9a-f]{12}; give"):
        embed(shards, clip, tmp_path, num_workers=0)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [({"node": (2, 2)}, "node=2/2"), ({"batch_size": 0}, "batch_size=0"), ({"num_workers": -1}, "num_workers=-1")],
)
def test_what_cannot_be_is_refused(
    shards: Path, clip: TextImageEncoder, tmp_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        embed(shards, clip, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_clip_of_a_model_or_alone(tiny_folder: Path, clip: TextImageEncoder, tmp_path: Path) -> None:
    clip.save(tmp_path)
    alone = open_clip(tmp_path, "cpu")
    assert torch.equal(alone.encode_text(CAPTIONS).embedding, clip.encode_text(CAPTIONS).embedding)
    with pytest.raises(InputError, match="there is no model 'emojy'"):
        open_clip("emojy")


def test_shards_in_folders_below_and_packed_ones_have_a_file_each(
    clip: TextImageEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNCLIP_CACHE", str(tmp_path / "cache"))
    for part in ("a", "b"):
        write_set(tmp_path / "set" / part, [2])
    packed = tmp_path / "set" / "b" / "00000.tar"
    packed.with_suffix(".tgz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    report = embed(tmp_path / "set", clip, tmp_path / "out", num_workers=0)
    found = EmbeddingSet.open(tmp_path / "out")
    assert (report.num_samples, found.shard_names) == (4, ["a-00000.safetensors", "b-00000.safetensors"])
    assert list(found.keys) == ["00000", "00001", "b/00000/00000", "b/00000/00001"]
    assert embed(tmp_path / "set", clip, tmp_path / "out", num_workers=0).num_shards == 0
