"""Pages of evaluations: they parse, hold every figure and picture, and a card keeps all that is not theirs."""

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
from unclip.evaluate import (
    Evaluation,
    Figure,
    Point,
    Speed,
    card_section,
    embed_in_card,
    write_comparison,
    write_report,
)
from unclip.images import save_png
from unclip.machine import Machine

SVG = "{http://www.w3.org/2000/svg}"
MACHINE = Machine(
    processor="a processor & more",
    cores=2,
    threads=1,
    gpu=None,
    torch="2.0",
    python="3.11",
    commit="abc123",
    date="2026-01-02",
)
WARNING = "FID of 50 pictures (10,000 are enough): its bias falls with 1 / pictures."


def point(guidance: float, steps: int = 25, label: str | None = None, samples: int = 0) -> Point:
    """Figures that no two settings share."""
    fid, score = 30 + guidance - steps / 8, 20 + guidance + steps / 64
    return Point(
        label=f"decoder guidance {guidance:g}, decoder steps {steps}" if label is None else label,
        settings={"image_size": 32, "decoder": {"guidance_scale": guidance, "num_steps": steps, "x0_bound": None}},
        figures=(
            Figure(name="fid", title="FID", value=fid, low=fid - 1, high=fid + 2, num_images=50, warning=WARNING),
            Figure(name="clip_score", title="CLIP score", value=score, num_images=50),
        ),
        suites={"prior": {"recall_at_1": 0.4375}, "upsampler": {"upsampler_32": 31.25, "upsampler_32_bicubic": 40.5}},
        seconds_per_image=steps / 16,
        samples=tuple(Path(f"samples/{number}.png") for number in range(samples)),
        prompts=tuple(f"prompt <{number}> & more" for number in range(samples)),
        seeds=tuple(range(100, 100 + samples)),
    )


def evaluation(*points: Point, subject: str = "tiny", num_images: int = 50) -> Evaluation:
    return Evaluation(
        subject=subject,
        reference="the test split",
        image_size=32,
        num_images=num_images,
        num_reference=1234,
        seed=17,
        features={"fid": "inception fingerprint 0a1b"},
        notes=("The judge is the model's own CLIP.",),
        points=points,
        machine=MACHINE,
        version="9.8.7",
    )


def page(path: Path) -> ElementTree.Element:
    return ElementTree.fromstring(path.read_text())


def texts(path: Path, tag: str) -> list[str]:
    return ["".join(element.itertext()) for element in page(path).iter(tag)]


def rows(path: Path) -> list[list[str]]:
    return [["".join(cell.itertext()) for cell in row.iter("td")] for row in page(path).iter("tr")]


def write_samples(folder: Path, count: int) -> list[Image.Image]:
    images = [picture(number, 20, 20) for number in range(count)]
    for number, image in enumerate(images):
        save_png(image, folder / f"samples/{number}.png")
    return images


def lines_of(figure: ElementTree.Element) -> list[list[list[float]]]:
    return [
        [[float(value) for value in pair.split(",")] for pair in line.attrib["points"].split()]
        for line in figure.iter(f"{SVG}polyline")
    ]


def plots(path: Path) -> dict[str, ElementTree.Element]:
    figures = [figure for figure in page(path).iter("figure") if figure.find(f"{SVG}svg") is not None]
    return {figure.findtext("figcaption", ""): figure for figure in figures}


def test_a_report_holds_every_figure_and_how_it_was_measured(tmp_path: Path) -> None:
    path = write_report(evaluation(point(2.0, label="")), tmp_path, command="unclip evaluate tiny")
    assert path == tmp_path / "report.html"
    found = rows(path)
    assert ["FID (lower is better)", "28.88", "27.88 to 30.88", "50"] in found
    assert ["CLIP score (100 x cosine, higher is better)", "22.39", "none", "50"] in found
    assert ["seconds per image", "1.562", "none", "all"] in found
    assert ["upsampler_32", "31.25", "the upsampler's own pictures"] in found
    assert ["recall_at_1", "0.4375", "share of predictions whose nearest held-out picture is their own"] in found
    assert ["decoder.guidance_scale", "2"] in found
    assert ["decoder.x0_bound", "none"] in found
    measured = dict(row for row in found if len(row) == 2)
    assert measured["seed"] == "17"
    assert (measured["pictures"], measured["reference pictures"]) == ("50", "1,234")
    assert measured["features of fid"] == "inception fingerprint 0a1b"
    assert measured["processor"] == "a processor & more (2 cores, 1 threads)"
    assert measured["software"] == "unclip 9.8.7, torch 2.0, Python 3.11"
    assert (measured["commit"], measured["date"]) == ("abc123", "2026-01-02")
    assert measured["command"] == "unclip evaluate tiny"
    assert f"Warning: {WARNING}" in texts(path, "p")
    assert "Note: The judge is the model's own CLIP." in texts(path, "p")
    assert plots(path) == {}
    markdown = (tmp_path / "report.md").read_text()
    assert "| FID (lower is better) | 28.88 | 27.88 to 30.88 | 50 |" in markdown


def test_a_sweep_has_a_row_a_point_and_plots_over_its_axis(tmp_path: Path) -> None:
    points = [point(guidance, label=f"decoder guidance {guidance:g}") for guidance in (4.0, 1.0, 2.0)]
    path = write_report(evaluation(*points), tmp_path)
    assert ["decoder guidance 4", "30.88 (29.88 to 32.88)", "24.39", "1.562"] in rows(path)
    assert ["decoder.guidance_scale", "4; 1; 2"] in rows(path)
    found = plots(path)
    assert list(found) == [
        "FID against CLIP score",
        "FID against decoder guidance",
        "CLIP score against decoder guidance",
    ]
    [[first, middle, last]] = lines_of(found["FID against decoder guidance"])
    # Guidance 1, 2 and 4, whatever the order of the points.
    assert (middle[0] - first[0]) / (last[0] - first[0]) == pytest.approx(1 / 3, abs=0.01)
    labels = {text.text for text in found["FID against CLIP score"].iter(f"{SVG}text")}
    assert {"1", "2", "4"} <= labels
    assert texts(path, "p").count(f"Warning: {WARNING}") == 1


def test_two_axes_have_a_line_for_each_value_of_the_other(tmp_path: Path) -> None:
    points = [point(guidance, steps) for steps in (8, 16) for guidance in (1.0, 2.0, 3.0)]
    found = plots(write_report(evaluation(*points), tmp_path))
    assert [len(line) for line in lines_of(found["FID against CLIP score"])] == [3, 3]
    assert [len(line) for line in lines_of(found["FID against decoder guidance"])] == [3, 3]
    assert [len(line) for line in lines_of(found["FID against decoder steps"])] == [2, 2, 2]
    assert [len(line) for line in lines_of(found["FID against seconds"])] == [2, 2, 2]
    legend = {text.text for text in found["FID against decoder guidance"].iter(f"{SVG}text")}
    assert {"decoder steps 8", "decoder steps 16"} <= legend
    legend = {text.text for text in found["FID against seconds"].iter(f"{SVG}text")}
    assert {"decoder guidance 1", "decoder guidance 2", "decoder guidance 3"} <= legend


def test_settings_that_vary_together_are_one_axis(tmp_path: Path) -> None:
    points = [
        point(scale).replace(settings={"prior": {"guidance_scale": scale}, "decoder": {"guidance_scale": scale}})
        for scale in (1.0, 2.0, 3.0)
    ]
    found = plots(write_report(evaluation(*points), tmp_path))
    assert [name for name in found if name.startswith("FID")] == [
        "FID against CLIP score",
        "FID against prior guidance",
    ]
    assert [len(line) for line in lines_of(found["FID against prior guidance"])] == [3]


def test_few_samples_stand_beside_their_prompts(tmp_path: Path) -> None:
    images = write_samples(tmp_path, 3)
    path = write_report(evaluation(point(2.0, label="", samples=3)), tmp_path)
    shown = list(page(path).iter("img"))
    assert [image.attrib["alt"] for image in shown] == [f"prompt <{n}> & more, seed {100 + n}" for n in range(3)]
    for element, image in zip(shown, images, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(element.attrib["src"].partition(",")[2]))) as found:
            np.testing.assert_array_equal(np.asarray(found), np.asarray(image))


def test_many_samples_are_one_sheet_whose_places_are_named(tmp_path: Path) -> None:
    images = write_samples(tmp_path, 13)
    points = [point(guidance, label=f"guidance {guidance:g}", samples=13) for guidance in (1.0, 2.0)]
    path = write_report(evaluation(*points), tmp_path)
    shown = list(page(path).iter("img"))
    assert len(shown) == 2
    assert all(f"prompt <{number}> & more" in shown[1].attrib["alt"] for number in range(13))
    with Image.open(io.BytesIO(base64.b64decode(shown[0].attrib["src"].partition(",")[2]))) as sheet:
        assert sheet.size == (8 * 132 - 4, 2 * 132 - 4)
        cell = np.asarray(sheet.crop((2 * 132, 132, 2 * 132 + 128, 132 + 128)))
    wanted = images[10].resize((128, 128), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(cell, np.asarray(wanted))
    # The same prompts and seeds for both points are told once.
    assert [row for row in rows(path) if row[:1] == ["row 2, column 3"]] == [
        ["row 2, column 3", "prompt <10> & more, seed 110"]
    ]


def test_a_report_needs_the_pictures_it_shows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"samples/0\.png cannot be read"):
        write_report(evaluation(point(2.0, samples=1)), tmp_path)
    assert list(tmp_path.iterdir()) == []
    write_samples(tmp_path, 2)
    with pytest.raises(InputError, match=r"2 samples but 1 prompts"):
        write_report(evaluation(point(2.0, samples=2).replace(prompts=("one",))), tmp_path)


def test_an_evaluation_read_back_makes_the_same_page(tmp_path: Path) -> None:
    given = evaluation(point(1.0), point(2.0))
    again = Evaluation.model_validate_json(given.model_dump_json())
    pages = [write_report(one, tmp_path / name).read_text() for one, name in ((given, "a"), (again, "b"))]
    assert pages[0] == pages[1]


def test_a_card_keeps_the_rest_of_its_text(tmp_path: Path) -> None:
    card = tmp_path / "MODEL_CARD.md"
    before, after = "# A model é\r\n\n<!-- other -->\n\ttext  ".encode(), b"\n\n## Licence\nnone\n\n"
    card.write_bytes(before + b"<!-- evaluation -->old\nfigures<!-- /evaluation -->" + after)
    embed_in_card(card, evaluation(point(2.0, label="")))
    first = card.read_bytes()
    assert first.startswith(before + b"<!-- evaluation -->")
    assert first.endswith(b"<!-- /evaluation -->" + after)
    assert b"old" not in first
    assert b"| 28.88 |" in first
    embed_in_card(card, evaluation(point(2.0, label="")))
    assert card.read_bytes() == first
    embed_in_card(card, evaluation(point(3.0, label="")))
    assert b"| 29.88 |" in card.read_bytes()
    embed_in_card(card, evaluation(point(2.0, label="")))
    assert card.read_bytes() == first


@pytest.mark.parametrize("text", [b"", b"# A model", b"# A model\n", b"# A model\r\n\r\n"])
def test_a_card_without_marks_gets_a_section_at_its_end(tmp_path: Path, text: bytes) -> None:
    card = tmp_path / "card.md"
    card.write_bytes(text)
    embed_in_card(card, evaluation(point(2.0)))
    once = card.read_bytes()
    assert once.startswith(text)
    assert once.count(b"## Evaluation") == 1
    assert (b"\r\n" in once) == (b"\r" in text)
    assert re.search(rb"[^\r]\n", once) is None or b"\r" not in text
    embed_in_card(card, evaluation(point(2.0)))
    assert card.read_bytes() == once


def test_a_name_cannot_end_the_section_of_a_card(tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("# A model\n")
    hostile = evaluation(point(2.0, label="<!-- /evaluation --> x"), point(3.0))
    embed_in_card(card, hostile)
    once = card.read_text()
    assert once.count("<!-- /evaluation -->") == 1
    embed_in_card(card, hostile)
    assert card.read_text() == once


@pytest.mark.parametrize(
    "text", ["<!-- evaluation -->", "<!-- /evaluation --><!-- evaluation -->", "<!-- evaluation -->" * 2]
)
def test_a_card_with_broken_marks_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    card = tmp_path / "card.md"
    card.write_text(text)
    with pytest.raises(InputError, match=r"leave one of each in this order, or none"):
        embed_in_card(card, evaluation(point(2.0)))
    assert card.read_text() == text


def test_a_card_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*card\.md"):
        embed_in_card(tmp_path / "card.md", evaluation(point(2.0)))
    (tmp_path / "card.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"not text in UTF-8"):
        embed_in_card(tmp_path / "card.md", evaluation(point(2.0)))


def test_a_section_says_what_its_figures_are_of() -> None:
    section = card_section(evaluation(point(2.0, label="")), command="unclip evaluate tiny")
    assert section.startswith(
        "## Evaluation\n\n50 pictures at 32 px, compared with 1,234 of the test split; seed 17.\n"
    )
    assert (
        "Measured with unclip 9.8.7 on a processor & more, 1 thread; torch 2.0; 2026-01-02; commit abc123." in section
    )
    assert "Features: fid: inception fingerprint 0a1b." in section
    assert section.endswith("`unclip evaluate tiny`\n")


def test_a_comparison_joins_evaluations_and_timings(tmp_path: Path) -> None:
    many = evaluation(*(point(2.0, steps, label=f"steps {steps}") for steps in (8, 16, 32)))
    other = evaluation(point(5.0, label=""), subject="other")
    speeds = [
        Speed(subject="tiny", image_size=size, seconds_per_image=size / 64, peak_bytes=size * 2**20, machine=MACHINE)
        for size in (256, 64, 1024)
    ]
    path = write_comparison([many, other, other], tmp_path, speeds=speeds)
    assert path == tmp_path / "comparison.html"
    found = rows(path)
    assert ["tiny: steps 8", "31 (30 to 33)", "22.12", "0.5"] in found
    assert [row[0] for row in found if row[1:2] == ["31.88 (30.88 to 33.88)"]] == ["other", "other (2)"]
    assert ["tiny", "256 px", "1", "4", "0.25 GiB"] in found
    drawn = plots(path)
    assert [len(line) for line in lines_of(drawn["FID against seconds"])] == [3, 1, 1]
    [[small, middle, large]] = lines_of(drawn["peak GiB against image size"])
    assert (middle[0] - small[0]) / (large[0] - small[0]) == pytest.approx((256 - 64) / (1024 - 64), abs=0.01)
    # 0.0625, 0.25 and 1 GiB on a logarithmic axis.
    assert middle[1] - small[1] == pytest.approx(large[1] - middle[1], abs=0.2)
    assert not any("not comparable" in text for text in texts(path, "p"))


def test_a_comparison_says_what_is_not_comparable(tmp_path: Path) -> None:
    path = write_comparison([evaluation(point(2.0)), evaluation(point(2.0), num_images=60)], tmp_path)
    [warning] = [text for text in texts(path, "p") if "not comparable" in text]
    assert "numbers of pictures (50; 60)" in warning
    with pytest.raises(InputError, match=r"nothing to compare"):
        write_comparison([], tmp_path)
