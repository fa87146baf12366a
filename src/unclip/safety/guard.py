"""Look for what a policy names in texts, image embeddings and pictures, act on it, and report it."""

import hashlib
import importlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from PIL import Image, ImageFilter

from unclip.errors import ConfigError, InputError, SafetyError, did_you_mean
from unclip.progress import say
from unclip.safety.classifier import ImageClassifier, OpenNsfw
from unclip.safety.concepts import ConceptGate, Kind
from unclip.safety.marker import UNMARKED, Marker
from unclip.safety.policy import NEVER_ALLOWED, Action, Limit, SafetyPolicy
from unclip.safety.probe import ConceptProbe
from unclip.safety.text import WordFilter, word_categories

AUDIT = logging.getLogger("unclip.audit")
BLUR = 1 / 12
"""Radius of the blur, in shorter sides: what is left of a picture are a few soft colours."""
Check = Literal["words", "prompts", "concepts", "pictures"]


class Detection(NamedTuple):
    """Something that the policy names."""

    check: Check
    category: str
    action: str
    score: float
    threshold: float


@dataclass(frozen=True)
class SafetyReport:
    """What was looked for in one picture and in its request, and what was found that did not block it."""

    policy: str
    """The name of the policy; "off" where there is none."""
    checks: tuple[Check, ...] = ()
    """What was looked at."""
    findings: tuple[Detection, ...] = ()

    @property
    def is_blurred(self) -> bool:
        """Whether the picture was changed so that nothing can be made out in it."""
        return any(finding.action == "blur" for finding in self.findings)

    def record(self) -> dict[str, Any]:
        """Return the report ready for JSON."""
        findings = [finding._asdict() for finding in self.findings]
        return {"policy": self.policy, "checks": list(self.checks), "findings": findings}


OFF = SafetyReport("off")
"""The report where nothing is looked for."""


@dataclass
class Notes:
    """What one call of a task looked at and found, so far."""

    checks: dict[Check, None] = field(default_factory=dict)
    of_texts: dict[str, list[Detection]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Guard:
    """A policy with what it needs to look at things. What it blocks raises `SafetyError`."""

    policy: SafetyPolicy
    words: WordFilter
    word_actions: Mapping[str, Action]
    """What is done about each category of words; a concept is one too, of the words that name it."""
    prompt_classifier: Callable[[str], Mapping[str, float]] | None = None
    picture_classifier: ImageClassifier | None = None
    marker: Marker = UNMARKED
    """How what is drawn is marked."""
    probe: ConceptProbe | None = None
    """Tells concepts in texts by a sentence encoder, beside the model's CLIP."""
    gate: ConceptGate | None = None
    """Of a model; None while the policy has no concepts."""
    notes: Notes = field(default_factory=Notes)

    @classmethod
    def open(cls, policy: SafetyPolicy) -> Self:
        """Open the word lists, the classifiers and the marker of a policy; the gate is made for a model.

        Raises `ConfigError` for a category of words that there is not, `InputError` for a classifier that cannot be
        used and `DependencyError` for one that is not installed.
        """
        known = {*word_categories(), *policy.extra_words}
        for category in policy.words.keys() - known:
            raise ConfigError(f"words.{category}: there is no such list; {did_you_mean(category, known)}")
        name = policy.picture_classifier
        classifier = OpenNsfw() if name == "opennsfw" else None if name is None else load_object(name)()
        if not isinstance(classifier, ImageClassifier | None):
            raise InputError(f"picture_classifier={name!r} has no method classify(pictures); see ImageClassifier.")
        actions = {name: rule.action for name, rule in policy.concepts.items()} | dict(policy.words)
        of_concepts = {name: rule.words for name, rule in policy.concepts.items()}
        extra = {
            name: (*policy.extra_words.get(name, ()), *of_concepts.get(name, ()))
            for name in policy.extra_words.keys() | of_concepts.keys()
        }
        listed = [category for category, action in actions.items() if action != "off"]
        text_classifier = None if policy.prompt_classifier is None else load_object(policy.prompt_classifier)
        # A misspelt category would never be found.
        if classifier is not None:
            _check_categories("pictures", policy.pictures, classifier.classify([Image.new("RGB", (8, 8))])[0])
        if text_classifier is not None:
            _check_categories("prompts", policy.prompts, text_classifier("a text"))
        marker = Marker.open(policy.provenance)
        if policy.audit is not None:
            _append(policy.audit, "")  # now, not at the first finding
        return cls(policy, WordFilter.read(listed, extra), actions, text_classifier, classifier, marker)

    def begin(self) -> Self:
        """Return the guard for one call of a task, which notes what it finds."""
        return replace(self, notes=Notes())

    def check_texts(self, texts: Sequence[str], *, only_blocks: bool = False) -> None:
        """Look for words, and ask the prompt classifier; with `only_blocks` other findings are passed over."""
        for text in dict.fromkeys(filter(None, texts)):
            categories = dict.fromkeys(hit.category for hit in self.words.find(text))
            found = [Detection("words", one, self.word_actions.get(one, "block"), 1.0, 1.0) for one in categories]
            if self.prompt_classifier is not None:
                found += _beyond("prompts", self.prompt_classifier(text), self.policy.prompts)
            found = [one for one in found if one.action == "block"] if only_blocks else found
            self._act(found, text.encode(errors="surrogatepass"), "the text", text)
        self.notes.checks["words"] = None
        if self.prompt_classifier is not None:
            self.notes.checks["prompts"] = None

    def check_text_embeddings(self, texts: Sequence[str], embeddings: np.ndarray) -> None:
        """Compare texts, by CLIP's embeddings (texts, dim) and by the sentence encoder, with the concepts."""
        found = self._concepts("text", embeddings)
        if self.probe is not None:
            by_sentence = self._matches(self.probe.names, self.probe.scores(texts), self.probe.threshold)
            found = [[*one, *more] for one, more in zip(found, by_sentence, strict=True)]
        for text, concepts in zip(texts, found, strict=True):
            if text:
                self._act(concepts, text.encode(errors="surrogatepass"), "the text", text)

    def check_image_embeddings(self, embeddings: np.ndarray, what: str = "what would be drawn") -> None:
        """Compare image embeddings (pictures, dim), of which nothing is drawn yet, with the concepts."""
        for row, found in zip(embeddings, self._concepts("image", embeddings), strict=True):
            self._act(found, row.tobytes(), what)

    def check_pictures(self, pictures: Sequence[Image.Image]) -> None:
        """Look at pictures that were sent. What would be blurred is refused: it is of no use as an input."""
        for picture, found in zip(pictures, self._classify(pictures), strict=True):
            refused = [one._replace(action="block") if one.action == "blur" else one for one in found]
            self._act(refused, picture.tobytes(), "a picture that was sent")

    def may_show(self, picture: Image.Image) -> bool:
        """Return whether a picture may be shown as it is; nothing is noted."""
        return all(one.action in ("warn", "log") for one in self._classify([picture])[0])

    def review(
        self, prompts: Sequence[str], embeddings: np.ndarray | None, pictures: Sequence[Image.Image]
    ) -> list[SafetyReport]:
        """Look at pictures that were drawn, and return a report of each; `embeddings` are those they are drawn of."""
        no_concepts: list[list[Detection]] = [[] for _ in pictures]
        of_concepts = no_concepts if embeddings is None else self._concepts("image", embeddings)
        of_pictures, reports = self._classify(pictures), []
        for picture, prompt, concepts, found in zip(pictures, prompts, of_concepts, of_pictures, strict=True):
            self._act(found, picture.tobytes(), "a picture that was drawn")
            findings = dict.fromkeys([*self.notes.of_texts.get(prompt, []), *concepts, *found])
            reports.append(SafetyReport(self.policy.name, tuple(self.notes.checks), tuple(findings)))
        return reports

    def _concepts(self, kind: Kind, embeddings: np.ndarray) -> list[list[Detection]]:
        """Return the concepts found in each embedding."""
        if self.gate is None or kind not in self.gate.thresholds:
            return [[] for _ in embeddings]
        return self._matches(self.gate.names, self.gate.margins(kind, embeddings), self.gate.thresholds[kind])

    def _matches(
        self, names: Sequence[str], scores: np.ndarray, thresholds: np.ndarray | float
    ) -> list[list[Detection]]:
        """Return the concepts whose scores (rows, concepts) reach their thresholds."""
        self.notes.checks["concepts"] = None
        limits = np.broadcast_to(thresholds, len(names))
        return [
            [
                Detection("concepts", name, self.policy.concepts[name].action, float(score), float(limit))
                for name, score, limit in zip(names, row, limits, strict=True)
                if score >= limit
            ]
            for row in scores
        ]

    def _classify(self, pictures: Sequence[Image.Image]) -> list[list[Detection]]:
        """Return what the picture classifier finds in each picture."""
        if self.picture_classifier is None or not self.policy.pictures:
            return [[] for _ in pictures]
        self.notes.checks["pictures"] = None
        scores = self.picture_classifier.classify(pictures)
        return [_beyond("pictures", one, self.policy.pictures) for one in scores]

    def _act(self, findings: Sequence[Detection], content: bytes, what: str, text: str | None = None) -> None:
        """Write findings to the audit, tell the user of those that say so, and raise `SafetyError` for one that blocks.

        Those of a text are kept for the reports of its pictures.
        """
        for one in findings:
            line = {"time": round(time.time(), 3), "policy": self.policy.name, **one._asdict()}
            line |= {"what": what, "sha256": hashlib.sha256(content).hexdigest()}
            AUDIT.info(json.dumps(line))
            if self.policy.audit is not None:
                _append(self.policy.audit, f"{json.dumps(line)}\n")
        for one in sorted(findings, key=lambda one: one.category != NEVER_ALLOWED):
            about = f"{what} is of the category {one.category} ({one.check}, policy {self.policy.name!r})"
            if one.action == "block":
                raise SafetyError(f"{about}, which is blocked here; ask for something else.")
            if one.action in ("warn", "blur"):
                say(f"note: {about}{', so it is blurred' if one.action == 'blur' else ''}")
        if text is not None and findings:
            self.notes.of_texts.setdefault(text, []).extend(findings)


def blur(picture: Image.Image) -> Image.Image:
    """Return a picture in which nothing can be made out: same size and mode."""
    return picture.filter(ImageFilter.GaussianBlur(BLUR * min(picture.size)))


def load_object(name: str) -> Any:
    """Return the object `package.module:name`; raises `InputError` where there is none."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{name!r} cannot be loaded ({error}); write package.module:name of a callable.") from None


def _check_categories(check: Check, limits: Mapping[str, Limit], scores: Mapping[str, float]) -> None:
    """Raise `ConfigError` for a limit of a category that a classifier does not have."""
    for category in limits.keys() - scores.keys():
        raise ConfigError(f"{check}.{category}: the classifier has no such category; {did_you_mean(category, scores)}")


def _append(path: Path, line: str) -> None:
    """Write a line to the end of the audit; nothing goes on without it."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise InputError(f"the audit {path} cannot be written ({error.strerror}); give another file.") from None


def _beyond(check: Check, scores: Mapping[str, float], limits: Mapping[str, Limit]) -> list[Detection]:
    """Return the categories whose probability reaches its limit."""
    return [
        Detection(check, category, limit.action, scores[category], limit.threshold)
        for category, limit in limits.items()
        if limit.action != "off" and scores.get(category, 0.0) >= limit.threshold
    ]
