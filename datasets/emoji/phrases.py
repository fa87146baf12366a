"""Words and phrases that people might type for a picture, for distilling text towers. Knows no pictures.

Nothing is picked by hand but the lists below; what is drawn by chance is drawn by hashes, so always the same.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from wordnet import KINDS, UNFIT, WordNet

from unclip.data.english import article, gerund, plural

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "golden")
LOOKS = (
    "big", "small", "tiny", "giant", "old", "new", "young", "cute", "happy", "sad", "angry", "funny", "scary", "sleepy",
    "broken", "open", "empty", "full", "round", "square", "long", "short", "flat", "striped", "spotted", "shiny",
    "dark", "bright", "wooden", "metal", "silver", "glass", "paper", "wet", "frozen", "burning", "flying", "smiling",
    "dancing", "sleeping", "beautiful", "colourful", "rainbow", "cartoon", "magic", "wild", "baby", "simple",
)  # fmt: skip
PLACES = (
    "in the snow", "in the rain", "on a beach", "in space", "under water", "on the moon", "in a box", "on a plate",
    "in the sky", "at night", "in the forest", "on a table", "in a cup", "at sunset", "on a white background",
    "under a tree", "in a garden", "on fire", "with a shadow", "in the city",
)  # fmt: skip
DOINGS = (
    "wearing sunglasses", "wearing a hat", "with a crown", "wearing a scarf", "with a bow tie", "wearing glasses",
    "with a party hat", "wearing headphones", "riding a bicycle", "riding a skateboard", "playing the guitar",
    "reading a book", "eating pizza", "drinking coffee", "sleeping in a bed", "driving a car", "flying a kite",
    "holding a balloon", "holding a flower", "in a spacesuit", "dancing", "singing", "swimming", "running", "cooking",
    "playing football", "with hearts in its eyes", "with an umbrella", "blowing a kiss", "on a swing",
)  # fmt: skip
NUMBERS = ("two", "three", "four", "five", "a pair of", "a few", "many", "a bunch of", "a pile of")
FEELINGS = ("{1} {0} face", "{1} {0} cat", "{1} {0} person", "feeling {0}")
LEAST = {"noun": 1, "verb": 3, "adj": 3}
"""How often a word of WordNet must stand in its definitions."""
COMMON = 6
MAX_LENGTH = 60
TONE = re.compile(r"tone\b|tone\d")
THINGS = ("animals-nature", "food-drink", "objects", "travel-places", "activities")
"""Groups of emoji that are things."""


def make_phrases(concepts: Mapping[str, str], keywords: Iterable[str], wordnet: WordNet) -> list[str]:
    """The phrases, sorted: single words of WordNet, keywords, things with a colour or a look, and small scenes.

    `concepts` are the concepts' names with their groups, `keywords` all words and captions of the emoji; those with a
    skin tone are left out.
    """
    things = [name for name, group in concepts.items() if group in THINGS and re.fullmatch(r"[a-z][a-z -]+", name)]
    kinds = [KINDS[kind] for kind in ("animal", "artifact", "food", "object", "plant")]
    nouns = [noun for noun in wordnet.words("noun", COMMON) if wordnet.has_kind(noun, kinds)]
    lines = {*single_words(wordnet)}
    lines.update(word for word in keywords if re.search("[a-z]", word) and not TONE.search(word))
    for names, share in ((things, 1.0), (nouns, 0.4)):
        lines |= take(names, COLOURS, share, "{1} {0}")
        lines |= take(names, LOOKS, 0.3 * share, "{1} {0}")
    people = [noun for noun in wordnet.words("noun", COMMON) if wordnet.has_kind(noun, [KINDS["person"]])]
    lines |= take(people, LOOKS, 0.05, "{1} {0}")
    lines |= scenes(things, nouns, wordnet)
    for word in feelings(keywords, wordnet):
        lines |= {form.format(word, article(word).partition(" ")[0]) for form in FEELINGS}
    return sorted(line for line in lines if 1 < len(line) <= MAX_LENGTH and not UNFIT.search(line.lower()))


def single_words(wordnet: WordNet) -> Iterator[str]:
    """Words of WordNet that its own definitions use, and names of two words whose parts are common."""
    for part, least in LEAST.items():
        yield from wordnet.words(part, least)
    for verb in wordnet.words("verb", 2 * COMMON):
        if " " not in verb:
            yield f"a person {gerund(verb)}"
    for word in wordnet.words("noun", 0):
        tokens = word.split()
        is_common = len(tokens) == 2 and min(wordnet.counts[token] for token in tokens) >= 20
        if is_common and wordnet.has_kind(word, KINDS.values()):
            yield word


def scenes(things: Sequence[str], nouns: Sequence[str], wordnet: WordNet) -> set[str]:
    """Short captions: counts, pairs, places, animals that do something."""
    animals = [name for name in dict.fromkeys([*things, *nouns]) if wordnet.has_kind(name, [KINDS["animal"]])]
    singles = [article(name) for name in things]
    coloured = [f"{chosen(COLOURS, 'colour', name)} {name}" for name in things]
    lines = take([plural(name) for name in [*things, *coloured]], NUMBERS, 0.3, "{1} {0}")
    lines |= take(singles, singles, 0.005, "{0} and {1}")
    lines |= take([article(name) for name in coloured], [article(name) for name in coloured], 0.003, "{0} and {1}")
    lines |= take(singles, PLACES, 0.3, "{0} {1}")
    lines |= take([article(name) for name in nouns], PLACES, 0.1, "{0} {1}")
    return lines | take([article(name) for name in animals], DOINGS, 0.35, "{0} {1}")


def feelings(keywords: Iterable[str], wordnet: WordNet) -> list[str]:
    """Keywords of the emoji that are adjectives."""
    adjectives = set(wordnet.words("adj", LEAST["adj"]))
    return sorted(adjectives.intersection(keywords))


def take(first: Sequence[str], second: Sequence[str], share: float, form: str) -> set[str]:
    """A share of all pairs, joined by `form`: for each of `first` equally many of `second`, by the smallest hashes."""
    lines = set()
    for one in first:
        order = sorted((number(form, one, other), other) for other in second if other != one)
        lines.update(form.format(one, other) for _, other in order[: max(1, round(share * len(second)))])
    return lines


def chosen(options: Sequence[str], *parts: str) -> str:
    """One of `options`, by the hash of the parts."""
    return options[number(*parts) % len(options)]


def number(*parts: str) -> int:
    """A number of 32 bits that depends on the parts alone."""
    return int(hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8], 16)
