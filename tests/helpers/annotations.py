"""The type checker that jaxtyping's import hook calls on every function of the package while the tests run."""

from typing import Any, Self

from beartype import BeartypeConf, FrozenDict, beartype

# The hook decorates methods one by one, where `Self` has no meaning, so it alone goes unchecked.
check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any}), is_pep484_tower=True))
