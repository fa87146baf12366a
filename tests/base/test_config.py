"""Configurations: frozen, closed, and overridden by dotted names with typed values."""

import json
from typing import Annotated, Literal

import pydantic
import pytest
from pydantic import BeforeValidator

from unclip.config import Config, load_config, one_of, override
from unclip.errors import ConfigError


class Inner(Config):
    """A network."""

    depth: int
    """Blocks."""
    activation: Literal["gelu", "relu"] = "gelu"
    widths: tuple[int, ...] = (1, 2)
    name: str = "net"


class Outer(Config):
    """A run."""

    inner: Inner
    """The network."""
    rate: float = 1e-3
    resume: bool = True


OUTER = Outer(inner=Inner(depth=2))


def test_a_config_is_frozen() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        OUTER.rate = 2.0


def test_field_docstrings_are_the_help() -> None:
    assert Inner.model_fields["depth"].description == "Blocks."


def test_json_round_trip() -> None:
    assert load_config(Outer, OUTER.model_dump(mode="json")) == OUTER


def test_replace_changes_a_copy() -> None:
    assert (OUTER.replace(rate=0.5).rate, OUTER.rate) == (0.5, 1e-3)
    with pytest.raises(ConfigError, match="rate"):
        OUTER.replace(rate="fast")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("inner.depth", "6", Inner(depth=6)),
        ("inner.activation", "relu", Inner(depth=2, activation="relu")),
        ("inner.widths", "[4, 5, 6]", Inner(depth=2, widths=(4, 5, 6))),
    ],
)
def test_override_sets_a_dotted_field(name: str, text: str, expected: Inner) -> None:
    assert override(OUTER, {name: text}) == Outer(inner=expected)


def test_override_reads_numbers_and_booleans() -> None:
    assert override(OUTER, {"rate": "1e-4", "resume": "false"}) == Outer(inner=Inner(depth=2), rate=1e-4, resume=False)


def test_override_keeps_text_that_looks_like_a_number() -> None:
    assert override(OUTER, {"inner.name": "7"}).inner.name == "7"


def test_override_leaves_its_argument() -> None:
    override(OUTER, {"inner.depth": "6"})
    assert OUTER.inner.depth == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inner.dept": "6"}, "unknown setting 'inner.dept': Inner has no 'dept'; did you mean 'depth'?"),
        ({"iner.depth": "6"}, "Outer has no 'iner'; did you mean 'inner'?"),
        ({"rate.depth": "6"}, "'rate' has no fields"),
        ({"inner.depth": "six"}, r"inner\.depth: .*valid integer.*'six'"),
        ({"inner.activation": "tanh"}, r"inner\.activation: .*'gelu' or 'relu'.*'tanh'"),
    ],
)
def test_a_wrong_override_is_explained(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")) as caught:
        override(OUTER, changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "inner: Field required"),
        ({"inner": {"depth": 2}, "rat": 1}, "unknown setting 'rat' of Outer; did you mean 'rate'?"),
        ({"inner": {"depth": 2, "detph": 1}}, "unknown setting 'inner.detph'"),
        ({"inner": {"depth": 1.5}}, r"inner\.depth: .*1\.5"),
    ],
)
def test_a_wrong_mapping_is_explained(mapping: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        load_config(Outer, mapping)


def test_an_unknown_inner_field_gets_the_names_of_its_own_class() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'depth'\? allowed: activation, depth, name, widths"):
        load_config(Outer, {"inner": {"depth": 2, "detph": 1}})


def test_json_of_half_a_surrogate_is_its_escape() -> None:
    """A name of a file that is not UTF-8 gets into reports unchecked, where they are made by `model_construct`."""
    report = Inner.model_construct(depth=2, name="n\udcff.png")
    assert json.loads(report.model_dump_json())["name"] == "n\udcff.png"
    assert json.loads(report.model_dump_json(indent=1))["depth"] == 2


class Other(Config):
    """Another network."""

    depth: int
    heads: int


class Either(Config):
    """A run of one of two networks."""

    inner: Annotated[Inner | Other, BeforeValidator(one_of(Inner, Other))]


def test_one_of_several_is_the_one_that_knows_most_of_the_names() -> None:
    assert load_config(Either, {"inner": {"depth": 3}}).inner == Inner(depth=3)
    assert load_config(Either, {"inner": {"depth": 3, "heads": 2}}).inner == Other(depth=3, heads=2)
    assert load_config(Either, {"inner": Other(depth=3, heads=2)}).inner == Other(depth=3, heads=2)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ({"depth": "x", "heads": 2}, r"^inner: depth: Input should be a valid integer, .* \(found 'x'\)$"),
        ({"heads": 2}, r"^inner: depth: Field required$"),
        (OUTER, r"^found a Outer; pass a Inner or Other\.$"),
    ],
)
def test_one_of_several_explains_itself_alone(inner: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(Either, {"inner": inner})
