"""Put English nouns and verbs into phrases: articles, plurals, -ing. Knows the rules that names of things need."""

import re

IRREGULAR = {
    "mouse": "mice", "man": "men", "woman": "women", "person": "people", "child": "children", "tooth": "teeth",
    "foot": "feet", "goose": "geese", "sheep": "sheep", "fish": "fish", "blowfish": "blowfish", "deer": "deer",
    "leaf": "leaves", "sheaf": "sheaves", "knife": "knives", "loaf": "loaves", "wolf": "wolves", "ox": "oxen",
    "die": "dice", "snowman": "snowmen", "squid": "squid", "shrimp": "shrimp", "bison": "bison", "moose": "moose",
}  # fmt: skip


def is_plural(noun: str) -> bool:
    """Return whether a noun phrase is a plural, by the form of its noun: "glasses", not "bus" or "face with eyes"."""
    noun = _split(noun)[0]
    return noun.endswith("s") and (not noun.endswith(("ss", "us", "is")) or noun.endswith("skis"))


def article(noun: str) -> str:
    """Put the indefinite article before a noun phrase; a plural has none."""
    if is_plural(noun):
        return noun
    is_vowel = re.match(r"(?!one\b|uni[^nm]|eu|ew|uk)[aeiou]|hour|heir|honest", noun.lower())
    return f"{'an' if is_vowel else 'a'} {noun}"


def plural(noun: str) -> str:
    """Return the plural of a noun phrase: of its last word, or of the last before "with", "of", "in" or "on"."""
    noun, rest = _split(noun)
    start, _, last = noun.rpartition(" ")
    if last in IRREGULAR:
        last = IRREGULAR[last]
    elif is_plural(last):
        pass
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        last += "es"
    elif re.search(r"[^aeiou]y$", last):
        last = f"{last[:-1]}ies"
    else:
        last += "s"
    return f"{start} {last}{rest}".strip()


def gerund(verb: str) -> str:
    """Return the verb with -ing."""
    if verb.endswith("e") and not verb.endswith(("ee", "ye", "oe")):
        return f"{verb[:-2]}ying" if verb.endswith("ie") else f"{verb[:-1]}ing"
    # One vowel between single consonants doubles the last, as in "run", but not in "visit".
    doubles = re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", verb)
    return f"{verb}{verb[-1] if doubles else ''}ing"


def _split(noun: str) -> tuple[str, str]:
    """Split a noun phrase before its first preposition."""
    match = re.fullmatch(r"(.+?)((?: (?:with|without|of|in|on|behind|over|and) .+)?)", noun)
    assert match is not None, noun
    return match[1], match[2]
