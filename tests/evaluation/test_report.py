"""Reports: pages that parse, hold what was put in, and need no other file."""

import base64
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from pictures import picture
from unclip.errors import InputError
from unclip.evaluation import Line, Report, svg_plot

HOSTILE = 'a <b> & "c" | [d]\x00 é'


def tree(page: str) -> ElementTree.Element:
    return ElementTree.fromstring(page)


def texts(page: str, tag: str) -> list[str]:
    return ["".join(element.itertext()) for element in tree(page).iter(tag)]


@pytest.fixture
def report() -> Report:
    made = Report(f"About {HOSTILE}")
    made.heading("Losses")
    made.text(HOSTILE)
    made.table(("name", "count", "value"), [(HOSTILE, 12345, 0.1234567), ("b", 1, 2.0)])
    made.plot("loss", [Line("train", [1, 2, 3], [3.0, 2.0, 1.5]), Line("held out", [2.0], [2.5])], "seen", "loss")
    made.pictures([picture(1), picture(2, 200, 120)], [HOSTILE, "second"])
    return made


def test_the_page_is_well_formed_and_holds_every_text(report: Report) -> None:
    page = report.html()
    safe = HOSTILE.replace("\x00", " ")
    assert texts(page, "h1") == texts(page, "title") == [f"About {safe}"]
    assert texts(page, "p") == [safe]
    assert texts(page, "td") == [safe, "12,345", "0.1235", "b", "1", "2"]
    assert texts(page, "figcaption") == ["loss", safe, "second"]


def test_the_page_needs_nothing_from_elsewhere(report: Report) -> None:
    page = report.html()
    assert "<script" not in page
    assert "<link" not in page
    addresses = set(re.findall(r"https?://[^\"'\s]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # A name, which is not fetched.


def test_embedded_pictures_are_the_ones_given(report: Report) -> None:
    sources = [image.attrib["src"] for image in tree(report.html()).iter("img")]
    for source, given in zip(sources, (picture(1), picture(2, 200, 120)), strict=True):
        kind, _, data = source.partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            np.testing.assert_array_equal(np.asarray(image), np.asarray(given))


def test_markdown_refers_to_files_that_are_there(report: Report, tmp_path: Path) -> None:
    path = report.save(tmp_path)
    assert (path.name, path.read_text()) == ("report.html", report.html())
    page = (tmp_path / "report.md").read_text()
    files = re.findall(r"\]\((report_files/[^)]+)\)", page)
    assert sorted(files) == sorted(str(file.relative_to(tmp_path)) for file in tmp_path.glob("report_files/*"))
    assert len(files) == 3
    assert '| a <b> & "c" \\| [d]' in page
    assert "| b | 1 | 2 |" in page
    assert tree((tmp_path / "report_files" / "01.svg").read_text()).tag == "{http://www.w3.org/2000/svg}svg"


def test_uneven_blocks_are_refused() -> None:
    with pytest.raises(InputError, match="a row of the table"):
        Report("x").table(("a", "b"), [(1,)])
    with pytest.raises(InputError, match="2 pictures and 1 captions"):
        Report("x").pictures([picture(1), picture(2)], ["one"])


def polylines(svg: str) -> list[list[tuple[float, float]]]:
    found = tree(svg).iter("{http://www.w3.org/2000/svg}polyline")
    return [[tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()] for line in found]  # type: ignore[misc]


def test_a_plot_maps_values_to_places_linearly() -> None:
    [line] = polylines(svg_plot([Line("a", [0, 5, 10], [0.0, 1.0, 4.0])], "x", "y"))
    xs, ys = zip(*line, strict=True)
    assert xs[1] == pytest.approx((xs[0] + xs[2]) / 2, abs=0.1)
    assert (ys[0] - ys[1]) / (ys[0] - ys[2]) == pytest.approx(0.25, abs=0.01)
    assert all(0 <= x <= 640 for x in xs)
    assert all(0 <= y <= 260 for y in ys)


def test_a_plot_of_a_wide_range_is_logarithmic() -> None:
    [line] = polylines(svg_plot([Line("a", [0, 1, 2], [1.0, 10.0, 100.0])], "x", "y"))
    ys = [y for _, y in line]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)


@pytest.mark.parametrize("values", [[], [2.0], [3.0, 3.0], [0.0, 0.0], [float("nan"), 1.0, float("inf")], [-5.0, 5.0]])
def test_any_values_make_a_plot(values: list[float]) -> None:
    svg = svg_plot([Line("a & b", list(range(len(values))), values)], "x", "y")
    finite = [value for value in values if np.isfinite(value)]
    assert [len(line) for line in polylines(svg)] == ([len(finite)] if finite else [])
    assert "nan" not in svg
    assert "inf" not in svg
