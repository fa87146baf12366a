"""Evaluating folders: figures against the definitions, the cache, and refusals."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pictures import picture
from tiny_features import rows_of, tiny_network, write_digits
from unclip.data import emoji_items, write_shards
from unclip.errors import DataError, InputError, UnclipError
from unclip.evaluate import EvaluateOptions, Evaluation, evaluate_folders
from unclip.images import crop_square
from unclip.metrics import METRICS, ClipFeatures, ModuleFeatures, frechet_distance, kernel_distance, manifold_metrics
from unclip.pipelines import UnClip

SIZE = 24


def options(tmp_path: Path, **given: object) -> EvaluateOptions:
    return EvaluateOptions(**{"cache": tmp_path / "cache", "size": SIZE, **given})  # type: ignore[arg-type]


def values(found: Evaluation | None) -> dict[str, float]:
    assert found is not None
    return {figure.name: figure.value for figure in found.points[0].figures}


def write_pictures(folder: Path, seeds: Sequence[int]) -> Path:
    folder.mkdir(parents=True)
    for seed in seeds:
        picture(seed, 40, 30).save(folder / f"{seed:03}.png")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return write_pictures(tmp_path / "drawn", range(9)), write_pictures(tmp_path / "real", range(20, 31))


def test_figures_are_those_of_the_definitions(folders: tuple[Path, Path], tmp_path: Path) -> None:
    network = tiny_network()
    found = values(evaluate_folders(*folders, [network], options=options(tmp_path)))
    drawn, real = (
        rows_of(network, [crop_square(picture(seed, 40, 30), SIZE) for seed in seeds])
        for seeds in (range(9), range(20, 31))
    )
    manifold = manifold_metrics(real, drawn)
    expected = {"fid": frechet_distance(drawn, real), "kid": kernel_distance(drawn, real), **manifold._asdict()}
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_folder_and_itself(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found = values(evaluate_folders(folders[0], folders[0], [tiny_network()], options=options(tmp_path)))
    rows = rows_of(tiny_network(), [crop_square(picture(seed, 40, 30), SIZE) for seed in range(9)])
    assert found["fid"] == pytest.approx(0.0, abs=1e-7)
    assert found["kid"] == pytest.approx(kernel_distance(rows, rows), abs=1e-7)
    assert [found[name] for name in ("precision", "recall", "coverage")] == [1.0, 1.0, 1.0]


def test_batch_size_and_order_change_nothing(folders: tuple[Path, Path], tmp_path: Path) -> None:
    expected = values(evaluate_folders(*folders, [tiny_network()], options=options(tmp_path)))
    for size in (1, 4):
        other = options(tmp_path, batch_size=size, cache=tmp_path / f"cache-{size}")
        assert values(evaluate_folders(*folders, [tiny_network()], options=other)) == pytest.approx(expected, rel=1e-6)
    reordered = write_pictures(tmp_path / "again", ())
    for number, path in enumerate(sorted(folders[0].iterdir(), reverse=True)):
        (reordered / f"{number:03}.png").write_bytes(path.read_bytes())
    again = values(evaluate_folders(reordered, folders[1], [tiny_network()], options=options(tmp_path)))
    assert again == pytest.approx(expected, rel=1e-6)


def test_features_are_kept_by_content(folders: tuple[Path, Path], tmp_path: Path) -> None:
    network = tiny_network()
    expected = evaluate_folders(*folders, [network], options=options(tmp_path))
    assert network.module.num_seen == 9 + 11
    folders[1].rename(tmp_path / "moved")
    again = evaluate_folders(folders[0], tmp_path / "moved", [network], options=options(tmp_path))
    assert (network.module.num_seen, values(again)) == (20, values(expected))
    picture(99).save(tmp_path / "moved" / "020.png")
    changed = evaluate_folders(folders[0], tmp_path / "moved", [network], options=options(tmp_path))
    assert network.module.num_seen == 20 + 11
    assert values(changed)["fid"] != values(expected)["fid"]
    evaluate_folders(folders[0], tmp_path / "moved", [tiny_network(seed=1)], options=options(tmp_path))
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 5


def test_processes_divide_the_pictures(tmp_path: Path) -> None:
    drawn = write_digits(tmp_path / "drawn", range(600))
    real = write_digits(tmp_path / "real", range(600, 1200))
    alone = evaluate_folders(drawn, real, [tiny_network()], options=options(tmp_path, cache=tmp_path / "alone"))
    first, second = tiny_network(), tiny_network()
    assert evaluate_folders(drawn, real, [first], options=options(tmp_path, node=(0, 2))) is None
    joined = evaluate_folders(drawn, real, [second], options=options(tmp_path, node=(1, 2)))
    assert values(joined) == values(alone)
    # Of three chunks of 256, 256 and 88 pictures, the first process has the first and the last.
    assert (first.module.num_seen, second.module.num_seen) == (2 * 344, 2 * 256)


def test_real_digits_are_nearer_to_others_than_to_emoji(tmp_path: Path, pipe: UnClip) -> None:
    digits, others = (write_digits(tmp_path / str(first), range(first, first + 60)) for first in (0, 60))
    write_shards(tmp_path / "emoji", emoji_items("test")[::40][:60], 32, "emoji-test")
    networks = [tiny_network(), ClipFeatures(pipe.clip, "tiny")]
    near = evaluate_folders(digits, others, networks, options=options(tmp_path, bootstrap=20))
    far = evaluate_folders(tmp_path / "emoji", others, networks, options=options(tmp_path))
    for name in ("fid", "kid", "cmmd", "fd_clip"):
        assert values(near)[name] < values(far)[name]
    assert near is not None
    assert near.features["fid"] == "tiny-inception"
    assert near.features["clip_score"] == "clip:tiny"
    assert near.notes == (
        "IS is left out: it needs inception_logits features, of which no network was given.",
        "FD-DINOv2 is left out: it needs dinov2 features, of which no network was given.",
        "R-precision is left out: it needs at least 100 different prompts, but there are 10.",
    )
    for figure in near.points[0].figures:
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= figure.value <= figure.high
        assert figure.warning is not None


def test_captions_score_as_clip_says(tmp_path: Path, pipe: UnClip) -> None:
    digits = write_digits(tmp_path / "digits", range(5))
    clip = ClipFeatures(pipe.clip, "tiny")
    asked = options(tmp_path, metrics=["clip_score"])
    found = values(evaluate_folders(digits, None, [clip], options=asked))
    images = [crop_square(_rgb(path), SIZE) for path in sorted(digits.glob("*.png"))]
    seen = torch.cat([pipe.clip.encode_pictures([image]) for image in images])
    texts = [path.read_text() for path in sorted(digits.glob("*.txt"))]
    cosine = torch.cosine_similarity(seen, pipe.clip.encode_text(texts).embedding)
    assert found == pytest.approx({"clip_score": 100 * cosine.clamp(min=0).mean().item()}, rel=1e-5)
    given = evaluate_folders(digits, None, [clip], options=asked, captions=texts)
    assert values(given) == pytest.approx(found, rel=1e-6)
    with pytest.raises(InputError, match=r"4 prompts has 4 captions, but .*digits holds 5 pictures"):
        evaluate_folders(digits, None, [clip], options=asked, captions=texts[:4])


def test_one_damaged_picture_among_many_is_left_out_and_named(tmp_path: Path) -> None:
    digits = write_digits(tmp_path / "digits", range(120))
    whole = write_digits(tmp_path / "whole", [*range(7), *range(8, 120)])
    (digits / "0007.png").write_bytes(b"no picture")
    found = evaluate_folders(digits, whole, [tiny_network()], options=options(tmp_path))
    assert found is not None
    assert (found.num_images, found.num_reference) == (119, 119)
    assert values(found)["fid"] == pytest.approx(0.0, abs=1e-7)
    assert found.notes[-1] == (
        f"1 pictures of {digits} cannot be read and are left out (0007.png: not a picture that can be read)."
    )
    (digits / "0009.png").write_bytes((digits / "0009.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"holds 2 of 120 pictures that cannot be read \(0007.png: .*0009.png: "):
        evaluate_folders(digits, whole, [tiny_network()], options=options(tmp_path, cache=tmp_path / "new"))


class _BadOnWhite(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.mean(dim=(2, 3))
        return means / (means < 1)


def _rgb(path: Path):
    from PIL import Image

    return Image.open(path).convert("RGB")


def test_features_that_are_not_finite_name_their_picture(tmp_path: Path) -> None:
    drawn = write_pictures(tmp_path / "drawn", range(4))
    _rgb(drawn / "002.png").point(lambda value: 255).save(drawn / "002.png")
    network = ModuleFeatures(_BadOnWhite(), "bad", "inception", 8)
    with pytest.raises(DataError, match=r"bad makes inception features that are not finite of 002\.png"):
        evaluate_folders(drawn, drawn, [network], tmp_path / "out", options=options(tmp_path))
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "cache").rglob("*"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metrics": ["fdi"]}, "there is no metric 'fdi'; did you mean 'fid'"),
        ({"metrics": ["cmmd"]}, "cmmd needs clip features, of which no network was given"),
        ({"metrics": ["clip_score"]}, "clip_score needs clip features"),
        ({"node": (2, 2)}, "node=2/2 is no share"),
        ({"bootstrap": 1}, "bootstrap=1 gives no interval"),
        ({"batch_size": 0}, "batch_size=0 is not possible"),
        ({"size": -3}, "size=-3 is not possible"),
        ({"suites": ["prior"]}, r"suites=\['prior'\] is for a model; leave it out"),
        ({"num_steps": 5}, "num_steps=5 is for a model"),
        ({"sweep": {"num_steps": [1]}}, "sweep=.* is for a model"),
    ],
)
def test_wrong_options_are_refused(
    folders: tuple[Path, Path], tmp_path: Path, given: dict[str, object], message: str
) -> None:
    with pytest.raises(UnclipError, match=message):
        evaluate_folders(*folders, [tiny_network()], tmp_path / "out", options=options(tmp_path, **given))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


def test_wrong_folders_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    one = write_pictures(tmp_path / "one", [0])
    cases: list[tuple[Path, Path | None, str]] = [
        (tmp_path / "empty", folders[1], "empty holds no picture, table or .tar shard"),
        (folders[0], tmp_path / "nowhere", "there is no .*nowhere"),
        (one, folders[1], "one holds 1 picture; a comparison needs at least 2"),
        (folders[0], None, "no metric can be computed of features inception alone"),
    ]
    for images, reference, message in cases:
        with pytest.raises(UnclipError, match=message):
            evaluate_folders(images, reference, [tiny_network()], tmp_path / "out", options=options(tmp_path))
    with pytest.raises(InputError, match="no feature network was given"):
        evaluate_folders(*folders, [], options=options(tmp_path))
    with pytest.raises(InputError, match="tiny-inception and tiny-inception both give 'inception' features"):
        evaluate_folders(*folders, [tiny_network(), tiny_network()], options=options(tmp_path))
    pair = [ModuleFeatures(tiny_network().module, "mine", kind, 32) for kind in ("inception", "dinov2")]
    with pytest.raises(InputError, match=r"feature networks have one name \(mine, mine\)"):
        evaluate_folders(*folders, pair, options=options(tmp_path))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


def test_another_request_is_not_mixed_into_a_folder(folders: tuple[Path, Path], tmp_path: Path) -> None:
    evaluate_folders(*folders, [tiny_network()], tmp_path / "out", options=options(tmp_path))
    before = (tmp_path / "out" / "results.json").read_bytes()
    with pytest.raises(InputError, match=r"out holds an evaluation with size=24, but 16 is asked for"):
        evaluate_folders(*folders, [tiny_network()], tmp_path / "out", options=options(tmp_path, size=16))
    assert (tmp_path / "out" / "results.json").read_bytes() == before
    read = Evaluation.model_validate_json(before)
    assert np.isfinite(list(values(read).values())).all()
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"results.json", "report.html", "report.md"}


def notes_of(found: Evaluation | None) -> str:
    assert found is not None
    return "\n".join(found.notes)


def test_no_metric_disappears_without_a_note(tmp_path: Path, pipe: UnClip) -> None:
    """Whatever the reason: every metric has a figure or stands in a note."""
    digits, clip = write_digits(tmp_path / "digits", range(6)), ClipFeatures(pipe.clip, "tiny")
    (digits / "0002.txt").unlink()
    found = evaluate_folders(digits, digits, [clip], options=options(tmp_path))
    for metric in METRICS.values():
        assert (metric.name in values(found)) != (metric.title in notes_of(found)), metric.name
    reason = r"a caption for each picture, but 1 of the 6 pictures of .*digits have none \(0002.png\)"
    assert re.search(f"CLIP score and R-precision are left out: they need {reason}", notes_of(found))
    with pytest.raises(InputError, match=f"clip_score needs {reason}"):
        evaluate_folders(digits, None, [clip], options=options(tmp_path, metrics=["clip_score"]))
    for path in digits.glob("*.txt"):
        path.unlink()
    without = evaluate_folders(digits, digits, [clip], options=options(tmp_path))
    assert re.search(r"CLIP score and .* but 6 of the 6 pictures of .* have none", notes_of(without))


def test_captions_that_cannot_be_read_are_an_error_with_two_ways_out(tmp_path: Path, pipe: UnClip) -> None:
    digits, clip = write_digits(tmp_path / "digits", range(6)), ClipFeatures(pipe.clip, "tiny")
    (digits / "captions.csv").write_text("file_name,text\n0000.png,the digit zero\n")
    with pytest.raises(DataError, match=r"also \.txt files .* give --prompts with a text .* or --metrics that need"):
        evaluate_folders(digits, digits, [clip], options=options(tmp_path))
    for given in ({"captions": ["one", "two", "three", "four", "five", "six"]}, {"options": {"metrics": ["cmmd"]}}):
        chosen = options(tmp_path, **given.get("options", {}))  # type: ignore[arg-type]
        found = evaluate_folders(digits, digits, [clip], options=chosen, captions=given.get("captions"))  # type: ignore[arg-type]
        assert "cmmd" in values(found)


def test_a_picture_that_is_not_there_takes_no_captions_away(tmp_path: Path, pipe: UnClip) -> None:
    digits, clip = write_digits(tmp_path / "digits", range(120)), ClipFeatures(pipe.clip, "tiny")
    rows = [f"{path.name},{path.with_suffix('.txt').read_text()}" for path in sorted(digits.glob("*.png"))]
    for path in digits.glob("*.txt"):
        path.unlink()
    (digits / "0003.png").unlink()
    (digits / "captions.csv").write_text("\n".join(["file_name,text", *rows]) + "\n")
    found = evaluate_folders(digits, None, [clip], options=options(tmp_path))
    assert "clip_score" in values(found)
    assert "1 pictures of" in notes_of(found)


def test_nothing_is_read_before_the_first_refusal(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Neither the pictures, whose hashes take minutes where they are many, nor the networks look at one."""
    ticks = list[object]()
    network = tiny_network()
    evaluate_folders(*folders, [network], tmp_path / "out", options=options(tmp_path))
    seen = network.module.num_seen
    cases: list[tuple[Path | None, dict[str, object]]] = [
        (tmp_path / "nowhere", {}), (None, {}), (folders[1], {"size": 16}), (folders[1], {"metrics": ["cmmd"]})
    ]  # fmt: skip
    for reference, given in cases:
        with pytest.raises(UnclipError):
            evaluate_folders(
                folders[0], reference, [network], tmp_path / "out", options=options(tmp_path, **given),
                progress=lambda *tick: ticks.append(tick),
            )  # fmt: skip
    assert (ticks, network.module.num_seen) == ([], seen)


def test_networks_say_what_they_make() -> None:
    pictures = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    for network in (tiny_network(), tiny_network("dinov2")):
        assert tuple(network(pictures)) == network.kinds
