"""`unclip evaluate`: what it writes and says, and how it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from tiny_features import write_digits
from unclip.evaluate import Evaluation
from unclip.pipelines import UnClip
from unclip.testing import tiny_model


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose CLIP is not the tiny one's."""
    return tiny_model(tmp_path_factory.mktemp("models") / "judge", seed=5)


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNCLIP_CACHE", str(tmp_path / "cache"))
    return write_digits(tmp_path / "digits", range(6))


def test_a_model_is_evaluated_and_its_card_gets_the_figures(
    unclip: Callable, tiny_folder: Path, judge: Path, digits: Path, tmp_path: Path
) -> None:
    prompts, card = tmp_path / "prompts.txt", tmp_path / "MODEL_CARD.md"
    prompts.write_text("a cat\na red apple\nthe sun\n")
    card.write_text("# Tiny\n")
    command = ["evaluate", tiny_folder, "--prompts", prompts, "--reference", digits, "-o", tmp_path / "out"]
    command += ["--features", f"clip:{judge}", "--size", "32", "--sweep", "guidance.decoder=1,3", "--card", card]
    done = unclip(*command)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[-1] == str(tmp_path / "out" / "report.html")
    assert [line.rpartition(" ")[0] for line in lines[:-1]] == [
        f"decoder guidance {scale}: {figure}"
        for scale in (1, 3)
        for figure in ("CMMD", "FD-CLIP", "CLIP score", "seconds per image")
    ]
    assert "note: CMMD of 3 pictures" in done.err
    found = Evaluation.model_validate_json((tmp_path / "out" / "results.json").read_bytes())
    assert lines[0] == f"decoder guidance 1: CMMD {found.points[0].figures[0].value:.6g}"
    assert "FD-CLIP" in card.read_text()
    assert card.read_text().startswith("# Tiny\n")
    assert (tmp_path / "cache" / "features").is_dir()

    again = unclip(*command, "--json", "--bootstrap", "5")
    assert (again.code, again.out.count("\n")) == (0, 1)
    line = json.loads(again.out)
    assert line["points"][0]["figures"][0]["low"] <= line["points"][0]["figures"][0]["high"]
    assert line["points"][0]["seconds_per_image"] == found.points[0].seconds_per_image


def test_coco_in_one_command_and_shared_by_processes(
    unclip: Callable,
    tiny_folder: Path,
    judge: Path,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    annotations = [{"id": number, "image_id": number, "caption": f"digit {number}"} for number in range(70)]
    (tmp_path / "captions_val2014.json").write_text(json.dumps({"images": [], "annotations": annotations}))
    command = ["evaluate", tiny_folder, "--coco", tmp_path / "captions_val2014.json", digits, "-o", tmp_path / "out"]
    command += ["--features", f"clip:{judge}", "--steps", "1", "--json", "--metrics", "clip_score,fd_clip"]
    first = unclip(*command, "--node", "0/2")
    assert (first.code, first.out) == (0, "")
    assert "chunks of other processes are not there yet" in first.err
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    second = unclip(*command)
    found = Evaluation.model_validate_json(second.out)
    assert (found.num_images, found.num_reference, found.image_size) == (70, 6, 256)
    assert "Pictures are drawn at 32 px and compared at 256 px." in found.notes


def test_two_folders_are_compared(unclip: Callable, judge: Path, digits: Path, tmp_path: Path) -> None:
    other = write_digits(tmp_path / "others", range(50, 58))
    command = ["evaluate", "--images", other, "--reference", digits, "--features", f"clip:{judge}", "--size", "32"]
    done = unclip(*command)
    assert done.code == 0, done.err
    assert [line.rpartition(" ")[0] for line in done.out.splitlines()] == ["CMMD", "FD-CLIP", "CLIP score"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either a model to draw with, or --images FOLDER"),
        (["tiny", "--images", "a"], "give either a model"),
        (["tiny", "-o", "out"], "tiny draws prompts; give --prompts FILE"),
        (["tiny", "--prompts", "a.txt"], "name one with -o"),
        (["tiny", "--prompts", "a.txt", "--coco", "a", "b", "-o", "out"], "--coco brings prompts and reference"),
        (["--images", "digits", "--metrics", "fdi"], "there is no metric 'fdi'"),
        (["--images", "digits", "--features", "inceptio"], "there is no feature network 'inceptio'"),
        (["--images", "digits", "--weights", "inception=nowhere.pth"], "nowhere.pth"),
        (["--images", "digits", "--weights", "inception"], "--weights 'inception' cannot be read"),
        (["--images", "digits", "--weights", "dinov2-vitl14=a"], "is of a network that is not used"),
        (["--images", "digits", "--sweep", "decoder=1"], "--sweep 'decoder=1' cannot be read"),
        (["--images", "digits", "--sweep", "steps=many"], "has a value that is no number"),
        (["--images", "digits", "--node", "x"], "--node 'x' cannot be read"),
        (["--images", "digits", "--card", "nowhere.md"], "there is no model card nowhere.md"),
        (["--images", "digits", "--features", "clip:emojy"], "there is no model 'emojy'"),
        (["emojy", "--prompts", "a.txt", "-o", "out"], "there is no model 'emojy'"),
        (["--coco", "no.json", "digits", "--images", "digits"], "there is no no.json"),
        (["--images", "digits", "--reference", "nowhere"], "there is no nowhere"),
    ],
)
def test_wrong_input_is_one_line(
    unclip: Callable, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = unclip("evaluate", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"digits"}


def test_the_report_has_the_command_whoever_runs_it(
    unclip: Callable, judge: Path, digits: Path, tmp_path: Path
) -> None:
    """Not the arguments of the process, which are the test runner's here."""
    words = ["evaluate", "--images", digits, "--reference", digits, "-o", tmp_path / "out"]
    words += ["--features", f"clip:{judge}", "--size", "32", "--json"]
    assert unclip(*words).code == 0
    rows = ElementTree.fromstring((tmp_path / "out" / "report.html").read_text()).iter("tr")
    cells = dict(["".join(cell.itertext()) for cell in row] for row in rows if len(row) == 2)
    options = f"--reference {digits} --images {digits} --out {tmp_path / 'out'} --features clip:{judge} --size 32"
    assert cells["command"] == f"unclip evaluate {options} --json"


def test_an_evaluation_draws_what_the_command_and_the_library_draw(
    unclip: Callable, tiny_folder: Path, tmp_path: Path
) -> None:
    prompts = ["a red apple", "an old house"]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts))
    features = ("--features", f"clip:{tiny_folder}", "--seed", "7", "-o", tmp_path / "run")
    done = unclip("evaluate", tiny_folder, "--prompts", tmp_path / "prompts.txt", *features)
    assert done.code == 0, done.err
    pipe = UnClip.load(tiny_folder)
    for number, prompt in enumerate(prompts):
        picture, seed = tmp_path / f"{number}.png", 7 + number
        assert unclip("generate", prompt, "--seed", seed, "--model", tiny_folder, "-o", picture).code == 0
        drawn = [tmp_path / "run" / "pictures" / "all" / f"{number:06d}.png", picture]
        for path in drawn:
            with Image.open(path) as image:
                assert image.tobytes() == pipe(prompt, seed=seed)[0].tobytes(), path
