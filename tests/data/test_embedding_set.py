"""Our sets of features: what was written is read back, by rows, in any process, and never of two models."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from shard_files import sent
from unclip.data import EmbeddedShard, EmbeddingSet, TextRow, write_embedding_shard, write_statistics
from unclip.errors import DataError

DIM, WIDTH, LENGTH = 4, 6, 5
CAPTIONS = {
    "a/0": ["a cat", "un chat \N{CAT FACE}"],
    "a/1": [""],
    "a/2": [],
    "b/0": ["broken \ud800"],
    "b/1": ["x", "y", "z"],
}
DAMAGED = {"a/2": "no picture"}


def shard_of(keys: list[str], *, hidden: bool = True, model_hash: str = "f00d") -> EmbeddedShard:
    captions = [CAPTIONS[key] for key in keys]
    lengths = [1 + number % LENGTH for number in range(sum(map(len, captions)))]
    generator = torch.Generator().manual_seed(len(keys))
    image, text, states = (
        torch.randn(size, generator=generator).half()
        for size in ((len(keys), DIM), (len(lengths), DIM), (sum(lengths), WIDTH))
    )
    return EmbeddedShard(
        keys=keys,
        captions=captions,
        damaged={key: reason for key, reason in DAMAGED.items() if key in keys},
        image_embedding=image,
        text_embedding=text,
        text_hidden=states if hidden else None,
        num_tokens=lengths if hidden else [],
        model_hash=model_hash,
        text_length=LENGTH,
    )


SHARDS = [shard_of(["a/0", "a/1", "a/2"]), shard_of(["b/0", "b/1"])]
EMPTY = TextRow(torch.full((DIM,), 0.5), torch.full((2, WIDTH), 0.25))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, shard in zip(("a", "b"), SHARDS, strict=True):
        write_embedding_shard(tmp_path / f"{name}.safetensors", shard)
    write_statistics(tmp_path, EMPTY)
    return tmp_path


def test_what_was_written_is_read_in_any_order_and_in_another_process(folder: Path) -> None:
    for found in (EmbeddingSet.open(folder), sent(EmbeddingSet.open(folder))):
        assert (found.model_hash, found.embedding_dim, found.text_dim, found.text_length) == (
            "f00d",
            DIM,
            WIDTH,
            LENGTH,
        )
        assert (found.shard_names, found.shard_sizes) == (["a.safetensors", "b.safetensors"], [3, 2])
        assert (len(found), list(found.keys), found.keys[3]) == (5, list(CAPTIONS), "b/0")
        whole = torch.cat([shard.image_embedding for shard in SHARDS]).float()
        assert torch.equal(found.image(np.array([4, 0, 3, 0])), whole[[4, 0, 3, 0]])
        assert [found.captions(index) for index in (0, 1, 2, 4)] == [
            ["a cat", "un chat \N{CAT FACE}"],
            [""],
            [],
            ["x", "y", "z"],
        ]
        assert found.captions(3) == ["broken \ud800"]


def test_texts_are_padded_with_zeros_and_masked(folder: Path) -> None:
    first, second = SHARDS
    rows = EmbeddingSet.open(folder).text([(4, 1), (0, 1), (0, -1)])
    assert torch.equal(
        rows.embedding, torch.stack([second.text_embedding[2], first.text_embedding[1], EMPTY.embedding]).float()
    )
    assert rows.hidden is not None
    assert rows.mask is not None
    assert rows.mask.tolist() == [[True] * count + [False] * (LENGTH - count) for count in (3, 2, 2)]
    assert second.text_hidden is not None
    assert first.text_hidden is not None
    # Captions of 1, 2, 3, ... tokens: the third starts after 1 + 2, the second after 1.
    torch.testing.assert_close(rows.hidden[0, :3], second.text_hidden[3:6].float(), rtol=0, atol=0)
    torch.testing.assert_close(rows.hidden[1, :2], first.text_hidden[1:3].float(), rtol=0, atol=0)
    assert EMPTY.hidden is not None
    torch.testing.assert_close(rows.hidden[2, :2], EMPTY.hidden, rtol=0, atol=0)
    assert not rows.hidden[~rows.mask].any()


def test_statistics_are_those_of_the_rows_that_are_there(folder: Path) -> None:
    found = EmbeddingSet.open(folder)
    rows = torch.cat([shard.image_embedding for shard in SHARDS])[[0, 1, 3, 4]].double()
    torch.testing.assert_close(found.mean, rows.mean(dim=0).float())
    torch.testing.assert_close(found.std, rows.std(dim=0).float())


def test_a_damaged_sample_keeps_its_row_and_is_refused(folder: Path) -> None:
    found = EmbeddingSet.open(folder)
    assert found.valid(np.arange(5)).tolist() == [True, True, False, True, True]
    with pytest.raises(DataError, match="a/2 has no image embedding"):
        found.image(np.array([1, 2]))


def test_keys_find_their_rows(folder: Path) -> None:
    found = EmbeddingSet.open(folder)
    assert found.find(list(CAPTIONS)).tolist() == [0, 1, 2, 3, 4]
    assert found.find(["b/1", "a/0"]).tolist() == [4, 0]
    with pytest.raises(DataError, match="no embedding of c/0 and 0 more of 2 samples"):
        found.find(["a/0", "c/0"])


@pytest.mark.parametrize("caption", [-2, 3])
def test_a_caption_that_is_not_there_is_refused(folder: Path, caption: int) -> None:
    with pytest.raises(DataError, match=f"b/1 has 3 captions and none of number {caption}; use 0 to 2"):
        EmbeddingSet.open(folder).text([(4, caption)])


def test_an_index_outside_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="no sample 5; it has 0 to 4"):
        EmbeddingSet.open(folder).image(np.array([5]))


def test_without_hidden_states_there_are_none(tmp_path: Path) -> None:
    write_embedding_shard(tmp_path / "a.safetensors", shard_of(["a/0"], hidden=False))
    write_statistics(tmp_path, EMPTY._replace(hidden=None))
    found = EmbeddingSet.open(tmp_path)
    rows = found.text([(0, 0), (0, -1)])
    assert (found.text_dim, rows.hidden, rows.mask) == (0, None, None)
    assert torch.equal(rows.embedding[1], EMPTY.embedding)


def test_two_models_do_not_mix(folder: Path) -> None:
    write_embedding_shard(folder / "c.safetensors", shard_of(["a/1"], model_hash="beef"))
    with pytest.raises(DataError, match=r"c\.safetensors was made by the model beef with hidden states, but a"):
        EmbeddingSet.open(folder)


def test_an_unfinished_set_is_refused(folder: Path) -> None:
    shutil.copy(folder / "a.safetensors", folder / "c.safetensors")
    with pytest.raises(DataError, match=r"is of 2 shards .* holds 3"):
        EmbeddingSet.open(folder)
    (folder / "statistics.safetensors").unlink()
    with pytest.raises(DataError, match="is not finished"):
        EmbeddingSet.open(folder)


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_a_damaged_shard_is_named(folder: Path, damage: str) -> None:
    path = folder / "b.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        shutil.copy(folder / "statistics.safetensors", path)
    with pytest.raises(DataError, match=r"b\.safetensors"):
        EmbeddingSet.open(folder)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no embeddings"):
        EmbeddingSet.open(tmp_path)
