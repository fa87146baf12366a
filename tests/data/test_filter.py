"""Filtered sets: what stays is unchanged, and each removed sample has one first reason."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pictures import darkness, encoded, picture
from samples import samples
from shard_files import write_tar
from unclip.data import FilterConfig, Filtered, OptOut, Source, filter_samples, open_source
from unclip.errors import DataError, InputError


def finds_secrets(image: Image.Image, caption: str, fields: dict[str, Any]) -> str | None:
    """A hook for processes: whose captions, or fields, hold the word secret."""
    return "  a\nsecret " if "secret" in caption or "secret" in str(fields.get("note")) else None


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards of seven samples with captions, fields and pictures of several kinds."""
    files = {}
    for seed, key in enumerate("abcdefg"):
        form = ("PNG", "JPEG", "WEBP")[seed % 3]
        info = {"caption": f"picture {key}", "url": f"https://Cdn.Example.org:8080/{key}/1.png?v=2#x", "n": seed}
        files[key] = {
            f"dir/{key}.{form.lower()}": encoded(picture(seed), form),
            f"dir/{key}.json": json.dumps(info).encode(),
            f"dir/{key}.txt": f"The old-fashioned picture of {key.upper()}\n".encode(),
        }
    for number, keys in enumerate(("abcd", "efg")):
        write_tar(tmp_path / "shards" / f"{number}.tar", {k: v for key in keys for k, v in files[key].items()})
    return tmp_path / "shards"


def lists(tmp_path: Path, *lines: str) -> OptOut:
    (tmp_path / "list.txt").write_text("\n".join(lines))
    return OptOut.read([tmp_path / "list.txt"])


def removed(report: Filtered) -> dict[str, tuple[str, str]]:
    return {one.key: (one.reason, one.detail) for one in report.removed}


def test_what_stays_is_the_same_byte_for_byte_and_in_order(shards: Path, tmp_path: Path) -> None:
    source, calls = open_source(shards), list[tuple[int, int]]()
    report = filter_samples(source, tmp_path / "out", None, lambda *call: calls.append(call))
    assert (report.num_read, report.num_kept, report.removed) == (7, 7, ())
    assert report.counts == {"unreadable": 0, "duplicate": 0}
    assert calls == [(done, 7) for done in range(1, 8)]
    before, after = samples(source), samples(open_source(tmp_path / "out"))
    assert [one.key for one in after] == [f"dir/{key}" for key in "abcdefg"]
    for one, other in zip(before, after, strict=True):
        assert (one.picture, one.captions) == (other.picture, other.captions)
        assert other.info == {**one.info, "key": one.key, "captions": list(one.captions)}
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if "index" not in path.name) == [
        "data-000000.tar",
        "filter.json",
    ]


def test_shards_have_their_size_and_a_dry_run_writes_nothing(shards: Path, tmp_path: Path) -> None:
    config = FilterConfig(samples_per_shard=3)
    report = filter_samples(open_source(shards), tmp_path / "out", config)
    assert len(list((tmp_path / "out").glob("*.tar"))) == 3
    before = sorted(tmp_path.rglob("*"))
    assert filter_samples(open_source(shards), None, config) == report
    assert sorted(tmp_path.rglob("*")) == before


def test_each_removed_sample_has_the_first_reason(shards: Path, tmp_path: Path) -> None:
    black, copy = encoded(Image.new("RGB", (64, 64))), encoded(picture(4).resize((96, 96)))
    write_tar(
        shards / "2.tar",
        {
            "black.png": black, "black.txt": b"secret", "listed.png": black, "listed.txt": b"b",
            "cut.png": black[:60], "cut.txt": b"c", "secret.png": encoded(picture(20)),
            "secret.json": b'{"note": "secret"}', "copy.png": copy, "copy.txt": b"f", "none.txt": b"no picture",
        },
    )  # fmt: skip
    out, known = tmp_path / "out", {"nsfw": darkness, "hook": finds_secrets}
    config = FilterConfig(nsfw_threshold=1.0)
    opt_out = lists(tmp_path, "# a comment", "listed.jpg")
    report = filter_samples(open_source(shards), out, config, opt_out=opt_out, **known)  # type: ignore[arg-type]
    found = removed(report)
    assert found["listed"] == ("opt_out", "name in list.txt:2")
    assert found["cut"][0] == found["none"][0] == "unreadable"
    assert "no picture" in found["none"][1]
    # Also a copy of what is opted out, and its caption is secret: the first reason counts.
    assert found["black"] == ("nsfw", "score 1.000, from 1 on")
    assert found["secret"] == ("hook", "a secret")
    assert found["copy"][0] == "duplicate"
    assert found["copy"][1].startswith("looks like dir/e (")
    assert (report.num_read, report.num_kept, len(found)) == (13, 7, 6)
    assert report.counts == {"opt_out": 1, "unreadable": 2, "nsfw": 1, "hook": 1, "duplicate": 1}
    assert report.counts_text == "1 opt-out, 2 unreadable, 1 nsfw, 1 hook, 1 duplicate"
    written = Filtered.model_validate_json((out / "filter.json").read_text())
    assert written == report
    hashes = {one.key: one.sha256 for one in written.removed}
    assert (hashes["black"], hashes["none"]) == (hashlib.sha256(black).hexdigest(), None)
    assert "old-fashioned" not in (out / "filter.json").read_text()
    again = filter_samples(open_source(shards), tmp_path / "two", config, opt_out=opt_out, num_workers=2, **known)  # type: ignore[arg-type]
    assert again == report
    assert (tmp_path / "two" / "data-000000.tar").read_bytes() == (out / "data-000000.tar").read_bytes()


def test_of_copies_the_first_stays_but_none_of_what_is_opted_out(shards: Path, tmp_path: Path) -> None:
    copies = {f"{key}.jpg": encoded(picture(seed), "JPEG") for key, seed in (("y", 3), ("z", 0))}
    write_tar(shards / "2.tar", {**copies, "y.txt": b"y", "z.txt": b"z"})
    found = removed(filter_samples(open_source(shards), None))
    assert {key: reason for key, (reason, _) in found.items()} == {"y": "duplicate", "z": "duplicate"}
    found = removed(filter_samples(open_source(shards), None, opt_out=lists(tmp_path, "y.jpg")))
    assert {key: reason for key, (reason, _) in found.items()} == {"dir/d": "opt_out", "y": "opt_out", "z": "duplicate"}
    assert found["dir/d"][1].startswith("looks like y (")
    assert filter_samples(open_source(shards), None, FilterConfig(max_distance=None)).removed == ()


@pytest.mark.parametrize(
    ("entry", "keys"),
    [
        ("https://cdn.example.org:8080/a/1.png?v=2", "a"),
        ("http://user@CDN.example.org:8080/a/1.png?v=2#other", "a"),
        ("https://cdn.example.org:8080/a/1.png", ""),
        ("https://cdn.example.org:8080/A/1.png?v=2", ""),
        ("https://cdn.example.org:8080/b/", "b"),
        ("https://cdn.example.org:8080/b", ""),
        ("https://cdn.example.org:8080", "abcdefg"),
        ("https://cdn.example.org", ""),
        ("example.org", "abcdefg"),
        ("CDN.Example.Org  # their pictures", "abcdefg"),
        ("ample.org", ""),
        ("dir/c", "c"),
        ("C.webp", "c"),
        ("ir/c", ""),
        ("d", "d"),
        ("old Fashioned PICTURE", ""),
        ("Old-Fashioned picture of a", "a"),
        ("picture, of", "abcdefg"),
        ("fashioned", ""),
        ("old-fashioned of", ""),
    ],
)
def test_an_entry_matches_what_it_says(shards: Path, tmp_path: Path, entry: str, keys: str) -> None:
    report = filter_samples(open_source(shards), None, FilterConfig(max_distance=None), opt_out=lists(tmp_path, entry))
    assert removed(report).keys() == {f"dir/{key}" for key in keys}
    assert {reason for reason, _ in removed(report).values()} <= {"opt_out"}


def test_a_hash_is_of_the_file_or_of_the_file_before_it_was_scaled(shards: Path, tmp_path: Path) -> None:
    first, *_ = samples(open_source(shards))
    original = "0f" * 32
    write_tar(shards / "2.tar", {"x.png": encoded(picture(9)), "x.json": json.dumps({"sha256": original}).encode()})
    opt_out = lists(tmp_path, original.upper(), hashlib.sha256(first.picture).hexdigest())
    report = filter_samples(open_source(shards), None, opt_out=opt_out)
    assert removed(report) == {
        "dir/a": ("opt_out", "sha256 in list.txt:2"),
        "x": ("opt_out", "sha256 in list.txt:1"),
    }
    assert report.opt_out == {"sha256": 2, "url": 0, "domain": 0, "name": 0, "words": 0}


@pytest.mark.parametrize("entry", ["https://b.org/page", "https://b.org/page/", "https://b.org/", "http://b.org"])
def test_a_last_slash_of_a_sample_does_not_matter(shards: Path, tmp_path: Path, entry: str) -> None:
    files = {"x.png": encoded(picture(9)), "x.json": b'{"page": "HTTPS://B.org/page/", "text": "see https://c.org"}'}
    write_tar(shards / "2.tar", files)
    report = filter_samples(open_source(shards), None, opt_out=lists(tmp_path, entry, "c.org"))
    assert removed(report) == {"x": ("opt_out", "url in list.txt:1")}


def test_a_damaged_picture_on_a_list_is_opted_out(shards: Path, tmp_path: Path) -> None:
    write_tar(shards / "2.tar", {"cut.png": encoded(picture(1))[:60], "cut.txt": b"c"})
    report = filter_samples(open_source(shards), None, opt_out=lists(tmp_path, "cut.png"))
    assert removed(report) == {"cut": ("opt_out", "name in list.txt:1")}


def test_pictures_of_other_formats_are_unreadable_to_shards(tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    for number, form in enumerate(("GIF", "BMP", "TIFF", "AVIF", "PPM")):
        file = io.BytesIO()
        picture(number).save(file, form)
        (tmp_path / "album" / f"{form.lower()}.png").write_bytes(file.getvalue())
    report = filter_samples(open_source(tmp_path / "album", "none"), tmp_path / "out")
    assert [one.key for one in samples(open_source(tmp_path / "out"))] == ["avif", "bmp", "gif", "tiff"]
    assert removed(report)["ppm"][1].startswith("not a picture of a kind that shards hold")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# nothing\n\n", "has no entry"),
        (b"a cat\n!!!\n", r"list.txt, line 2: '!!!' holds no word"),
        (b"\xff\x00", r"cannot be read \(its text is not UTF-8\)"),
        (None, r"cannot be read \(No such file"),
    ],
)
def test_a_list_that_says_nothing_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises((DataError, InputError), match=message):
        OptOut.read([tmp_path / "list.txt"])


@pytest.mark.parametrize(
    "changes",
    [{"nsfw_threshold": -0.1}, {"nsfw_threshold": 1.5}, {"nsfw_threshold": float("nan")}, {"max_distance": 17},
     {"max_distance": -1}, {"samples_per_shard": 0}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(shards: Path, changes: dict[str, float]) -> None:
    with pytest.raises(InputError, match="use a threshold of 0 to 1, 0 to 16 bits"):
        filter_samples(open_source(shards), None, FilterConfig.model_validate(changes))


def test_functions_that_fail_name_the_sample_in_one_line(shards: Path, tmp_path: Path) -> None:
    def breaks(*_: object) -> None:
        raise KeyError("x")

    cases: list[tuple[dict[str, Any], str]] = [
        ({"hook": breaks}, r"^hook failed on 0.tar dir/a: KeyError: 'x'; correct the function\.$"),
        ({"hook": lambda *_: 3}, r"^hook returned 3 for 0.tar dir/a; it must return a reason as a text, or None\.$"),
        ({"hook": lambda *_: " "}, "^hook returned ' '"),
        ({"nsfw": breaks}, "^nsfw failed on 0.tar dir/a: KeyError"),
        ({"nsfw": lambda _: float("nan")}, "^nsfw returned nan for 0.tar dir/a; it must return a number of 0 to 1"),
        ({"nsfw": lambda _: "0.3"}, "^nsfw returned '0.3'"),
    ]
    for functions, message in cases:
        with pytest.raises(InputError, match=message):
            filter_samples(open_source(shards), tmp_path / "out", **functions)
    assert not (tmp_path / "out").exists()


def test_the_hook_is_given_all_captions_and_fields(shards: Path) -> None:
    write_tar(shards / "2.tar", {"x.png": encoded(picture(9)), "x.json": b'{"captions": ["one", "two"], "n": 1}'})
    calls = []
    filter_samples(open_source(shards), None, hook=lambda *call: calls.append(call))
    image, caption, fields = calls[-1]
    assert (image.size, image.mode) == ((64, 64), "RGB")
    assert (caption, fields) == ("one\ntwo", {"captions": ["one", "two"], "n": 1, "key": "x"})


def test_nothing_left_and_an_old_folder_are_refused(shards: Path, tmp_path: Path) -> None:
    opt_out = lists(tmp_path, "picture")
    with pytest.raises(DataError, match=r"all 7 samples would be removed \(7 opt-out, 0 unreadable, 0 duplicate\)"):
        filter_samples(open_source(shards), tmp_path / "out", opt_out=opt_out)
    assert not (tmp_path / "out").exists()
    assert filter_samples(open_source(shards), None, opt_out=opt_out).num_kept == 0
    with pytest.raises(InputError, match="exists already"):
        filter_samples(open_source(shards), shards)


def test_a_set_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    for seed, name in enumerate("ab"):
        picture(seed).save(tmp_path / "album" / f"{name}.png")
    source: Source = open_source(tmp_path / "album", "none")

    def overwrite(image: Image.Image, caption: str, fields: dict[str, Any]) -> None:
        picture(7).save(tmp_path / "album" / "a.png")

    with pytest.raises(DataError, match=r"^a.png was changed while the set was filtered"):
        filter_samples(source, tmp_path / "out", hook=overwrite)
    assert not (tmp_path / "out").exists()
