"""Stored features beside their pictures: what has no embedding is left out whole."""

from pathlib import Path

import numpy as np
import pytest
import torch

from embedding_files import write_arrays
from shard_files import picture, write_tar
from unclip.data import EmbeddingSet, open_pictures
from unclip.errors import DataError
from unclip.training.tasks.samples import EmbeddedPictures, ImageEmbeddings, read_items

KEYS = [f"00003{row:04d}" for row in range(4)]


def test_a_picture_without_an_embedding_gives_way_to_a_whole_other_sample(tmp_path: Path) -> None:
    """DALLE2-pytorch's layout says by a row of zeros that there is none."""
    rows = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
    rows[2] = 0
    write_arrays(tmp_path, "img_emb", {"0003": rows})
    write_tar(tmp_path / "00003.tar", {f"{key}.png": picture(16, 10 * row) for row, key in enumerate(KEYS)})
    pictures = open_pictures(tmp_path, [16], cache=False)
    stored = EmbeddingSet.open(tmp_path)
    embeddings = ImageEmbeddings.of_shards(stored, stored.find(pictures.keys))
    items, indices, skipped = read_items(EmbeddedPictures(pictures, embeddings), [1, 2])
    assert skipped == (f"{KEYS[2]} has no embedding",)
    assert [item.key for item in items] == [KEYS[1], KEYS[3]]
    assert [int(item.pixels[16][0, 0, 0]) for item in items] == [10, 30]
    assert torch.equal(embeddings(indices), torch.from_numpy(rows[[1, 3]]))
    with pytest.raises(DataError, match=rf"{KEYS[2]} has no image embedding"):
        embeddings(np.array([2]))
