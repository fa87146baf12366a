"""Find the words of listed categories in prompts, also where their letters are disguised."""

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import groupby, islice, product
from pathlib import Path
from typing import NamedTuple

from unclip.errors import InputError, did_you_mean

WORDS = Path(__file__).with_name("words")
BOTH = {"sexual_minors": ("sexual", "minors")}
"""Categories that are also found where both of two others are; every filter from the shipped tables has them."""
HIDDEN = {"Mn", "Me", "Cc", "Cf", "Cn", "Co", "Cs"}
"""Unicode categories of marks on letters, and of what is not drawn."""
LOOKALIKES = str.maketrans(
    "абвгдезиклмнопрстухъьыяіјѕһԁԛԝӏҽѵ" "αβγεζηικμνοπρστυχωΗΜΝΣΥ" "աոսցօքհյլկ"
    "ᎪᏴᏟᎠᎬᏀᎻᎥᎫᏦᏞᎷᏁᎾᏢᎡᏚᎢᏙᎳᎩᏃ" "əœæɑɩðþ∂ƅᴦϲϹ" "\u2800\ufdfa\ufdfb",
    "abbrdeenkimhonpctyxbbbrijshdqwlev" "abyezniukvonpotuxwhmney" "wnugoqhjlu"
    "abcdeghijklmnoprstvwyz" "eoaaiopdbrcc" "   ",
    "'’‘ʼ`´\u115f\u1160",
)  # fmt: skip
"""Small Latin letters by Cyrillic, Greek, Armenian, Cherokee and other signs; three are space, and the last vanish."""
LATIN = re.compile(r"(?:LATIN|REGIONAL)\b.* LETTER (?:[A-Z]+ )*?([A-Z])(?: |$)")
"""Finds in a character's Unicode name the Latin letter that it is a form of."""
ALONE = "\u2600-\u27bf\u3040-\u30ff\u3400-\u9fff\U0001f000-\U0001faff"
"""Characters that are words by themselves: kana, Han characters and emoji."""
PART = re.compile(rf"(?:[^\W_{ALONE}]|[@$€£!|*])+|[{ALONE}]")
LEET = str.maketrans("0345789@$€£", "oeastbgasel")
AMBIGUOUS = {"1": "il", "!": "il", "|": "li", "6": "gb", "*": "aeiou"}
MAX_SPELLINGS = 12
"""Spellings of one word that are tried for its ambiguous signs."""


class Hit(NamedTuple):
    """An entry of a category's list that a text contains."""

    category: str
    word: str


class WordFilter:
    """Finds the entries of lists of words in texts, of the categories in `reported` (default: all).

    An entry is a word or a phrase. It is found as whole words, in the disguises that `normalize` undoes, its last word
    also with -s, -es, -ed and -ing. `=word` has no such endings; `!phrase` is an exception: no entry of its category
    is found inside. Raises `InputError` for an entry without a letter or digit.

    >>> WordFilter({"alcohol": ["cocktail", "!cocktail dress"]}).find("a cocktail dress, two c0ckta!ls")
    [Hit(category='alcohol', word='cocktail')]
    """

    def __init__(self, words: Mapping[str, Sequence[str]], reported: Collection[str] | None = None) -> None:
        self._reported = words.keys() | BOTH.keys() if reported is None else frozenset(reported)
        self._entries: dict[str, list[tuple[str, str]]] = {}
        self._longest: dict[str, int] = {}  # words of the longest entry, by the first word
        for category, entry in ((category, entry) for category, entries in words.items() for entry in entries):
            parts = [part for chunk in _parts(entry.lstrip("!=")) for part in chunk if part not in ("", ",")]
            if not parts:
                raise InputError(f"the entry {entry!r} of {category!r} has neither letters nor digits; remove it.")
            for last in parts[-1:] if entry[0] == "=" else _forms(parts[-1]):
                phrase = [*parts[:-1], last]
                self._entries.setdefault(" ".join(phrase), []).append((category, entry.lstrip("=")))
                self._longest[phrase[0]] = max(len(phrase), self._longest.get(phrase[0], 0))
        self._known = frozenset(word for phrase in self._entries for word in phrase.split())

    @classmethod
    def read(cls, categories: Collection[str], extra: Mapping[str, Sequence[str]] | None = None) -> "WordFilter":
        """Read the shipped tables of `categories` and of `BOTH`, and add the entries of `extra`, by category.

        Raises `InputError` for a category that has neither a table nor entries in `extra`.
        """
        extra, shipped = extra or {}, word_categories()
        for category in categories:
            if category not in shipped and category not in extra:
                raise InputError(f"category {category!r} has no words; {did_you_mean(category, [*shipped, *extra])}")
        words: dict[str, Sequence[str]] = {}
        for name in sorted({*categories, *BOTH}.union(*BOTH.values())):
            lines = (WORDS / f"{name}.txt").read_text(encoding="utf-8").splitlines() if name in shipped else []
            words[name] = [line for line in lines if line and line[0] != "#"] + list(extra.get(name, ()))
        return cls(words, {*categories, *BOTH})

    def find(self, text: str) -> list[Hit]:
        """Return each entry that `text` contains, once; any string is valid.

        >>> WordFilter.read(["gore"]).find("a nude toddler")
        [Hit(category='sexual_minors', word='nude + toddler')]
        """
        words = _words(text, self._known)
        spans = [
            (Hit(category, entry), range(start, end))
            for start, word in enumerate(words)
            if word in self._longest
            for end in range(start + 1, min(start + self._longest[word], len(words)) + 1)
            for category, entry in self._entries.get(" ".join(words[start:end]), ())
        ]
        exempt = {(hit.category, k) for hit, span in spans if hit.word[0] == "!" for k in span}
        hits = dict.fromkeys(hit for hit, span in spans if not all((hit.category, k) in exempt for k in span))
        first = {hit.category: hit.word for hit in reversed(hits)}
        for category, pair in BOTH.items():
            if first.keys() >= {*pair}:
                hits[Hit(category, " + ".join(first[part] for part in pair))] = None
        return [hit for hit in hits if hit.category in self._reported]


def word_categories() -> list[str]:
    """Return the names of the shipped tables."""
    return sorted(path.stem for path in WORDS.glob("*.txt"))


def list_words(category: str) -> list[str]:
    """Return the words of a shipped table in Latin letters, without exceptions; none where there is no such table."""
    path = WORDS / f"{category}.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if category in word_categories() else []
    return [line.removeprefix("=") for line in lines if line and line[0] not in "#!" and line.isascii()]


def normalize(text: str) -> str:
    """Write `text` in small Latin letters, with disguises undone, as far as that takes no list of words.

    Undone are compatibility forms, marks, invisible characters, look-alikes of other scripts, digits and signs for
    letters inside words, letters three times or more, and signs or spaces between single letters.

    >>> normalize("A  N.u.d.3  wоmаn, 10 b33rs")
    'a nude woman 10 beers'
    """
    return " ".join(word for word in _words(text, frozenset()) if word != ",")


def _fold(text: str) -> str:
    text = _visible(unicodedata.normalize("NFKD", _visible(text).translate(LOOKALIKES)).casefold())
    names = {ord(sign): LATIN.search(unicodedata.name(sign, "")) for sign in set(text) if not sign.isascii()}
    return text.translate(LOOKALIKES).translate({sign: match[1].lower() for sign, match in names.items() if match})


def _visible(text: str) -> str:
    """Drop marks before text is decomposed, too: Python sorts a run of marks in quadratic time."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in HIDDEN)


def _parts(text: str) -> Iterator[list[str]]:
    """Yield the words, with their signs, of each stretch without spaces; "," where a phrase ends, "" for more space."""
    for chunk in re.sub(" {3,}", "  ", _fold(text)).split(" "):
        if chunk.isalnum() and chunk.isascii():
            yield [chunk]
            continue
        parts = [part for match in PART.finditer(chunk) if (part := match[0].rstrip("!|*"))]
        if parts or not chunk:
            yield parts or [""]
        if parts and len(parts[-1]) > 1 and chunk[-1] in ",;:.!?":
            yield [","]


def _words(text: str, known: frozenset[str]) -> list[str]:
    """Split into words, each read as one of `known` if one of its readings is; "," is the end of a phrase."""
    read = cache(partial(_read, known=known))
    parts: list[str] = []
    for chunk in _parts(text):
        whole = "".join(chunk) if len(chunk) > 1 else ""
        is_word = whole and ((whole.isascii() and len(whole) == len(chunk)) or read(whole) in known)
        parts += [whole] if is_word else chunk
    words: list[str] = []
    for is_letter, group in groupby(parts, lambda part: len(part) < 2 and part.isascii() and part != ","):
        runs = list(group)
        if is_letter:  # double spaces are between all letters, or between words
            line = "".join(part or " " for part in runs)
            runs = [line.replace(" ", "")] if 2 * line.count(" ") > len(line) - 3 else line.split()
        for run in runs:
            pieces = [run]
            if is_letter and (len(run) < 3 or 2 * sum(map(str.isalpha, run)) <= len(run)):
                pieces = list(run)
            elif is_letter and run[0] in "ai" and read(run[1:]) in known:
                pieces = [run[0], run[1:]]
            words += [word for piece in pieces for word in read(piece).split()]
    return words


def _read(part: str, known: frozenset[str]) -> str:
    """Choose the first reading of a word that has a word of `known`, else the likeliest."""
    if part in known or part.isdigit() or part == ",":
        return part
    readings = dict.fromkeys(_readings(part))
    return next((text for text in readings if not known.isdisjoint(text.split())), next(iter(readings)))


def _readings(part: str) -> Iterator[str]:
    bare, spellings = re.sub(r"\W", "", part), [part]
    if not part.isalpha() and re.search("[a-z]", part):
        choices = [[AMBIGUOUS.get(sign, sign) for sign in text.translate(LEET)] for text in dict.fromkeys((part, bare))]
        spellings = ["".join(letters) for one in choices for letters in islice(product(*one), MAX_SPELLINGS)]
    for spelling in spellings:
        single, num_runs = re.subn(r"(.)\1+", r"\1", spelling)
        if num_runs:
            pieces = re.split(r"(.)\1\1+", spelling)  # every second is a letter that was there three times or more
            yield from map("".join, product(*[(c, 2 * c) if k % 2 and k < 9 else (c,) for k, c in enumerate(pieces)]))
        if num_runs != 1 or len(single) > 6:  # not "raping" for "rapping", nor "sniper" for "snipper"
            yield single
    yield re.sub(r"\W", " ", part)


def _forms(word: str) -> list[str]:
    """List a word and its endings, also those that English does not use: they are no other words."""
    stems = (word, word + word[-1], word[:-1]) if word[-1] == "e" else (word, word + word[-1])
    forms = [word, f"{word}s", *(stem + ending for stem in stems for ending in ("ed", "ing"))]
    if word[-1] in "sxzho":
        forms.append(f"{word}es")
    elif word[-1] == "y":
        forms += [f"{word[:-1]}ies", f"{word[:-1]}ied"]
    return forms
