"""Own pictures to a model that draws, in one command, whatever interrupts it; and what is said when it cannot be."""

import json
import runpy
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from xml.etree import ElementTree

import pytest
from PIL import Image

from pictures import encoded, picture
from unclip.cli.main import run
from unclip.config import load_config
from unclip.data import ShardSet
from unclip.errors import ConfigError, DataError, InputError, UnclipError
from unclip.recipes import Circumstances, Quickstart, SeriesProgress, choose, quickstart
from unclip.recipes.choose import MIN_STEPS
from unclip.recipes.own_data import make_shards, read_check
from unclip.recipes.quickstart import CARD
from unclip.recipes.report import too_few_steps, write_report

WORDS = ("red", "round", "old", "small", "bright", "wooden", "quiet", "sour", "striped", "soft", "tall", "warm")
SIDE = 72
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def write_pictures(folder: Path, count: int = 12) -> Path:
    """Pictures with a caption each, one that cannot be read, and a copy of the first."""
    folder.mkdir(parents=True)
    for number, word in enumerate(WORDS[:count]):
        picture(number, SIDE, SIDE).save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(f"a {word} thing\nsomething {word}")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "broken.txt").write_text("a broken thing")
    shutil.copy(folder / "00.png", folder / "copy.png")
    (folder / "copy.txt").write_text("a red thing again")
    return folder


def no_progress(what: str, done: int, total: int) -> None:
    del what, done, total


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("own") / "things")


@pytest.fixture(scope="module")
def finished(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "things"
    assert run(["train", "quickstart", str(own), "--smoke", "--out", str(out), "--device", "cpu"]) == 0
    return out


def rows_of(report: Path) -> list[list[str]]:
    rows = ElementTree.fromstring(report.read_text()).iter("tr")
    return [["".join(cell.itertext()) for cell in row] for row in rows]


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_model_draws(finished: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "thing.png"
    command = ["generate", "a red thing", "--model", str(finished / "model"), "--steps", "2", "-o", str(drawn)]
    assert run(command) == 0
    with Image.open(drawn) as image:
        assert image.size == (64, 64)
    card = (finished / "model" / "MODEL_CARD.md").read_text()
    assert "12 captioned pictures of `things`" in card


def test_bad_pictures_are_left_out_and_named(finished: Path) -> None:
    assert sorted(ShardSet.open(finished / "shards").keys) == [f"{number:02d}" for number in range(12)]
    rows = rows_of(finished / "report.html")
    assert {("broken.png", "unreadable"), ("copy.png", "duplicate")} == {tuple(row[:2]) for row in rows[-2:]}


def test_the_report_says_what_the_logs_say(finished: Path) -> None:
    head, *rows = [row for row in rows_of(finished / "report.html") if len(row) == 8]
    assert [row[0] for row in rows] == ["clip", "upsampler_64", "decoder", "prior"]
    progress = SeriesProgress.load(finished)
    for row in rows:
        named, log = dict(zip(head, row, strict=True)), log_of(finished / row[0])
        last = log[-max(1, round(len(log) / 10)) :]
        assert named["training loss"] == f"{fmean(line['loss'] for line in last):.4g}"
        assert named["steps"] == f"{len(log):,}"
        assert named["pictures seen"] == f"{log[-1]['images_seen']:,}"
        assert named["minutes"] == f"{round(progress.of(row[0]).seconds / 60, 2):.4g}"
        assert named["held-out loss"] == "none"
    assert len(list(finished.glob("report_files/*.svg"))) == 4


def test_the_same_command_again_changes_nothing(finished: Path, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file() and path.name != ".lock"}
    asked = Quickstart(source=str(own), smoke=True)
    assert quickstart(asked, finished, device="cpu") == finished / "model"
    assert "goes on with the report" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in files} == files


@pytest.mark.parametrize("changes", [{"minutes": 3.0}, {"seed": 1}, {"source": "elsewhere"}, {"clip": "emoji"}])
def test_a_folder_takes_one_quickstart(finished: Path, own: Path, changes: dict[str, object]) -> None:
    asked = Quickstart(source=str(own), smoke=True).replace(**changes)
    with pytest.raises(InputError, match=f"was begun with other settings \\({next(iter(changes))} was"):
        quickstart(asked, finished)


def test_a_folder_of_something_else_is_refused(own: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds something else"):
        quickstart(Quickstart(source=str(own)), tmp_path)


def raise_at(name: str, count: int) -> Callable[[str, int, int], None]:
    """A signal when `count` of the work called `name` is done."""

    def tell(what: str, done: int, total: int) -> None:
        del total
        if (what, done) == (name, count):
            signal.raise_signal(signal.SIGTERM)

    return tell


def test_interrupted_anywhere_it_goes_on(own: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """With a given CLIP; in training itself, see the tests of the stages."""
    asked, out = Quickstart(source=str(own), smoke=True, clip=str(tiny_folder)), tmp_path / "out"
    for name, count, missing in (("check", 3, "check.json"), ("shards", 5, "shards"), ("join", 0, "model")):
        assert quickstart(asked, out, device="cpu", progress=raise_at(name, count)) is None
        # The signal is heard when the next thing is told of.
        assert not (out / missing).exists() or name == "join"
        assert list(out.glob(".*.tmp")) == []
    before = {stage: log_of(out / stage) for stage in ("upsampler_64", "decoder", "prior")}
    assert quickstart(asked, out, device="cpu", progress=no_progress) == out / "model"
    assert {stage: log_of(out / stage) for stage in before} == before
    assert not (out / "clip" / "log.jsonl").exists()
    assert (out / "report.html").exists()


def test_too_few_pictures_are_one_clear_line(tmp_path: Path) -> None:
    own = write_pictures(tmp_path / "few", 7)
    with pytest.raises(DataError, match=r"7 of 9 pictures can be used .1 duplicate, 1 unreadable.; training needs 8"):
        make_shards(str(own), None, tmp_path / "out", no_progress)
    with pytest.raises(DataError, match=r"training needs 8"):
        quickstart(Quickstart(source=str(own)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_was_mended_is_seen_and_other_captions_may_be_tried(tmp_path: Path) -> None:
    own, out = write_pictures(tmp_path / "few", 7), tmp_path / "out"
    asked = Quickstart(source=str(own), smoke=True)
    for captions in ("none", "txt"):
        with pytest.raises(UnclipError):
            quickstart(asked.replace(captions=captions), out, device="cpu")
        assert not (out / "check.json").exists()
    (own / "broken.png").write_bytes(encoded(picture(20, SIDE, SIDE)))
    assert quickstart(asked, out, device="cpu", progress=raise_at("shards", 1)) is None
    assert read_check(out).counts == {"duplicate": 1}


def test_pictures_without_captions_are_told_what_to_do(own: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of the 14 pictures has a caption .* write a .txt beside each"):
        make_shards(str(own), "none", tmp_path / "out", no_progress)


@pytest.mark.parametrize(
    ("side", "expected"), [(20, 32), (28, 32), (32, 32), (48, 32), (64, 64), (127, 64), (128, 128), (300, 256)]
)
def test_the_size_is_what_nine_in_ten_pictures_have(tmp_path: Path, side: int, expected: int) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for number in range(20):
        size = min(side, 64) if number < 2 else side
        picture(number, size, size + 5).save(own / f"{number}.png")
        (own / f"{number}.txt").write_text(f"number {number}")
    data = make_shards(str(own), None, tmp_path / "out", no_progress)
    assert (data.num_pictures, data.image_size) == (20, expected)
    assert make_shards("not looked at again", None, tmp_path / "out", no_progress) == data


def test_pictures_of_mnist_and_cifar_draw_at_32(tmp_path: Path) -> None:
    """Without an upsampler; thumbnails among large pictures are left out as before."""
    own, out = tmp_path / "digits", tmp_path / "out"
    own.mkdir()
    for number, word in enumerate(WORDS):
        picture(number, 28 if number % 2 else 32, 32).save(own / f"{number:02d}.png")
        (own / f"{number:02d}.txt").write_text(f"a {word} digit")
    data = make_shards(str(own), None, out, no_progress)
    assert (data.num_pictures, data.image_size) == (12, 32)
    given = Circumstances(
        num_pictures=12, image_size=32, vocab_size=600, longest_caption=6, flops_per_second=1e11, minutes=2
    )
    for rate in (1e11, 3e14):
        stages = choose(given.replace(flops_per_second=rate, minutes=90), out)
        assert [stage.name for stage in stages] == ["clip", "decoder", "prior"]
    model = quickstart(Quickstart(source=str(own), smoke=True), tmp_path / "run", device="cpu")
    assert model is not None
    assert run(["generate", "a red digit", "--model", str(model), "--steps", "2", "-o", str(tmp_path / "d.png")]) == 0
    with Image.open(tmp_path / "d.png") as image:
        assert image.size == (32, 32)
    for number, word in enumerate(WORDS[1:]):
        picture(20 + number, 90, 90).save(own / f"large-{number}.png")
        (own / f"large-{number}.txt").write_text(f"a large {word} thing")
    picture(40, 90, 90).save(own / "large.png")
    (own / "large.txt").write_text("a large thing")
    picture(41, 90, 90).save(own / "larger.png")
    (own / "larger.txt").write_text("a larger thing")
    assert make_shards(str(own), None, tmp_path / "mixed", no_progress).image_size == 64
    assert read_check(tmp_path / "mixed").counts == {"tiny": 12}


def test_large_pictures_with_alpha_are_drawn_through_latents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, out = tmp_path / "stickers", tmp_path / "run"
    own.mkdir()
    for number, word in enumerate(WORDS[:9]):
        sticker = picture(number, 130, 140).convert("RGBA")
        sticker.putalpha(Image.linear_gradient("L").resize(sticker.size))
        sticker.save(own / f"{number}.png")
        (own / f"{number}.txt").write_text(f"a {word} sticker")
    assert run(["train", "quickstart", str(own), "--smoke", "--out", str(out), "--device", "cpu"]) == 0
    said = "decoder draws latents, 16 x 16 x 8 numbers: pictures of 128 px with their coverage have 32 times as many"
    assert said in capsys.readouterr().err
    head, *rows = [row for row in rows_of(out / "report.html") if len(row) == 8]
    assert [row[0] for row in rows] == ["clip", "autoencoder", "decoder", "prior"]
    assert all(int(row[head.index("steps")]) > 0 for row in rows)
    assert said in (out / "report.md").read_text()
    assert "`autoencoder`:" in (out / CARD).read_text()
    drawn = tmp_path / "sticker.png"
    command = ["generate", "a red sticker", "--model", str(out / "model"), "--steps", "2", "-o", str(drawn)]
    assert run([*command, "--background", "transparent"]) == 0
    with Image.open(drawn) as image:
        assert (image.mode, image.size) == ("RGBA", (128, 128))


def test_drawings_that_are_alike_are_no_duplicates(tmp_path: Path) -> None:
    """A small square and a small circle of one colour differ in 2 of the 64 bits that `data check` compares."""
    write_shapes = runpy.run_path(str(BENCHMARKS / "quickstart_shapes.py"))["write_shapes"]
    captions = write_shapes(tmp_path / "shapes", 64)
    assert make_shards(str(tmp_path / "shapes"), None, tmp_path / "out", no_progress).num_pictures == len(captions)


def told(stages: dict[str, int], folder: Path, minutes: float) -> str | None:
    """What is said of stages that took so many steps in so much time."""
    given = Circumstances(
        num_pictures=60, image_size=256, vocab_size=600, longest_caption=6, flops_per_second=1e11, minutes=minutes
    )
    progress = SeriesProgress()
    for name, count in stages.items():
        (folder / name).mkdir(parents=True)
        lines = [json.dumps({"images_seen": 16 * (step + 1), "loss": 1.0}) for step in range(count)]
        (folder / name / "log.jsonl").write_text("\n".join(lines) + "\n")
        progress = progress.after(name, 60 * minutes / len(stages), True)
    progress.save(folder)
    return too_few_steps(choose(given, folder), folder)


def test_too_few_steps_are_said_with_the_minutes_that_would_do(tmp_path: Path) -> None:
    enough = dict.fromkeys(("clip", "upsampler_256", "decoder", "prior"), MIN_STEPS)
    assert told(enough, tmp_path / "enough", 2.0) is None
    said = told({**enough, "decoder": 4, "prior": 100}, tmp_path / "few", 2.0)
    assert said is not None
    assert "decoder 4, prior 100, where it takes 300 at least" in said
    # 75 times the two minutes.
    assert "about --minutes 150 would do" in said


def test_the_report_gives_no_advice_that_is_wrong(finished: Path, own: Path) -> None:
    assert "A smoke run" in (finished / "report.md").read_text()
    data, out = make_shards("", None, finished, no_progress), finished
    given = Circumstances(**data.model_dump(), flops_per_second=1e9, minutes=1, smoke=True)
    write_report(choose(given, out), out, str(own), no_progress, device="cpu")
    few = (out / "report.md").read_text()
    assert "Too few steps for more than blurs: clip" in few
    assert "more pictures help" not in few.lower()


@pytest.mark.parametrize("minutes", ["inf", "-inf", "nan", "0", "-1"])
def test_minutes_that_are_no_time_are_one_line(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], minutes: str
) -> None:
    command = ["train", "quickstart", str(own), f"--minutes={minutes}", "--out", str(tmp_path / "out")]
    assert run(command) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "is not a time; give a number above 0" in line
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="minutes"):
        load_config(Quickstart, {"source": "x", "minutes": float(minutes)})


@pytest.mark.parametrize("source", [".", "./", "../things", "../things/."])
def test_a_folder_without_a_name_of_its_own_has_one(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    """The run is called as the pictures' folder is, whichever way it is named."""
    place = shutil.copytree(own, tmp_path / "things")
    (place / "runs" / "things").mkdir(parents=True)
    (place / "runs" / "things" / "letter.txt").write_text("dear")
    monkeypatch.chdir(place)
    assert run(["train", "quickstart", source, "--smoke", "--device", "cpu"]) == 2
    assert "runs/things holds something else" in capsys.readouterr().err
