"""Every problem that was put into a set is found under its name, and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictures import picture
from unclip.data import CheckConfig, CheckReport, check, open_source
from unclip.errors import DataError, InputError


def found(report: CheckReport) -> set[tuple[str, str]]:
    return {(finding.name, finding.problem) for finding in report.findings}


def redness(image: Image.Image) -> float:
    """A judge for the tests: the mean of red."""
    return float(np.asarray(image)[..., 0].mean()) / 255


@pytest.fixture
def captioned(album: Path) -> Path:
    """The album, with a caption for each picture."""
    for path in album.rglob("*.*"):
        path.with_suffix(".txt").write_text(f"the picture {path.name}")
    return album


def test_a_clean_set_has_no_findings(captioned: Path) -> None:
    report = check(open_source(captioned))
    assert (report.num_samples, report.num_bad, report.counts, report.findings) == (6, 0, {}, ())
    assert report.bad_share == 0


def test_each_problem_is_found(captioned: Path) -> None:
    picture(20, 300, 64).save(captioned / "wide.png")
    picture(21, 63, 90).save(captioned / "small.png")
    (captioned / "cut.png").write_bytes((captioned / "b.png").read_bytes()[:300])
    with Image.open(captioned / "dogs" / "e.f.png") as image:
        image.resize((96, 60)).save(captioned / "dogs" / "z.jpg", quality=70)
    (captioned / "dogs" / "z.txt").write_text("the same dog")
    report = check(open_source(captioned), CheckConfig(min_side=60))
    expected = {
        ("cut.png", "unreadable"),
        ("dogs/z.jpg", "duplicate"),
        ("wide.png", "uncaptioned"),
        ("wide.png", "aspect"),
        ("small.png", "uncaptioned"),
    }
    assert found(report) == expected
    assert report.counts == {"unreadable": 1, "duplicate": 1, "uncaptioned": 2, "aspect": 1}
    assert (report.num_bad, report.num_samples, report.bad_share) == (4, 10, 0.4)
    assert next(f.detail for f in report.findings if f.problem == "duplicate").startswith("looks like dogs/e.f.png (")
    assert ("small.png", "tiny") in found(check(open_source(captioned), CheckConfig(min_side=64)))
    assert found(check(open_source(captioned), CheckConfig(min_side=60, max_aspect=5))) == expected - {
        ("wide.png", "aspect")
    }


def test_a_set_meant_without_captions_is_not_blamed_for_it(album: Path) -> None:
    report = check(open_source(album, "none"))
    assert (report.num_bad, report.captions.num_uncaptioned, report.captions.words) == (0, 6, None)


def test_a_judge_of_the_caller_is_asked(captioned: Path) -> None:
    Image.new("RGB", (64, 64), (255, 10, 10)).save(captioned / "red.png")
    (captioned / "red.txt").write_text("red")
    report = check(open_source(captioned), CheckConfig(nsfw_threshold=0.9), nsfw=redness)
    assert found(report) == {("red.png", "nsfw")}
    assert report.findings[0].detail == "score 1.000, from 0.9 on"


def test_a_failing_score_is_no_problem_of_the_picture(captioned: Path) -> None:
    def broken(picture: Image.Image) -> float:
        raise DataError("its weights are missing")

    with pytest.raises(InputError, match=r"nsfw failed on .*: its weights are missing"):
        check(open_source(captioned), nsfw=broken)


def test_the_report_is_the_same_from_two_processes_and_survives_json(captioned: Path) -> None:
    calls: list[tuple[int, int]] = []
    (captioned / "cut.png").write_bytes(b"")
    report = check(open_source(captioned))
    assert check(open_source(captioned), None, lambda *call: calls.append(call), num_workers=2) == report
    assert calls == [(done, 7) for done in range(1, 8)]
    assert CheckReport.model_validate(json.loads(report.model_dump_json())) == report


def test_captions_are_counted(album: Path) -> None:
    long = "word " * 100
    for path, text in (("a", "A dog's ball\na dog"), ("b", "a dog"), ("dogs/d", long)):
        (album / f"{path}.txt").write_text(text)
    captions = check(open_source(album)).captions
    assert (captions.num_captions, captions.num_distinct, captions.num_uncaptioned) == (4, 3, 3)
    assert captions.words is not None
    assert captions.words.model_dump() == {"smallest": 2, "median": 2.5, "mean": 107 / 4, "largest": 100}
    assert captions.tokens is not None
    # Start, "a", "dog", end; the long one fills all 77.
    assert (captions.tokens.smallest, captions.tokens.largest, captions.num_cut) == (4, 77, 1)
    assert captions.frequent_words == {"word": 100, "a": 3, "dog": 2, "ball": 1, "dog's": 1}
    assert captions.repeated_captions == {"a dog": 2}


@pytest.mark.parametrize("changes", [{"min_side": 0}, {"max_aspect": 0.5}])
def test_settings_out_of_range_are_refused(album: Path, changes: dict[str, float]) -> None:
    with pytest.raises(InputError, match="use 1 or more"):
        check(open_source(album, "none"), CheckConfig.model_validate(changes))
