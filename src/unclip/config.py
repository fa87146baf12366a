"""Define the base of every configuration, and typed overrides and differences by dotted name."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Self, TypeVar, Union, get_args, get_origin

import pydantic

from unclip.errors import ConfigError, did_you_mean


class Config(pydantic.BaseModel):
    """A frozen configuration. Fields are keyword-only, unknown ones are refused, a field's docstring is its help."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, protected_namespaces=()
    )

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with some fields changed; raises `ConfigError` like `load_config`."""
        return load_config(type(self), dict(self) | changes)

    def model_dump_json(self, *, indent: int | None = None) -> str:  # type: ignore[override]
        """Write JSON; half a surrogate, as in file names that are not UTF-8, is escaped, since pydantic refuses it."""
        try:
            return super().model_dump_json(indent=indent)
        except ValueError:
            return json.dumps(self.model_dump(mode="json"), indent=indent)


C = TypeVar("C", bound=Config)


def load_config(cls: type[C], mapping: Mapping[str, Any]) -> C:
    """Build `cls` from a mapping; raises `ConfigError` naming the field, its value and the allowed ones."""
    try:
        return cls.model_validate(dict(mapping))
    except pydantic.ValidationError as error:
        raise ConfigError("; ".join(_explain(cls, detail) for detail in error.errors())) from None


def one_of(*classes: type[Config]) -> Callable[[Any], Any]:
    """Return a validator for a field that takes one of several configurations, as `Annotated[A | B, BeforeValidator]`.

    A mapping becomes the first of those that know most of its names, so that errors are about that one alone. Raises
    `ConfigError` for a configuration of another class.
    """

    def load(value: Any) -> Any:
        if isinstance(value, Config) and not isinstance(value, classes):
            allowed = " or ".join(cls.__name__ for cls in classes)
            raise ConfigError(f"found a {type(value).__name__}; pass a {allowed}.")
        if not isinstance(value, Mapping):
            return value
        chosen = max(classes, key=lambda cls: len(value.keys() & cls.model_fields.keys()))
        try:
            return chosen.model_validate(dict(value))
        except pydantic.ValidationError as error:
            # pydantic puts the name of the field before it.
            raise ValueError("; ".join(_explain(chosen, detail) for detail in error.errors())) from None

    return load


def override(config: C, changes: Mapping[str, str]) -> C:
    """Copy `config` with dotted fields set from text: `{"model.depth": "6"}`.

    Values are read as JSON if possible ("6", "[1, 2]", "true"); otherwise, and for a `str` field, as text. Raises
    `ConfigError` for an unknown field (with the nearest name) and for a value of the wrong type.
    """
    values = config.model_dump()
    for name, text in changes.items():
        *parents, last = name.split(".")
        section: pydantic.BaseModel = config
        fields = values
        for key in parents:
            _require(section, key, name)
            fields, section = fields[key], getattr(section, key)
            if not isinstance(section, pydantic.BaseModel):
                raise ConfigError(f"{name}: {key!r} has no fields: it is a single value.")
        types = _types(_require(section, last, name))
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        # A name may look like a number: 2024 is a folder if the field is a text or a path.
        is_name = types <= {str, Path, NoneType}
        may_be_json = NoneType in types and isinstance(value, str | None)
        fields[last] = text if is_name and not may_be_json else value
    return load_config(type(config), values)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """List the values of nested mappings by dotted name: `{"decoder": {"num_steps": 25}}` has "decoder.num_steps"."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compare nested settings: values that differ, as (before, now) by dotted name; a missing one counts as None."""
    old, new = flatten(before), flatten(now)
    return {name: (old.get(name), new.get(name)) for name in old | new if old.get(name) != new.get(name)}


def _types(annotation: Any) -> set[Any]:
    """List the types that a field takes."""
    if get_origin(annotation) is Annotated:
        return _types(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return set().union(*map(_types, get_args(annotation)))
    return {annotation}


def _require(config: pydantic.BaseModel, key: str, name: str) -> Any:
    """Return the annotation of the field `key`; raises `ConfigError` if there is none."""
    fields = type(config).model_fields
    if key not in fields:
        hint = did_you_mean(key, fields)
        raise ConfigError(f"unknown setting {name!r}: {type(config).__name__} has no {key!r}; {hint}")
    return fields[key].annotation


def _explain(cls: type[Config], detail: Any) -> str:
    path = [str(part) for part in detail["loc"]]
    name = ".".join(path) or cls.__name__
    if detail["type"] == "extra_forbidden":
        for key in path[:-1]:  # down to the class without this field, or to a field that is no configuration
            field = cls.model_fields.get(key)
            if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, Config)):
                break
            cls = field.annotation
        return f"unknown setting {name!r} of {cls.__name__}; {did_you_mean(path[-1], cls.model_fields)}"
    message = detail["msg"].removeprefix("Value error, ")
    value = "" if detail["type"] in {"missing", "value_error"} else f" (found {detail['input']!r})"
    return f"{name}: {message}{value}"
