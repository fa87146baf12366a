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
from unclip.report import Line, Report, svg_plot

HOSTILE = 'a <b> & "c" | [d]\x00 é'


def tree(page: str) -> ElementTree.Element:
    return ElementTree.fromstring(page)


def texts(page: str, tag: str) -> list[str]:
    return ["".join(element.itertext()) for element in tree(page).iter(tag)]


@pytest.fixture
def report() -> Report:
    page = Report(f"About {HOSTILE}")
    page.heading("Losses")
    page.text(HOSTILE)
    page.table(("name", "count", "value"), [(HOSTILE, 12345, 0.1234567), ("b", 1, 2.0)])
    page.plot("loss", [Line("train", [1, 2, 3], [3.0, 2.0, 1.5]), Line("held out", [2.0], [2.5])], "seen", "loss")
    page.pictures([picture(1), picture(2, 200, 120)], [HOSTILE, "second"])
    return page


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


def inside(svg: str, tag: str) -> list[ElementTree.Element]:
    return list(tree(svg).iter(f"{{http://www.w3.org/2000/svg}}{tag}"))


def test_points_are_joined_in_their_order_and_named() -> None:
    line = Line("", [2.0, 0.0, 1.0], [1.0, 2.0, float("nan")], ["first", "second & <more>", "nowhere"])
    svg = svg_plot([line], "score", "distance")
    [found] = polylines(svg)
    assert len(found) == 2
    assert found[0][0] > found[1][0]
    named = {element.text for element in inside(svg, "text")}
    assert {"first", "second & <more>"} <= named
    assert "nowhere" not in named
    assert tree(svg).attrib["aria-label"] == "distance against score"


def test_intervals_are_bars_inside_the_frame() -> None:
    line = Line("a", [0.0, 1.0], [1.0, 2.0], (), [(0.0, 4.0), (float("nan"), float("nan"))])
    svg = svg_plot([line], "x", "y")
    [points] = polylines(svg)
    bars = [path.attrib["d"] for path in inside(svg, "path") if "opacity" not in str(path.attrib)]
    [bar] = [path for path in bars if re.fullmatch(r"M[\d.]+ [\d.]+V[\d.]+", path)]
    x, low, high = map(float, re.findall(r"[\d.]+", bar))
    assert x == points[0][0]
    # 1 is a quarter of the way from 0 to 4.
    assert (low - points[0][1]) / (low - high) == pytest.approx(0.25, abs=0.01)
    assert 0 <= high < low <= 260


def test_every_line_has_its_place_in_the_legend_and_no_two_look_alike() -> None:
    lines = [Line(f"a line with a long name, {number}", [0.0, 1.0], [number, number]) for number in range(12)]
    svg = svg_plot(lines, "x", "y")
    height = float(tree(svg).attrib["height"])
    places = [(float(text.attrib["x"]), float(text.attrib["y"])) for text in inside(svg, "text") if "long" in text.text]  # type: ignore[operator]
    assert len(set(places)) == 12
    assert all(x + 6.5 * 27 <= 640 and y < height - 230 for x, y in places)
    looks = [(line.attrib["stroke"], line.attrib.get("stroke-dasharray")) for line in inside(svg, "polyline")]
    assert len(set(looks)) == 12


def test_an_alternative_text_may_say_more_than_the_caption(tmp_path: Path) -> None:
    report = Report("x")
    report.pictures([picture(1)], ["a sheet"], ["a sheet: of [this] and that"])
    [image] = tree(report.html()).iter("img")
    assert image.attrib["alt"] == "a sheet: of [this] and that"
    assert texts(report.html(), "figcaption") == ["a sheet"]
    assert report.markdown("files").endswith("![a sheet: of (this) and that](files/01.png)\na sheet\n")
