"""Evaluations that are refused: one line each, and nothing is left or changed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tiny_features import PROMPTS, Finished, options, tiny_network, write_digits
from unclip.errors import InputError, UnclipError
from unclip.evaluate import evaluate_model
from unclip.metrics import ClipFeatures
from unclip.pipelines import Model, UnClip
from unclip.testing import tiny_pipeline


def test_another_request_is_refused_with_the_difference(
    pipe: UnClip, judge: ClipFeatures, finished: Finished, tmp_path: Path
) -> None:
    out, networks = finished.out, [tiny_network(), judge]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    other = write_digits(tmp_path / "more", range(8))
    cases: list[tuple[UnClip, Sequence[str], Path, dict[str, object], str]] = [
        (pipe, PROMPTS, finished.reference, {"seed": 4}, "seed=3, but 4 is asked for"),
        (pipe, PROMPTS, finished.reference, {"num_steps": {"decoder": 5}}, r"decoder\.num_steps=3, but 5"),
        (pipe, PROMPTS[:3], finished.reference, {}, "prompts="),
        (pipe, PROMPTS, other, {}, "reference="),
        (tiny_pipeline(seed=8), PROMPTS, finished.reference, {}, "model="),
    ]
    for model, prompts, reference, given, message in cases:
        asked = options(tmp_path, pictures_per_chunk=2, batch_size=1, **given)
        with pytest.raises(InputError, match=rf"out holds an evaluation with {message}"):
            evaluate_model(model, prompts, reference, networks, out, options=asked)
    swept = options(tmp_path, pictures_per_chunk=2, batch_size=1, sweep={"num_steps.decoder": [2, 4]})
    with pytest.raises(InputError, match=r"evaluation of one setting, but decoder steps 2, decoder steps 4 is"):
        evaluate_model(pipe, PROMPTS, finished.reference, networks, out, options=swept)
    asked = options(tmp_path, pictures_per_chunk=2, batch_size=1)
    with pytest.raises(InputError, match=r"features\.tiny-inception="):
        evaluate_model(pipe, PROMPTS, finished.reference, [tiny_network(seed=1), judge], out, options=asked)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.parametrize(
    ("prompts", "given", "message"),
    [
        (["one"], {}, "1 picture is drawn; a figure needs at least 2"),
        ([], {}, "no prompt was given"),
        (PROMPTS, {"num_images": 3, "images_per_prompt": 2}, "num_images=3 are not 2 of each prompt"),
        (PROMPTS, {"num_images": 6}, "has 5 captions, but 6 are asked for"),
        (PROMPTS, {"seed": 2**63 - 2}, r"seed=.* cannot be used"),
        (PROMPTS, {"guidance_scale": {"decodr": 2.0}}, "no stage 'decodr'"),
        (PROMPTS, {"sweep": {"guidance": [1.0]}}, "'guidance' cannot be swept; did you mean 'guidance_scale'"),
        (PROMPTS, {"sweep": {"num_steps.decoder": []}}, "has no value, or one twice"),
        (PROMPTS, {"sweep": {"num_steps.decoder": [0]}}, "num_steps of decoder=0 is not possible"),
        (PROMPTS, {"sweep": {"guidance_scale.upsampler_32": [2.0]}}, "no stage 'upsampler_32'"),
        (PROMPTS, {"suites": ["priors"]}, "there is no suite 'priors'; did you mean 'prior'"),
        (PROMPTS, {"suites": ["diversity"]}, "diversity needs images_per_prompt of at least 2"),
        (PROMPTS, {"metrics": ["clip_score"]}, "clip_score needs clip features"),
        (PROMPTS, {"size": 5000}, "size=5000 is more than 2048"),
    ],
)
def test_wrong_requests_leave_nothing(
    pipe: UnClip, real: Path, tmp_path: Path, prompts: list[str], given: dict[str, object], message: str
) -> None:
    with pytest.raises(UnclipError, match=message):
        evaluate_model(pipe, prompts, real, [tiny_network()], tmp_path / "out", options=options(tmp_path, **given))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


def test_wrong_places_leave_nothing(pipe: UnClip, model: Model, real: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "no.json").write_text('{"annotations": [{"id": 1, "bbox": []}]}')
    (tmp_path / "cut.json").write_text('{"annotations": ')
    (tmp_path / "empty.txt").write_text("\n\n")
    bare = replace(model, stages={name: model.stages[name] for name in ("prior", "decoder")})
    cases: list[tuple[UnClip, object, Path | None, str, dict[str, object], str]] = [
        (pipe, PROMPTS, real, "file", {}, "file is a file; give a folder"),
        (pipe, tmp_path / "no.json", real, "out", {}, "annotation 1 has no caption"),
        (pipe, tmp_path / "cut.json", real, "out", {}, "cannot be read as JSON"),
        (pipe, tmp_path / "empty.txt", real, "out", {}, "holds no caption"),
        (pipe, tmp_path / "nowhere", real, "out", {}, "there is no .*nowhere"),
        (pipe, PROMPTS, tmp_path / "nowhere", "out", {}, "there is no .*nowhere"),
        (pipe, PROMPTS, None, "out", {}, "no metric can be computed"),
        (bare, PROMPTS, real, "out", {"suites": ["upsampler"]}, "has no upsampler"),
    ]
    for used, prompts, reference, out, given, message in cases:
        with pytest.raises(UnclipError, match=message):
            evaluate_model(
                used,
                prompts,
                reference,
                [tiny_network()],
                tmp_path / out,
                options=options(tmp_path, **given),  # type: ignore[arg-type]
            )
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()
