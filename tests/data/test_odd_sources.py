"""Sets as other programs and other systems leave them: nothing is passed over, misread or a traceback."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pictures import encoded, picture
from samples import captions, samples
from shard_files import write_tar

from unclip.data import Broken, PrepareConfig, Sample, ShardSet, Source, check, open_source, prepare
from unclip.errors import DataError, InputError, UnclipError

WHOLE = encoded(picture(0), "JPEG")


def folder_of(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_files_of_img2dataset_are_pictures_and_its_tables_of_addresses_are_not(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for shard in ("00000", "00001"):
        key = f"{shard}0000"
        files = {f"{shard}/{key}.jpg": WHOLE, f"{shard}/{key}.txt": b"a cat", f"{shard}/{key}.json": b"{}"}
        folder_of(tmp_path, {**files, f"{shard}_stats.json": b"{}"})
        table = arrow.Table.from_pylist([{"url": "https://a", "caption": "a cat", "key": key, "status": "success"}])
        parquet.write_table(table, tmp_path / f"{shard}.parquet")
    source = open_source(tmp_path)
    assert source.description == "2 pictures with .txt captions"
    assert captions(source) == {"00000/000000000": ("a cat",), "00001/000010000": ("a cat",)}
    with pytest.raises(DataError, match="holds URLs, not pictures"):
        open_source(tmp_path / "00000.parquet")


@pytest.mark.parametrize(
    ("files", "column", "told", "expected"),
    [
        ({"a.caption": b"a cat"}, None, "1 pictures with .caption captions", "a cat"),
        ({"a.json": b'{"prompt": "a cat"}'}, None, "1 pictures with .json captions", "a cat"),
        ({"a.json": b'{"blip": "a cat"}', "a.txt": b"a dog"}, "blip", "with .json captions from 'blip'", "a cat"),
        ({"a.txt": b" ", "a.json": b'{"caption": ["a cat"]}'}, None, "1 pictures with .txt captions", "a cat"),
        ({"a.txt": "\ufeffa cat".encode("utf-16-le")}, None, "1 pictures with .txt captions", "a cat"),
        ({"x.csv": b"\xef\xbb\xbffile_name,text\na.jpg,\xef\xbb\xbfa cat\n"}, None, "1 pictures of x.csv", "a cat"),
        ({"x.csv": "file_name,text\na.jpg,a cat\n".encode("utf-16")}, None, "1 pictures of x.csv", "a cat"),
        ({"x.jsonl": b'\xef\xbb\xbf{"file_name": "a.jpg", "text": "a cat"}\n'}, None, "1 pictures of x.jsonl", "a cat"),
        ({"x.jsonl": b'{"file_name": "a.jpg", "text": "\\udc00 cat"}\n'}, None, "of x.jsonl", "\ufffd cat"),
        ({"x.csv": b"file_name,v\na.jpg,a cat\n"}, "v", "captions from 'v'", "a cat"),
    ],
)
def test_captions_beside_a_picture(
    tmp_path: Path, files: dict[str, bytes], column: str | None, told: str, expected: str
) -> None:
    source = open_source(folder_of(tmp_path / "set", {"a.jpg": WHOLE, **files}), caption_column=column)
    assert told in source.description
    assert (source.num_uncaptioned, captions(source)) == (0, {"a": (expected,)})
    prepare(source, tmp_path / "out", PrepareConfig(image_size=16))
    assert ShardSet.open(tmp_path / "out").sample(0).captions == (expected,)


def test_annotations_of_other_kinds_are_no_captions(tmp_path: Path) -> None:
    boxes = json.dumps({"shapes": [], "label": 3, "caption": {"x": 1}}).encode()
    folder_of(
        tmp_path, {"a.jpg": WHOLE, "a.json": boxes, "b.jpg": WHOLE, "b.json": b"[1]", "c.jpg": WHOLE, "c.json": b"{"}
    )
    with pytest.raises(DataError, match="3 pictures and no captions"):
        open_source(tmp_path)
    source = open_source(tmp_path, "txt")
    assert source.num_uncaptioned == 3
    assert set(captions(source).values()) == {("",)}


@pytest.mark.parametrize(
    ("members", "column", "told", "num_uncaptioned"),
    [
        ({"cls": b"7"}, None, "2 samples; one of cls may be named as caption_column", 2),
        ({"json": b'{"note": "a cat", "width": 3}'}, None, "one of note may be named as caption_column", 2),
        ({"json": b'{"note": "a cat"}'}, "note", "1 shards with 2 samples, captions from 'note'", 0),
        ({"prompt": b"a cat"}, None, "1 shards with 2 samples", 2),
    ],
)
def test_shards_without_captions_say_so_first(
    tmp_path: Path, members: dict[str, bytes], column: str | None, told: str, num_uncaptioned: int
) -> None:
    files = {f"{key}.{suffix}": content for key in "ab" for suffix, content in {"jpg": WHOLE, **members}.items()}
    write_tar(tmp_path / "a.tar", files)
    source = open_source(tmp_path, caption_column=column)
    assert told in source.description
    assert source.num_uncaptioned == num_uncaptioned == check(source).captions.num_uncaptioned


def test_columns_that_no_sample_has_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "tars" / "a.tar", {"a.jpg": WHOLE, "a.json": b'{"note": "a cat"}'})
    folder_of(tmp_path / "files", {"a.jpg": WHOLE, "a.json": b'{"note": "a cat"}'})
    for place, options, message in (
        ("tars", {"caption_column": "nota"}, r"'nota' \(caption_column\); fields: note"),
        ("tars", {"image_column": "x"}, "leave out --image-column"),
        ("files", {"caption_column": "nota"}, "has texts in 'nota'; change --caption-column"),
        ("files", {"image_column": "x"}, r"image_column='x' does not fit"),
        ("files", {"captions": "folders", "caption_column": "x"}, "has no columns"),
    ):
        with pytest.raises(UnclipError, match=message):
            open_source(tmp_path / place, **options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b'image,text\na.jpg,"a dog\nb.jpg,a cat\nc.jpg,x\n', "the row of line 2 is not whole"),
        ("x.csv", b'image,text\na.jpg,a\nb.jpg,"a dog\nc.jpg,"a cat"\n', "the row of line 3 is not whole"),
        ("x.csv", b'image,text\na.jpg,"a dog\nb.jpg,a cat"\n', "line 2 goes on to line 3 and takes in that of b.jpg"),
        ("x.tsv", b'image\ttext\na.jpg\t"a dog\nb.jpg\ta cat"\n', "takes in that of b.jpg"),
        ("x.csv", b'image,text\na.jpg,"a "big" dog"\n', "the row of line 2 is not whole"),
        ("x.jsonl", b'{"image": "a.jpg", "text": ""}\n\n{"image": }\n', "line 3: Expecting value"),
        ("x.jsonl", b'{"image": "a.jpg", "text": ""}\n' + b"[" * 200_000, "line 2: maximum recursion depth"),
        ("x.jsonl", b'{"image": "a.jpg", "text": ""}\n[1]\n', "line 2: a line is '[1]', not an object"),
        ("x.csv", b"image,text\n" + b"iVBOR/w0KGgo" * 999 + b",a\n", "row 1 holds 'iVBOR/w0KGgo"),
        ("x.jsonl", b'{"image": "a\\u0000b.jpg", "text": "a"}\n', "which is no path"),
        ("x.csv", b"image,text\nhttps://a.b/c.jpg,a\n", "row 1 holds 'https://a.b/c.jpg' in column 'image'"),
        ("x.csv", b"image,text\na.jpg,caf\xe9\n", "save it again as UTF-8"),
    ],
)
def test_damaged_tables_are_refused_with_the_row(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    folder_of(tmp_path, {"a.jpg": WHOLE, "b.jpg": WHOLE, "c.jpg": WHOLE, name: content})
    with pytest.raises(DataError) as error:
        open_source(tmp_path, "table")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_cell_may_hold_lines(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a.jpg": WHOLE, "x.csv": b'image,text\na.jpg,"one, or\ntwo, ""or"" three"\n'})
    assert captions(open_source(tmp_path)) == {"a": ('one, or\ntwo, "or" three',)}


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    folder_of(tmp_path, {"elsewhere/cats/a.jpg": WHOLE, "set/dogs/b.jpg": WHOLE})
    (tmp_path / "set" / "cats").symlink_to(tmp_path / "elsewhere" / "cats", target_is_directory=True)
    (tmp_path / "set" / "dogs" / "up").symlink_to(tmp_path / "set", target_is_directory=True)
    (tmp_path / "set" / "dogs" / "c.jpg").symlink_to(tmp_path / "elsewhere" / "cats" / "a.jpg")
    (tmp_path / "set" / "dogs" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = list(open_source(tmp_path / "set"))
    texts = {item.key: item.captions for item in found if isinstance(item, Sample)}
    assert texts == {"cats/a": ("cats",), "dogs/b": ("dogs",), "dogs/c": ("dogs",)}
    assert [item.name for item in found if isinstance(item, Broken)] == ["dogs/gone.jpg"]
    (tmp_path / "set" / "cats" / "metadata.csv").write_text("file_name,text\na.jpg,a linked cat\n")
    assert captions(open_source(tmp_path / "set")) == {"cats/a": ("a linked cat",)}


NAMES = (
    "__thumbs__/a.jpg",
    "__thumbs__/__b__/a.jpg",
    "x/.jpg.JPG",
    "x/a..b.PNG",
    "new\nline.jpg",
    "a\tb.Jpeg",
    "ü ?*[\\].jpg",
)


@pytest.mark.parametrize("kind", ["none", "table"])
def test_what_is_written_is_read_whatever_its_name(tmp_path: Path, kind: str) -> None:
    rows = [json.dumps({"file_name": name, "text": name}) for name in NAMES if "\n" not in name]
    folder_of(tmp_path / "set", dict.fromkeys(NAMES, WHOLE) | {"x.jsonl": "\n".join(rows).encode()})
    source = open_source(tmp_path / "set", kind)
    prepare(source, tmp_path / "out", PrepareConfig(image_size=16))
    shards = ShardSet.open(tmp_path / "out")
    assert sorted(shards.keys) == sorted(source.keys)
    # A folder passes over hidden files, and no table names a file with a line break.
    assert len(shards) == len(NAMES) - 1
    assert all(shards.sample(index).picture for index in range(len(shards)))


def test_names_and_folders_in_latin_1(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path) + b"/set/caf\xe9"
    os.makedirs(place)
    for name in (b"\xe9t\xe9.jpg", b"\xe9t\xe8.jpg"):
        with open(place + b"/" + name, "wb") as file:
            file.write(WHOLE)
    with open(place + b"/bro\xfe.jpg", "wb") as file:
        file.write(b"no picture")
    source = open_source(tmp_path / "set", "folders")
    assert sorted(source.names) == ["café/broþ.jpg", "café/étè.jpg", "café/été.jpg"]
    done = prepare(source, tmp_path / "out", PrepareConfig(image_size=16))
    assert (done.num_written, done.num_skipped) == (2, 1)
    shards = ShardSet.open(tmp_path / "out")
    assert sorted(shards.keys) == sorted(["café/été", "café/étè"])
    assert shards.sample(0).captions == ("café",)


def test_sources_made_by_hand_need_keys_that_a_shard_can_hold(tmp_path: Path) -> None:
    source = open_source(folder_of(tmp_path / "set", {"a.jpg": WHOLE}), "none")
    for key in ("a.b", "__x__/a", "a\udce9"):
        odd = Source(description="", names=["a"], keys=[key], num_uncaptioned=None, read=source.read)
        with pytest.raises(InputError, match="is not valid in a shard"):
            prepare(odd, tmp_path / "out", PrepareConfig(image_size=16))
    assert not (tmp_path / "out").exists()


def test_a_set_may_be_named_in_any_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path / "set", {"a.jpg": WHOLE, "b/c.jpg": WHOLE})
    write_tar(tmp_path / "tars" / "a.tar", {"a.jpg": WHOLE})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "set" / "b")
    for place, count in ((".", 1), ("..", 2), ("../", 2), ("~/set", 2), ("~/set/", 2), (f"{tmp_path}/set//b/", 1)):
        assert len(open_source(place, "none")) == count, place
    for place in ("~/tars", "~/tars/", "~/tars/a.tar", (tmp_path / "tars").as_uri()):
        assert [sample.key for sample in samples(open_source(place))] == ["a"]
    for place, message in (
        ("c.jpg", f"c.jpg is one picture; give its folder, {tmp_path}/set/b"),
        ("~nobody-of-this-name/x", "cannot be opened"),
        ("x" * 300, "cannot be opened"),
        ("a\0b", "there is no"),
    ):
        with pytest.raises(InputError) as error:
            open_source(place)
        assert message in str(error.value)


def test_a_folder_that_may_not_be_read_is_named(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan: Any = os.scandir

    def refusing(place: Any) -> Any:
        if str(place).endswith("dogs"):
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match=r"dogs cannot be read \(Permission denied\)"):
        open_source(album)
