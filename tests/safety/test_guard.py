"""The guard finds what its policy names, does what the policy says about it, and writes down no content."""

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toy_classifiers import Redness
from unclip.errors import InputError, SafetyError
from unclip.safety import ConceptGate, Guard, ImageClassifier, SafetyPolicy, SafetyReport, blur
from unclip.safety.guard import OFF, load_object
from unclip.safety.policy import ConceptRule, Limit

GREY, RED = Image.new("RGB", (8, 8), "grey"), Image.new("RGB", (8, 8), "red")


def policy(**changes: object) -> SafetyPolicy:
    fields: dict[str, object] = {"name": "test", "picture_classifier": "toy_classifiers:Redness"}
    return SafetyPolicy.model_validate(fields | changes)


def looking_for_red(action: str) -> Guard:
    return Guard.open(policy(pictures={"red": Limit(threshold=0.5, action=action)})).begin()  # type: ignore[arg-type]


def test_words_that_are_blocked_raise_and_others_pass() -> None:
    guard = Guard.open(policy(words={"weapons": "block"})).begin()
    guard.check_texts(["a cat", ""])
    with pytest.raises(SafetyError, match=r"the text is of the category weapons \(words, policy 'test'\).*is blocked"):
        guard.check_texts(["a cat", "a cat with a p1st0l"])


def test_the_word_itself_is_not_in_the_message() -> None:
    with pytest.raises(SafetyError) as error:
        Guard.open(policy(words={"weapons": "block"})).check_texts(["a pistol"])
    assert "pistol" not in str(error.value)


def test_sexual_words_with_minors_are_blocked_by_every_policy() -> None:
    with pytest.raises(SafetyError, match="sexual_minors"):
        Guard.open(policy()).check_texts(["a nude child"])


def test_the_worst_category_is_the_one_that_is_named() -> None:
    with pytest.raises(SafetyError, match="of the category sexual_minors"):
        Guard.open(policy(words={"sexual": "block"})).check_texts(["a nude child"])


def test_a_first_look_is_for_blocks_alone(capsys: pytest.CaptureFixture[str]) -> None:
    guard = Guard.open(policy(words={"weapons": "warn", "alcohol": "block"}))
    guard.check_texts(["a gun"], only_blocks=True)
    assert capsys.readouterr().err == ""
    with pytest.raises(SafetyError, match="alcohol"):
        guard.check_texts(["a gun and a beer"], only_blocks=True)


def test_own_words_and_those_of_concepts_are_found() -> None:
    guard = Guard.open(policy(words={"brand": "block"}, extra_words={"brand": ("acme",)}))
    with pytest.raises(SafetyError, match="brand"):
        guard.check_texts(["an acme anvil"])
    named = Guard.open(policy(concepts={"clowns": ConceptRule(words=("a clown",))}))
    with pytest.raises(SafetyError, match="clowns"):
        named.check_texts(["a clown"])
    off = Guard.open(policy(concepts={"clowns": ConceptRule(words=("a clown",), action="off")}))
    off.check_texts(["a clown"])


def test_a_prompt_classifier_is_asked() -> None:
    limits = {"shouting": Limit(threshold=0.5)}
    guard = Guard.open(policy(prompt_classifier="toy_classifiers:shouting", prompts=limits)).begin()
    guard.check_texts(["A cat"])
    assert list(guard.notes.checks) == ["words", "prompts"]
    with pytest.raises(SafetyError, match="shouting"):
        guard.check_texts(["A CAT"])


def test_warnings_are_said_and_reported_and_logs_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    guard = Guard.open(policy(words={"weapons": "warn", "alcohol": "log"})).begin()
    guard.check_texts(["a gun and a beer", "a cat"])
    armed, cat = guard.review(["a gun and a beer", "a cat"], None, [GREY, GREY])
    assert {(one.category, one.action) for one in armed.findings} == {("weapons", "warn"), ("alcohol", "log")}
    assert cat.findings == ()
    stderr = capsys.readouterr().err
    assert stderr == "note: the text is of the category weapons (words, policy 'test')\n"


def test_pictures_that_are_drawn_are_blocked_blurred_or_let_through() -> None:
    with pytest.raises(SafetyError, match="a picture that was drawn is of the category red"):
        looking_for_red("block").review(["", ""], None, [GREY, RED])
    grey, red = looking_for_red("blur").review(["", ""], None, [GREY, RED])
    assert not grey.is_blurred
    assert red.is_blurred
    assert [report.checks for report in (grey, red)] == [("pictures",), ("pictures",)]
    (finding,) = red.findings
    assert finding.threshold == 0.5
    assert finding.score == 1.0


@pytest.mark.parametrize("action", ["block", "blur"])
def test_pictures_that_are_sent_are_refused(action: str) -> None:
    guard = looking_for_red(action)
    guard.check_pictures([GREY])
    with pytest.raises(SafetyError, match="a picture that was sent"):
        guard.check_pictures([GREY, RED])


def test_previews_are_shown_unless_they_would_be_blocked_or_blurred() -> None:
    shown = {action: looking_for_red(action).may_show(RED) for action in ("block", "blur", "warn", "log")}
    assert shown == {"block": False, "blur": False, "warn": True, "log": True}
    assert looking_for_red("block").may_show(GREY)


def test_concepts_are_found_in_embeddings_before_anything_is_drawn() -> None:
    rules = {"east": ConceptRule(words=("east",), threshold=0.5)}
    gate = ConceptGate.calibrate(
        {"east": {"text": np.array([[1.0, 0.0]]), "image": np.array([[1.0, 0.0]])}},
        {"text": np.array([[0.0, 1.0], [0.1, 1.0]]), "image": np.array([[0.0, 1.0], [0.1, 1.0]])},
        {"east": 0.5},
    )
    opened = Guard.open(policy(concepts=rules))
    guard = Guard(opened.policy, opened.words, opened.word_actions, gate=gate)
    guard.check_image_embeddings(np.array([[0.0, 2.0]]))
    with pytest.raises(SafetyError, match="what would be drawn is of the category east"):
        guard.check_image_embeddings(np.array([[0.0, 2.0], [3.0, 0.1]]))
    with pytest.raises(SafetyError, match="the text is of the category east"):
        guard.check_text_embeddings(["some text"], np.array([[3.0, 0.1]]))
    guard.check_text_embeddings([""], np.array([[3.0, 0.1]]))  # the place of a picture


def test_the_audit_has_hashes_and_no_content(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    audit, text = tmp_path / "audit.jsonl", "a very secret gun"
    guard = Guard.open(policy(words={"weapons": "block"}, audit=audit))
    with caplog.at_level(logging.INFO, "unclip.audit"), pytest.raises(SafetyError):
        guard.check_texts([text])
    (line,) = audit.read_text().splitlines()
    assert caplog.messages == [line]
    record = json.loads(line)
    assert record["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert (record["category"], record["action"], record["check"]) == ("weapons", "block", "words")
    assert "secret" not in line


def test_nothing_goes_on_without_the_audit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"audit.jsonl cannot be written \(No such file or directory\)"):
        Guard.open(policy(words={"weapons": "log"}, audit=tmp_path / "missing" / "audit.jsonl"))
    guard = Guard.open(policy(words={"weapons": "log"}, audit=tmp_path / "audit.jsonl"))
    (tmp_path / "audit.jsonl").unlink()
    (tmp_path / "audit.jsonl").mkdir()
    with pytest.raises(InputError, match=r"audit.jsonl cannot be written \(Is a directory\)"):
        guard.check_texts(["a gun"])


def test_calls_do_not_share_what_they_note() -> None:
    guard = Guard.open(policy(words={"weapons": "log"}))
    first, second = guard.begin(), guard.begin()
    first.check_texts(["a gun"])
    assert list(first.notes.of_texts) == ["a gun"]
    assert second.notes.of_texts == guard.notes.of_texts == {}


def test_nothing_can_be_made_out_in_a_blurred_picture() -> None:
    stripes = Image.new("RGBA", (64, 48), "white")
    stripes.paste("black", (0, 0, 64, 24))
    for x in range(0, 64, 4):
        stripes.paste("red", (x, 24, x + 2, 48))
    blurred = blur(stripes)
    assert (blurred.size, blurred.mode) == (stripes.size, stripes.mode)
    rows = np.asarray(blurred.convert("L"), dtype=float)[36]
    assert np.ptp(rows[16:-16]) <= 3.0  # stripes of 2 pixels, 179 levels apart


def test_reports_are_ready_for_json() -> None:
    record = looking_for_red("blur").review([""], None, [RED])[0].record()
    assert json.loads(json.dumps(record)) == record
    assert SafetyReport("off", (), ()) == OFF
    assert OFF.record() == {"policy": "off", "checks": [], "findings": []}


def test_classifiers_are_a_protocol() -> None:
    assert isinstance(Redness(), ImageClassifier)
    assert load_object("json:dumps") is json.dumps
