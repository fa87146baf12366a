"""The exception tree and the nearest-name hint."""

import inspect

from unclip import errors
from unclip.errors import UnclipError, did_you_mean


def test_every_exception_derives_from_one() -> None:
    classes = [value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == "unclip.errors"]
    assert len(classes) == 10
    assert all(issubclass(cls, UnclipError) and cls.__doc__ for cls in classes)


def test_nearest_name_and_all_names_are_given() -> None:
    assert did_you_mean("emojy", ["emoji", "photo"]) == "did you mean 'emoji'? allowed: emoji, photo."


def test_nothing_near_gives_only_the_list() -> None:
    assert did_you_mean("zzz", ["photo", "emoji"]) == "allowed: emoji, photo."
