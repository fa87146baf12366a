"""Every task of a guarded model looks at what is asked, at what it would draw and at what it drew."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from optional import require
from tiny_bert import write_tiny_bert
from toy_classifiers import redness
from unclip.errors import InputError, SafetyError
from unclip.pipelines import UnClip
from unclip.pipelines.options import TASKS
from unclip.safety import OFF, ConceptProbe, Provenance, SafetyPolicy, detect_watermark, read_credentials
from unclip.safety.policy import ConceptRule, Limit

WORDS = SafetyPolicy(name="words", words={"weapons": "block"})
CAT = Image.new("RGB", (32, 32), "orange")
RED = Image.new("RGB", (32, 32), "red")
SENT = SafetyPolicy(
    name="sent", picture_classifier="toy_classifiers:Redness", pictures={"red": Limit(threshold=0.9, action="block")}
)
CALLS: dict[str, Callable[[UnClip, str, Image.Image], Any]] = {
    "text_to_image": lambda pipe, text, _: pipe.text_to_image(["a cat", text], seed=0),
    "draft": lambda pipe, text, _: pipe.draft(text, seed=0, stop_after="prior"),
    "image_variations": lambda pipe, text, picture: pipe.image_variations(picture, prompt=text, seed=0),
    "image_to_image": lambda pipe, text, picture: pipe.image_to_image(picture, text, seed=0),
    "text_diff": lambda pipe, text, picture: pipe.text_diff(picture, "a cat", text, seed=0),
    "inpaint": lambda pipe, text, picture: pipe.inpaint(picture, Image.new("L", (32, 32), 255), text, seed=0),
    "outpaint": lambda pipe, text, picture: pipe.outpaint(picture, text, right=8, seed=0),
    "interpolate": lambda pipe, text, picture: pipe.interpolate(picture, text, frames=2, seed=0),
    "mix": lambda pipe, text, picture: pipe.mix([(picture, 1.0), (text, 1.0)], seed=0),
    "decode": lambda pipe, text, _: pipe.decode(torch.ones(pipe.clip.embedding_dim), prompt=text, seed=0),
    "finish": lambda pipe, text, _: pipe.finish(pipe.with_safety("off").draft(text, seed=0, stop_after="prior")),
}
SENDERS = ("image_variations", "image_to_image", "text_diff", "inpaint", "outpaint", "interpolate", "mix")
ALSO_SEND: dict[str, Callable[[UnClip, Image.Image], Any]] = {
    "upscale": lambda pipe, picture: pipe.upscale(picture, seed=0),
    "probe": lambda pipe, picture: pipe.probe(picture, [1]),
}
NEITHER = {"unconditional", "embed", "fit_basis", "advance"}
"""Tasks that read no text to draw and no picture, draw nothing, or go on like `finish`."""


def test_every_task_is_tried() -> None:
    assert CALLS.keys() | ALSO_SEND.keys() | NEITHER >= TASKS.keys()


@pytest.mark.parametrize("task", CALLS)
def test_a_blocked_text_is_stopped_before_anything_is_drawn(pipe: UnClip, task: str) -> None:
    guarded, drawn = pipe.with_safety(WORDS), []
    guarded.decoder.network.register_forward_pre_hook(lambda *_: drawn.append(1))
    with pytest.raises(SafetyError, match="weapons"):
        CALLS[task](guarded, "a gun", CAT)
    assert drawn == []
    guarded.decoder.network._forward_pre_hooks.clear()
    CALLS[task](guarded, "a dog", CAT)


@pytest.mark.parametrize("task", [*SENDERS, *ALSO_SEND])
def test_a_blocked_picture_is_refused(pipe: UnClip, task: str) -> None:
    guarded = pipe.with_safety(SENT)
    with pytest.raises(SafetyError, match="a picture that was sent is of the category red"):
        ALSO_SEND[task](guarded, RED) if task in ALSO_SEND else CALLS[task](guarded, "a dog", RED)


def test_a_negative_prompt_names_what_is_not_to_be_seen(pipe: UnClip) -> None:
    result = pipe.with_safety(WORDS).text_to_image("a cat", negative_prompt="a gun", seed=0)
    assert result.safety[0].findings == ()


def test_a_guard_changes_no_picture_that_it_lets_through(pipe: UnClip) -> None:
    plain = pipe.text_to_image("a cat", num_images=2, seed=3)
    guarded = pipe.with_safety("default").text_to_image("a cat", num_images=2, seed=3)
    assert [image.tobytes() for image in guarded] == [image.tobytes() for image in plain]
    assert plain.safety == [OFF, OFF]
    assert [(report.policy, report.checks) for report in guarded.safety] == 2 * [("default", ("words", "pictures"))]
    assert guarded[1:].safety == guarded.safety[1:]


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_blurred_pictures_say_so(pipe: UnClip, output_type: Any, capsys: pytest.CaptureFixture[str]) -> None:
    policy = SafetyPolicy(
        picture_classifier="toy_classifiers:Redness", pictures={"green": Limit(threshold=1e-9, action="blur")}
    )
    plain = pipe.text_to_image("a cat", num_images=4, seed=0).pictures()
    result = pipe.with_safety(policy).text_to_image("a cat", num_images=4, seed=0, output_type=output_type)
    blurred = [report.is_blurred for report in result.safety]
    assert blurred == [redness(one) < 0 for one in plain]
    assert any(blurred)
    for is_blurred, before, after in zip(blurred, plain, result.pictures(), strict=True):
        roughness = [np.abs(np.diff(np.asarray(one, float), axis=0)).mean() for one in (before, after)]
        assert roughness[1] < 0.5 * roughness[0] if is_blurred else roughness[1] == roughness[0]
    assert capsys.readouterr().err.count("so it is blurred") == sum(blurred)


def test_concepts_stop_image_embeddings(pipe: UnClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCLIP_CACHE", str(tmp_path))
    plain = pipe.text_to_image("a cat with sunglasses", seed=0)
    plain.save(tmp_path / "cat.png")
    rules = {"cats": ConceptRule(pictures=(tmp_path / "cat.png",), words=("kitten",))}
    guarded = pipe.with_safety(SafetyPolicy(concepts=rules))
    seen = guarded.with_safety("off").embed(plain[0])
    with pytest.raises(SafetyError, match="what would be drawn is of the category cats"):
        guarded.decode(seen, seed=0)
    # Also where nothing is drawn of an embedding.
    with pytest.raises(SafetyError, match="a picture that was sent is of the category cats"):
        guarded.upscale(plain[0], seed=0)
    other = pipe.embed(Image.effect_noise((32, 32), 90).convert("RGB"))
    if torch.cosine_similarity(seen, other, dim=0) < 0.9:
        guarded.decode(other, seed=0)
    # Learned once: the next guard reads what was kept.
    (kept,) = (tmp_path / "concepts").iterdir()
    before = kept.stat().st_mtime_ns
    again = pipe.with_safety(SafetyPolicy(concepts=rules))
    assert kept.stat().st_mtime_ns == before
    assert again.guard is not None
    assert guarded.guard is not None
    assert again.guard.gate is not None
    assert guarded.guard.gate is not None
    np.testing.assert_array_equal(again.guard.gate.thresholds["image"], guarded.guard.gate.thresholds["image"])


def test_a_concept_of_a_missing_picture_is_one_line(pipe: UnClip, tmp_path: Path) -> None:
    rules = {"cats": ConceptRule(pictures=(tmp_path / "none.png",))}
    with pytest.raises(InputError, match=r"none.png of a concept cannot be read \(No such file or directory\)"):
        pipe.with_safety(SafetyPolicy(concepts=rules))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_files_are_marked(suffix: str, pipe: UnClip, tmp_path: Path) -> None:
    require("c2pa")
    require("cryptography")
    policy = SafetyPolicy(provenance=Provenance(watermark=True, credentials=True, payload=77))
    large = Image.linear_gradient("L").convert("RGB")
    for guard, is_marked in ((policy, True), ("off", False)):
        result = replace(pipe.with_safety(guard).text_to_image("a cat", seed=0), images=[large])
        (path,) = result.save(tmp_path / f"{is_marked}{suffix}")
        with Image.open(path) as picture:
            found = detect_watermark(picture)
        assert found.is_present == is_marked
        assert not is_marked or found.payload == 77
        credentials = read_credentials(path.read_bytes())
        assert credentials.status == ("untrusted" if is_marked else "absent")
        assert credentials.source_type == ("trainedAlgorithmicMedia" if is_marked else "")


def test_a_painted_picture_says_that_a_part_was_made(pipe: UnClip) -> None:
    require("c2pa")
    require("cryptography")
    guarded = pipe.with_safety(SafetyPolicy(provenance=Provenance()))
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 16, 32))
    painted = guarded.inpaint(CAT, mask, "a dog", seed=0)
    credentials = read_credentials(painted.encode(painted[0], ".png", 0))
    assert credentials.source_type == "compositeWithTrainedAlgorithmicMedia"


def test_an_animation_is_signed(pipe: UnClip) -> None:
    require("c2pa")
    require("cryptography")
    result = pipe.with_safety(SafetyPolicy(provenance=Provenance())).text_to_image("a cat", num_images=2, seed=0)
    content = result.encode_series(result.pictures())
    assert read_credentials(content).status == "untrusted"
    with Image.open(io.BytesIO(content)) as animation:
        assert getattr(animation, "n_frames", 1) == 2


def test_a_sentence_encoder_is_fitted_once(pipe: UnClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCLIP_CACHE", str(tmp_path))
    write_tiny_bert(tmp_path / "bert")
    rules = {"cats": ConceptRule(words=("a cat with sunglasses",), threshold=2.0)}
    policy = SafetyPolicy(concepts=rules, sentence_encoder=str(tmp_path / "bert"))
    first, second = (pipe.with_safety(policy).guard for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.probe is not None
    assert second.probe is not None
    assert first.probe.threshold == pytest.approx(second.probe.threshold, abs=1e-6)
    texts = ["a cat", "hot dog"]
    np.testing.assert_allclose(first.probe.scores(texts), second.probe.scores(texts), atol=1e-5)


def test_what_the_sentence_encoder_finds_is_stopped(pipe: UnClip) -> None:
    rules = {"cats": ConceptRule(words=("kitten",), threshold=2.0)}
    guarded = pipe.with_safety(SafetyPolicy(concepts=rules))
    weights = np.array([[-5.0, 5.0], [5.0, -5.0], [0.0, 0.0]])
    probe = ConceptProbe(
        ("cats",),
        weights,
        0.5,
        lambda texts: np.array([[1.0, 0.0] if "tiger" in text else [0.0, 1.0] for text in texts]),
    )
    assert guarded.guard is not None
    guarded = replace(guarded, guard=replace(guarded.guard, probe=probe))
    assert guarded.text_to_image("a dog", seed=0).safety[0].checks == ("words", "concepts")
    with pytest.raises(SafetyError, match=r"the text is of the category cats \(concepts"):
        guarded.text_to_image("a tiger", seed=0)
