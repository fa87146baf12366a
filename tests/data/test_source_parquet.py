"""Parquet tables and sets of Hugging Face `datasets`, written by the libraries themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from optional import require
from pictures import encoded, picture
from samples import captions, samples
from unclip.data import open_source
from unclip.errors import DataError

datasets = require("datasets")
pyarrow = require("pyarrow")
parquet = require("pyarrow.parquet")


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Row groups of two, so that a set of three has two."""
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)


@pytest.mark.parametrize("with_path", [True, False])
def test_parquet_tables_with_pictures_are_one_set(tmp_path: Path, with_path: bool) -> None:
    files = [encoded(picture(seed)) for seed in range(5)]
    rows = [
        {"image": {"bytes": file, "path": None} if with_path else file, "prompt": f"picture {seed}", "seed": seed}
        for seed, file in enumerate(files)
    ]
    (tmp_path / "data").mkdir()
    write_table(tmp_path / "data" / "train-00000-of-00002.parquet", rows[:3])
    write_table(tmp_path / "data" / "train-00001-of-00002.parquet", rows[3:])
    source = open_source(tmp_path)
    assert source.description.startswith("5 rows of 2 Parquet tables (pictures from column 'image'")
    assert [sample.picture for sample in samples(source)] == files
    assert [source.item(index) for index in (4, 0)] == [samples(source)[4], samples(source)[0]]
    assert [(sample.captions, sample.info) for sample in samples(source)] == [
        ((f"picture {seed}",), {"seed": seed}) for seed in range(5)
    ]
    assert [len(set(found)) for found in (source.names, source.keys)] == [5, 5]


def saved(path: Path, captions: dict[str, Any], features: dict[str, Any]) -> None:
    images = [{"bytes": encoded(picture(seed)), "path": None} for seed in range(3)]
    columns = {"image": images, **captions}
    kinds = datasets.Features({"image": datasets.Image(), **features})
    datasets.Dataset.from_dict(columns, features=kinds).save_to_disk(str(path))


def test_saved_sets_are_read_row_by_row(tmp_path: Path) -> None:
    saved(tmp_path / "set", {"text": ["a", "", "c"]}, {"text": datasets.Value("string")})
    source = open_source(tmp_path / "set")
    assert (len(source), source.num_uncaptioned) == (3, 1)
    assert captions(source) == {"000000000": ("a",), "000000001": ("",), "000000002": ("c",)}
    assert [sample.picture for sample in samples(source)] == [encoded(picture(seed)) for seed in range(3)]


def test_names_of_classes_are_captions_in_both_formats_of_hugging_face(tmp_path: Path) -> None:
    kinds = {"label": datasets.ClassLabel(names=["tabby_cat", "dog"])}
    saved(tmp_path / "set", {"label": [1, 0, 0]}, kinds)
    (tmp_path / "table").mkdir()
    datasets.load_from_disk(str(tmp_path / "set")).to_parquet(str(tmp_path / "table" / "a.parquet"))
    for place in ("set", "table"):
        found = [sample.captions for sample in samples(open_source(tmp_path / place))]
        assert found == [("dog",), ("tabby cat",), ("tabby cat",)]


def test_a_set_of_splits_asks_for_one(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"image": ["x"], "text": ["y"]})
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(DataError, match=r"the splits test, train; name one: .*test"):
        open_source(tmp_path / "set")


def test_tables_may_name_files(album: Path) -> None:
    write_table(album / "x.parquet", [{"path": "b.png", "texts": ["one", "two"], "size": 3}])
    source = open_source(album)
    told = "1 pictures of x.parquet (pictures from column 'path', captions from 'texts')"
    assert (source.description, source.num_uncaptioned) == (told, 0)
    assert [(sample.captions, sample.info) for sample in samples(source)] == [(("one", "two"), {"size": 3})]


def test_captions_can_be_left_out(album: Path, tmp_path: Path) -> None:
    saved(tmp_path / "set", {}, {})
    write_table(tmp_path / "x.parquet", [{"image": encoded(picture(0))}])
    for place, count in ((album, 6), (tmp_path / "set", 3), (tmp_path / "x.parquet", 1)):
        source = open_source(place, "none")
        assert [sample.captions for sample in samples(source)] == [("",)] * count
        assert source.num_uncaptioned == count


def test_what_is_no_parquet_and_what_is_no_caption_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as Parquet"):
        open_source(tmp_path)
    write_table(tmp_path / "a.parquet", [{"image": encoded(picture(0)), "label": 3}])
    with pytest.raises(DataError, match=r"column 'label': its caption is '3', not a text"):
        open_source(tmp_path)
