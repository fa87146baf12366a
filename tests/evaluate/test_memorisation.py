"""Memorisation: distances against those computed by hand, a copy that is found, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tiny_features import PROMPTS, options, rows_of, tiny_network, write_digits
from unclip.cli.main import run
from unclip.errors import InputError
from unclip.evaluate import Memorisation, evaluate_memorisation
from unclip.evaluate.memorisation import READINGS, nearest
from unclip.images import crop_square, from_pil, resize
from unclip.pipelines import UnClip

KINDS = {"seen": PROMPTS[:2], "new": PROMPTS[2:]}


def cosine_distances(first: Tensor, second: Tensor) -> np.ndarray:
    return np.array([[1 - float(F.cosine_similarity(a, b, dim=0)) for b in second.double()] for a in first.double()])


def pixel_distances(first: Tensor, second: Tensor) -> np.ndarray:
    return np.array([[float(((a - b) / 2).square().mean().sqrt()) for b in second.double()] for a in first.double()])


@pytest.mark.parametrize("kind", ["pixels", "clip"])
def test_the_nearest_are_those_of_all_distances(kind: str, generator: torch.Generator) -> None:
    rows, targets = (torch.randn(count, 3, generator=generator) for count in (5, 530))
    by_hand = (pixel_distances if kind == "pixels" else cosine_distances)(rows, targets)
    distances, places = nearest(rows, targets, kind)
    np.testing.assert_allclose(distances, by_hand.min(axis=1), atol=1e-6)
    assert places.tolist() == by_hand.argmin(axis=1).tolist()
    own = torch.arange(530)
    distances, places = nearest(targets, targets, kind, own=own)
    others = (pixel_distances if kind == "pixels" else cosine_distances)(targets[[520]], targets)[0]
    others[520] = np.inf
    assert (float(distances[520]), int(places[520])) == (pytest.approx(others.min(), abs=1e-6), others.argmin())
    assert torch.equal(nearest(targets[own[::7]], targets, kind, own=own[::7])[0], distances[::7])
    assert torch.equal(nearest(targets, targets, kind)[0], torch.zeros(530, dtype=torch.float64))


@pytest.fixture(scope="module")
def train(pipe: UnClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six digits, and the picture that the tiny model draws of the third prompt by itself."""
    folder = write_digits(tmp_path_factory.mktemp("memory") / "train", range(6))
    pipe.text_to_image([PROMPTS[2]], seed=3).images[0].save(folder / "drawn.png")
    return folder


def measured(pipe: UnClip, train: Path, root: Path, **given: object) -> Memorisation:
    asked = options(root, num_images=3, batch_size=1, **given)
    return evaluate_memorisation(pipe, train, KINDS, [tiny_network()], root / "out", options=asked)


def test_figures_are_of_the_pictures_that_are_drawn(pipe: UnClip, train: Path, tmp_path: Path) -> None:
    held_out = write_digits(tmp_path / "held-out", range(6, 11))
    asked = options(tmp_path, num_images=3, batch_size=1)
    network = tiny_network()
    found = evaluate_memorisation(pipe, train, KINDS, [network], tmp_path / "out", held_out=held_out, options=asked)
    assert found.notes == ("seen has 2 prompts, fewer than 3.",)
    assert (found.num_train, found.image_size, found.readings) == (7, 32, READINGS)
    files = sorted(train.glob("*.png"))
    known, unseen = (
        [crop_square(Image.open(path), 32) for path in sorted(folder.glob("*.png"))] for folder in (train, held_out)
    )
    drawn = {
        kind: [pipe.text_to_image([prompt], seed=3 + place).images[0] for place, prompt in enumerate(prompts)]
        for kind, prompts in KINDS.items()
    }
    assert [measure.name for measure in found.measures] == [network.name, "pixels"]
    for measure in found.measures:

        def rows(images: list[Image.Image], name: str = measure.name) -> Tensor:
            return resize(from_pil(images), 32).flatten(1) if name == "pixels" else rows_of(network, images)

        distances = pixel_distances if measure.name == "pixels" else cosine_distances
        among = distances(rows(known), rows(known))
        pairs = among[np.triu_indices(7, 1)]
        np.fill_diagonal(among, np.inf)
        limits = {f"nearest_p{share}": np.percentile(among.min(axis=1), share) for share in (1, 50, 99)}
        limits["pairs_p99"] = np.percentile(pairs, 99)
        assert measure.thresholds == pytest.approx(limits, abs=2e-5)
        closest = []
        for one, (kind, images) in zip(measure.kinds, {**drawn, "held-out": unseen}.items(), strict=True):
            least = distances(rows(images), rows(known)).min(axis=1)
            assert (one.kind, one.num_images) == (kind, len(images))
            assert (one.least, one.median) == pytest.approx((least.min(), np.median(least)), abs=2e-5)
            assert one.closer == {name: float((least < limit).mean()) for name, limit in limits.items()}
            closest += [] if kind == "held-out" else least.tolist()
        assert [pair.distance for pair in measure.pairs] == pytest.approx(sorted(closest), abs=2e-5)
        # The copy is found, at a distance of exactly 0, and shown.
        first = measure.pairs[0]
        assert (first.kind, first.prompt, first.seed, first.distance) == ("new", PROMPTS[2], 3, 0.0)
        assert first.training_picture == files[-1].name == "drawn.png"
        with Image.open(tmp_path / "out" / measure.sheet) as sheet:
            left, right = sheet.crop((0, 0, 96, 96)), sheet.crop((98, 0, 194, 96))
        assert left.tobytes() == right.tobytes() == drawn["new"][0].resize((96, 96), Image.Resampling.BICUBIC).tobytes()
    saved = Memorisation.model_validate_json((tmp_path / "out" / "memorisation.json").read_bytes())
    assert saved == found
    page = (tmp_path / "out" / "memorisation.md").read_text()
    assert "drawn.png" in page
    assert all(meaning in page for meaning in READINGS.values())


def test_as_near_as_a_threshold_is_not_nearer(pipe: UnClip, tmp_path: Path) -> None:
    """Training pictures that are all there twice are 0 apart, and no picture is nearer than that."""
    (tmp_path / "train").mkdir()
    for place, prompt in enumerate(KINDS["seen"]):
        image = pipe.text_to_image([prompt], seed=3 + place).images[0]
        for name in "ab":
            image.save(tmp_path / "train" / f"{place}{name}.png")
    for measure in measured(pipe, tmp_path / "train", tmp_path).measures:
        assert [measure.thresholds[name] for name in ("nearest_p1", "nearest_p50", "nearest_p99")] == [0.0] * 3
        seen = measure.kinds[0]
        assert (seen.least, seen.closer["nearest_p99"], seen.closer["pairs_p99"]) == (0.0, 0.0, 1.0)


def test_the_same_call_goes_on_and_another_is_refused(pipe: UnClip, train: Path, tmp_path: Path) -> None:
    found = measured(pipe, train, tmp_path)
    chunks = sorted((tmp_path / "out" / "features").rglob("*.safetensors"))
    before = {path: path.stat().st_mtime_ns for path in chunks}
    (tmp_path / "out" / "memorisation.json").unlink()
    assert measured(pipe, train, tmp_path) == found
    assert {path: path.stat().st_mtime_ns for path in chunks} == before
    with pytest.raises(InputError, match=r"out holds an evaluation with seed=3, but 4 is asked for"):
        measured(pipe, train, tmp_path, seed=4)
    other = write_digits(tmp_path / "other", range(6))
    with pytest.raises(InputError, match=r"out holds an evaluation with train="):
        measured(pipe, other, tmp_path)


@pytest.mark.parametrize("kinds", [{}, {"held-out": PROMPTS}, {"a/b": PROMPTS}, {"": PROMPTS}])
def test_kinds_need_names(pipe: UnClip, train: Path, tmp_path: Path, kinds: dict[str, list[str]]) -> None:
    with pytest.raises(InputError, match=r"names no kind of prompts|no prompts were given"):
        evaluate_memorisation(pipe, train, kinds, [tiny_network()], tmp_path / "out", options=options(tmp_path))
    assert not (tmp_path / "out").exists()


def test_the_command_is_one_of_evaluate(
    tiny_folder: Path, train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNCLIP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "new=1.txt").write_text("a cat\nthe sun\n")
    words = ["evaluate", "memorisation", tiny_folder, "--train", train, "-o", tmp_path / "out", "--size", "32"]
    words += ["--steps", "2", "-n", "1", "--prompts", f"new={tmp_path / 'new=1.txt'}", "--held-out", train]
    assert run(list(map(str, words))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(tmp_path / "out" / "memorisation.html")
    assert [line.partition(" pictures:")[0].partition(" nearest_p1")[0] for line in lines[:-1]] == [
        f"{name}: {kind}"
        for name in (f"clip:{tiny_folder}", "pixels")
        for kind in ("thresholds", "new, 1", "held-out, 7")
    ]
    assert run([*map(str, words), "--json"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == json.loads((tmp_path / "out" / "memorisation.json").read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["memorisation", "MODEL"], "(see unclip evaluate memorisation --help)"),
        (["memorisation", "MODEL", "--train", "no", "-o", "out"], "there is no no;"),
        (["memorisation", "MODEL", "--train", "TRAIN", "-o", "out", "--prompts", "a.txt"], "write KIND=FILE"),
        (["memorisation", "MODEL", "--train", "TRAIN", "-o", "out", "--prompts", "a=b", "--prompts", "a=c"], "once"),
        (["memorisation", "MODEL", "--train", "TRAIN", "-o", "out", "--prompts", "held-out=TRAIN"], "names no kind"),
        (["memorisation", "MODEL", "--train", "TRAIN", "-o", "out", "--size", "0"], "--size=0"),
        (["./memorisation"], "./memorisation draws prompts; give --prompts FILE"),
        (["MODEL", "memorisation"], "(see unclip evaluate --help)"),
    ],
)
def test_wrong_words_end_with_2(
    tiny_folder: Path,
    train: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.replace("MODEL", str(tiny_folder)).replace("TRAIN", str(train)) for word in words]
    assert run(["evaluate", *words]) == 2
    done = capsys.readouterr()
    assert (done.out, message in done.err.splitlines()[-1]) == ("", True), done.err
    assert list(tmp_path.iterdir()) == []
