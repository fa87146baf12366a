"""Every way in which people keep captioned pictures is recognised, told, and read with its own captions."""

import csv
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pictures import encoded, picture
from PIL import Image
from samples import captions, samples

from unclip.data import Broken, Sample, open_source
from unclip.errors import DataError, InputError, UnclipError


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)


def test_text_files_hold_one_caption_a_line(album: Path) -> None:
    (album / "a.txt").write_text("\ufeffa red door\r\n\r\n  an old door \na red door\n", encoding="utf-8")
    (album / "dogs" / "e.f.txt").write_text("zwei Hunde über Gräsern", encoding="utf-8")
    source = open_source(album)
    assert (source.description, source.num_uncaptioned) == ("6 pictures with .txt captions", 4)
    assert list(source.names) == ["a.jpg", "b.png", "cats/c.jpg", "cats/c.png", "dogs/d.webp", "dogs/e.f.png"]
    assert captions(source) == {
        "a": ("a red door", "an old door"),
        "b": ("",),
        "cats/c": ("",),
        "cats/c-2": ("",),
        "dogs/d": ("",),
        "dogs/e_f": ("zwei Hunde über Gräsern",),
    }
    assert samples(source)[0].picture == (album / "a.jpg").read_bytes()


def test_folder_names_are_captions(album: Path) -> None:
    (album / "a.jpg").unlink()
    (album / "b.png").unlink()
    (album / "dogs").rename(album / "golden_retriever")
    source = open_source(album)
    assert (source.description, source.num_uncaptioned) == ("4 pictures, captions from 2 folder names", 0)
    assert set(captions(source).values()) == {("golden retriever",), ("cats",)}


def test_hidden_files_are_no_pictures(album: Path) -> None:
    (album / "._a.png").write_bytes(b"finder")
    (album / ".thumbnails").mkdir()
    (album / "b.png").rename(album / ".thumbnails" / "b.png")
    assert len(open_source(album, "none")) == 5


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_rows_that_name_a_picture_are_joined(album: Path, suffix: str) -> None:
    rows = [
        {"file_name": "b.png", "Text": 'a "b", quoted', "year": "1999"},
        {"file_name": "dogs/e.f.png", "Text": "a dog", "year": "2001"},
        {"file_name": "b.png", "Text": "the letter b", "year": "1999"},
        {"file_name": "a.jpg", "Text": " ", "year": ""},
    ]
    write_table(album / f"captions{suffix}", rows)
    source = open_source(album)
    told = f"3 pictures of captions{suffix} (pictures from column 'file_name', captions from 'Text')"
    assert (source.description, source.num_uncaptioned) == (told, 1)
    assert captions(source) == {
        "b": ('a "b", quoted', "the letter b"),
        "dogs/e_f": ("a dog",),
        "a": ("",),
    }
    assert [sample.info for sample in samples(source)] == [{"year": "1999"}, {"year": "2001"}, {"year": ""}]
    assert captions(open_source(album / f"captions{suffix}")) == captions(source)


def test_lists_of_captions_and_other_columns(album: Path) -> None:
    write_table(album / "x.jsonl", [{"pic": "b.png", "words": ["one", "two"], "caption": "no"}])
    source = open_source(album, image_column="pic", caption_column="words")
    assert captions(source) == {"b": ("one", "two")}
    assert samples(source)[0].info == {"caption": "no"}


def test_metadata_tables_of_folders_are_joined(album: Path) -> None:
    write_table(album / "dogs" / "metadata.csv", [{"file_name": "d.webp", "text": "a dog"}])
    write_table(album / "cats" / "metadata.jsonl", [{"file_name": "c.png", "text": "a cat"}])
    assert captions(open_source(album)) == {"dogs/d": ("a dog",), "cats/c": ("a cat",)}


def test_shards_of_img2dataset_win_over_their_tables(tmp_path: Path) -> None:
    content = encoded(picture(0), "JPEG")
    facts = {"url": "https://example.org/0.jpg", "caption": "a cat", "status": "success"}
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        files = [("jpg", content), ("json", json.dumps(facts).encode()), ("txt", b"a cat")]
        for key, kinds in (("000000000", files), ("000000001", files[:2]), ("000000002", files[1:])):
            for suffix, data in kinds:
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    (tmp_path / "00000.parquet").write_bytes(b"facts of img2dataset")
    for place in (tmp_path, tmp_path / "00000.tar", tmp_path.as_uri()):
        source = open_source(place)
        assert (source.description, source.num_uncaptioned) == ("1 shards with 3 samples", 0)
        first, second, broken = source
        assert isinstance(first, Sample)
        assert (first.key, first.picture, first.captions, first.info) == ("000000000", content, ("a cat",), facts)
        assert isinstance(second, Sample)
        assert second.captions == ("a cat",)
        assert isinstance(broken, Broken)
        assert broken.name == "00000.tar 000000002"
        assert "no picture" in broken.reason


def test_what_is_missing_is_broken_and_named(album: Path) -> None:
    write_table(album / "x.csv", [{"image": "b.png", "text": "b"}, {"image": "gone.png", "text": "gone"}])
    good, broken = open_source(album)
    assert isinstance(good, Sample)
    assert isinstance(broken, Broken)
    assert (broken.name, "No such file" in broken.reason) == ("gone.png", True)


def test_what_is_asked_for_overrules_what_is_found(album: Path) -> None:
    (album / "a.txt").write_text("from the file")
    write_table(album / "x.csv", [{"image": "a.jpg", "text": "from the table"}])
    assert captions(open_source(album, "txt"))["a"] == ("from the file",)
    assert captions(open_source(album, "table")) == {"a": ("from the table",)}
    assert captions(open_source(album, "folders"))["dogs/d"] == ("dogs",)
    with pytest.raises(DataError, match=r"x\.csv and also \.txt files beside pictures; say captions='table' or 'txt'"):
        open_source(album)


@pytest.mark.parametrize(
    ("files", "asked", "message"),
    [
        ({}, None, "holds no picture, table or .tar shard"),
        ({"a.png": b""}, None, "1 pictures and no captions; say captions="),
        ({"x/a.png": b"", "a.png": b"", "y/a.png": b""}, None, "3 pictures and no captions"),
        ({"a.png": b""}, "text", "captions='text' is unknown; did you mean 'txt'?"),
        ({"a.png": b""}, "table", "holds no table"),
        ({"a.csv": b"image,text\n", "b.tsv": b""}, None, "holds 2 tables (a.csv, b.tsv); name the one"),
        ({"a.csv": b"url,text\nhttps://a,b\n"}, None, "holds URLs, not pictures; fetch them with img2dataset"),
        ({"a.csv": b"picture,words\na.png,b\n"}, None, "has columns picture, words; name the one of captions by"),
        ({"a.csv": b"image,text\na.png,b\n"}, None, "names 1 pictures, such as "),
        ({"a.csv": b"image,text\na.png,b, c\n"}, None, "line 2 has more cells than the header; quote captions"),
        ({"a.csv": b"image,text\n,b\n"}, None, "row 1 names no picture in column 'image'"),
        ({"a.csv": b"image,text\n"}, None, "has no rows"),
        ({"a.csv": b"image,text\na.png,\xff\n"}, None, "save it again as UTF-8"),
        ({"a.jsonl": b"[1]\n"}, None, "a line is '[1]', not an object"),
        ({"a.jsonl": b'{"image": "a.png", "text": 5}\n'}, None, "row 1: its caption is '5', not a text"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, files: dict[str, bytes], asked: str | None, message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UnclipError) as raised:
        open_source(tmp_path, asked)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_places_that_are_no_set_are_refused(album: Path) -> None:
    for place, asked, message in (
        (album / "gone", None, "there is no"),
        (album / "b.png", None, "is one picture; give its folder, /"),
        (Path(__file__), None, "is not a set"),
        (album / "gone.tar", "txt", "holds shards, so captions='txt' does not fit"),
    ):
        with pytest.raises(InputError, match=message):
            open_source(place, asked)
    with pytest.raises(DataError, match=r"has no column 'Caption' \(caption_column\); did you mean 'caption'"):
        write_table(album / "x.csv", [{"image": "b.png", "caption": "b"}])
        open_source(album, caption_column="Caption")


def test_pictures_are_read_when_asked_for(album: Path) -> None:
    source = open_source(album, "none")
    Image.new("RGB", (3, 3)).save(album / "a.jpg")
    assert samples(source)[0].picture == (album / "a.jpg").read_bytes()
