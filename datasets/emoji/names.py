"""Find the emoji that an icon's name means, for packages without code points. Knows no drawings."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

SUFFIXES = ("face", "animal", "symbol", "sign", "button", "icon", "emoji")
"""Words that one source adds to a name and another leaves out."""


class Names:
    """Emoji by what they may be called: labels first, then Unicode's names, then shortcodes, then near forms.

    A name that means two emoji on one level means none there: the joins must be sure.
    """

    def __init__(self, labels: Mapping[str, str], shortcodes: Mapping[str, Iterable[str]]) -> None:
        """`labels` and `shortcodes` are by code points, `1f600-200d-...`."""
        levels = [labels.items(), ((code, name) for code in labels for name in unicode_names(code))]
        levels.append((code, name) for code, names in shortcodes.items() if code in labels for name in names)
        self.levels = [_index(level) for level in levels]
        near = [(code, form) for code, label in labels.items() for form in near_forms(squash(label))]
        self.near = _index(near)

    def find(self, name: str) -> str | None:
        """The code points of the emoji called `name`, or None if it is not sure."""
        squashed = squash(name)
        for index in self.levels:
            if code := index.get(squashed):
                return code
        forms = [squashed, *near_forms(squashed)]
        codes = {code for form in forms for index in (*self.levels, self.near) if (code := index.get(form))}
        return codes.pop() if len(codes) == 1 else None


def _index(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Code points by squashed name, of names that mean one emoji."""
    codes: dict[str, set[str]] = defaultdict(set)
    for code, name in pairs:
        codes[squash(name)].add(code)
    return {name: found.pop() for name, found in codes.items() if len(found) == 1}


def squash(name: str) -> str:
    """Letters and digits alone, in lower case, without accents."""
    plain = unicodedata.normalize("NFD", name.lower().replace("&", "and"))
    return re.sub(r"[^a-z0-9]", "", re.sub(r"flag-for-(flag-)?", "flag", plain))


def unicode_names(code: str) -> list[str]:
    """Unicode's own name of an emoji of one character."""
    points = [part for part in code.split("-") if part != "fe0f"]
    name = unicodedata.name(chr(int(points[0], 16)), "") if len(points) == 1 else ""
    return [name] if name else []


def near_forms(squashed: str) -> list[str]:
    """The same name without a number of a variant, and without a word that sources add."""
    forms = [re.sub(r"(?<=[a-z])[1-4]$", "", squashed)]
    forms += [form.removesuffix(suffix) for form in tuple(forms) for suffix in SUFFIXES if form != suffix]
    return [form for form in dict.fromkeys(forms) if form != squashed]
