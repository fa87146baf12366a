"""Embeddings of clip-retrieval and of DALLE2-pytorch's loaders, read as they lie there."""

from pathlib import Path

import numpy as np
import pytest
import torch

from embedding_files import write_arrays, write_tables
from shard_files import picture, sent, write_tar
from unclip.data import EmbeddingSet
from unclip.errors import DataError


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Normalised float16 rows, as clip-retrieval keeps them."""
    values = np.random.default_rng(seed).normal(size=(count, 3))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)


def table(*captions: str | None) -> dict[str, list[str | None]]:
    return {"image_path": [f"key-{caption}" for caption in captions], "caption": list(captions)}


def test_clip_retrieval(tmp_path: Path) -> None:
    images = {"9": rows(2, 1), "10": rows(1, 2)}
    texts = {"9": rows(2, 3), "10": rows(1, 4)}
    write_arrays(tmp_path, "img_emb", images)
    write_arrays(tmp_path, "text_emb", texts)
    write_tables(tmp_path, {"9": table("a", None), "10": table("c")})
    for found in (EmbeddingSet.open(tmp_path), sent(EmbeddingSet.open(tmp_path))):
        # Part 10 comes after part 9, though not by the letters of its name.
        assert (found.shard_names, found.shard_sizes) == (["img_emb_9.npy", "img_emb_10.npy"], [2, 1])
        assert (found.model_hash, found.embedding_dim, found.text_dim, found.text_length) == ("", 3, 0, 0)
        assert list(found.keys) == ["key-a", "key-None", "key-c"]
        assert [found.captions(index) for index in range(3)] == [["a"], [""], ["c"]]
        order = np.array([2, 0])
        whole = np.concatenate([*images.values()]).astype(np.float32)
        assert torch.equal(found.image(order), torch.from_numpy(whole[order]))
        assert torch.equal(found.text([(2, 0)]).embedding, torch.from_numpy(texts["10"].astype(np.float32)))
        torch.testing.assert_close(found.mean, torch.from_numpy(whole.mean(axis=0)))
        torch.testing.assert_close(found.std, torch.from_numpy(whole.std(axis=0, ddof=1)))


def test_embedding_reader_with_captions_only(tmp_path: Path) -> None:
    write_arrays(tmp_path, "img_emb", {"0": rows(2)})
    write_tables(tmp_path, {"0": {"caption": ["a", "b"]}})
    found = EmbeddingSet.open(tmp_path)
    assert (found.captions(1), list(found.keys)) == (["b"], ["00000", "00001"])
    with pytest.raises(DataError, match="comes without text embeddings"):
        found.text([(0, 0)])


def test_embedding_reader_with_two_folders_of_arrays(tmp_path: Path) -> None:
    write_arrays(tmp_path, "img_emb", {"0": rows(2)})
    write_arrays(tmp_path, "text_emb", {"0": rows(2, 1)})
    found = EmbeddingSet.open(tmp_path)
    assert torch.equal(found.text([(1, 0)]).embedding[0], torch.from_numpy(rows(2, 1)[1].astype(np.float32)))
    with pytest.raises(DataError, match="comes without captions"):
        found.captions(0)


def test_decoder_layout_rows_are_the_last_digits_of_the_keys(tmp_path: Path) -> None:
    embeddings = rows(12)
    embeddings[5] = 0
    write_arrays(tmp_path, "img_emb", {"0003": embeddings})
    write_tar(tmp_path / "00003.tar", {"000030000.jpg": picture(2)})
    found = EmbeddingSet.open(tmp_path)
    assert [found.keys[0], found.keys[11]] == ["000030000", "000030011"]
    assert found.find(["000030011", "000030002"]).tolist() == [11, 2]
    assert found.valid(np.arange(12)).tolist() == [row != 5 for row in range(12)]
    with pytest.raises(DataError, match="000030005 has no image embedding"):
        found.image(np.array([4, 5]))
    there = np.delete(embeddings, 5, axis=0).astype(np.float32)
    torch.testing.assert_close(found.std, torch.from_numpy(there.std(axis=0, ddof=1)))


def test_the_empty_prompt_must_be_given(tmp_path: Path) -> None:
    write_arrays(tmp_path, "img_emb", {"0": rows(2)})
    found = EmbeddingSet.open(tmp_path)
    with pytest.raises(DataError, match="does not hold the empty prompt"):
        found.text([(0, -1)])
    assert found.with_empty(torch.ones(3)).text([(0, -1)]).embedding.tolist() == [[1.0, 1.0, 1.0]]


def test_statistics_of_a_large_set_come_from_evenly_spread_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unclip.data.foreign_embeddings.MAX_COUNTED", 5)
    embeddings = rows(10)
    write_arrays(tmp_path, "img_emb", {"0": embeddings})
    expected = embeddings[::2].astype(np.float32).mean(axis=0)
    torch.testing.assert_close(EmbeddingSet.open(tmp_path).mean, torch.from_numpy(expected))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"img_emb": {"0": rows(2)}, "text_emb": {"0": rows(3)}}, "rows and sizes must agree"),
        ({"img_emb": {"0": rows(2)}, "text_emb": {"1": rows(2)}}, r"other numbers: \[0, 1\]"),
        ({"img_emb": {"0": rows(2), "1": np.ones((2, 4))}}, r"sizes \[3, 4\]"),
        ({"img_emb": {"0": np.ones(3)}}, "not rows of embeddings"),
        ({"img_emb": {"x": rows(2)}}, "does not end in a number"),
        ({"img_emb": {"0": np.array([[None]])}}, "not a whole .npy array"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, arrays: dict[str, dict[str, np.ndarray]], message: str) -> None:
    for name, parts in arrays.items():
        write_arrays(tmp_path, name, parts)
    with pytest.raises(DataError, match=message):
        EmbeddingSet.open(tmp_path)


def test_a_table_of_another_length_or_cut_short_is_refused(tmp_path: Path) -> None:
    write_arrays(tmp_path, "img_emb", {"0": rows(2)})
    write_tables(tmp_path, {"0": table("a")})
    with pytest.raises(DataError, match="has 1 rows, but"):
        EmbeddingSet.open(tmp_path)
    path = tmp_path / "metadata" / "metadata_0.parquet"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        EmbeddingSet.open(tmp_path)
