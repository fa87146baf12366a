"""Compose new pictures with captions from the drawings of emoji: pairs, counts, other colours, hats and bows."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from unclip.data.emoji import DESIGNS, EmojiItem, draw_svg
from unclip.data.english import article, is_plural, plural
from unclip.data.recolour import COLOURS, MainColour, main_colour, recolour
from unclip.errors import InputError

NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}
PLACES = (
    ((1, 20, 48, 60), (51, 20, 48, 60)),
    ((27, 3, 46, 46), (2, 51, 46, 46), (52, 51, 46, 46)),
    ((1, 30, 32, 40), (34, 30, 32, 40), (67, 30, 32, 40)),
    ((2, 2, 46, 46), (52, 2, 46, 46), (2, 52, 46, 46), (52, 52, 46, 46)),
    ((1, 12, 32, 36), (34, 12, 32, 36), (67, 12, 32, 36), (17, 52, 32, 36), (51, 52, 32, 36)),
)
"""Left, top, width and height of each of two to five equal things."""
SIMILAR = {
    "orange": ("yellow", "brown"),
    "yellow": ("orange",),
    "brown": ("orange",),
    "pink": ("red",),
    "red": ("pink",),
}
"""Colours that a person might give the same name."""
SIDE = 100.0
"""Width and height of a composition's view box."""
SURVEYED = 64
"""Pixels at which a drawing's extent and colour are measured."""
THINGS = ("animals-nature", "food-drink", "objects", "travel-places", "activities")
"""Groups whose members may stand beside others."""
SCENES = re.compile(
    r"\b(night|sunrise|sunset|cityscape|foggy?|milky|railway|motorway|landslide|sun behind|moon viewing|fireworks|"
    r"sparkler|national park|desert|camping|map|cloud with|o'clock|thirty|tramway|mountain|mailbox|card|with slash|"
    r"cableway|window|page|framed|volcano|water wave|hot springs|battery|beach|wind|love hotel|mahjong|chart|film|"
    r"cards|(un)?locked|construction|wedding|high voltage|flag in|and|pouring|cooking|nest|on ground|volume|globe|"
    r"umbrella with)\b"
)
"""Names of drawings that fill their square, or differ in a detail."""
MASS = {
    "bacon", "badminton", "baguette bread", "beans", "bowling", "bread", "broccoli", "butter", "cooked rice", "coral",
    "cricket game", "curry rice", "field hockey", "fire", "fondue", "garlic", "ginger root", "green salad", "herb",
    "ice", "ice hockey", "lacrosse", "leafy green", "luggage", "mate", "money with wings", "oden", "performing arts",
    "ping pong", "popcorn", "sake", "salt", "shaved ice", "soap", "spaghetti", "sushi", "tennis", "wood",
}  # fmt: skip
"""Names that are not counted and take no article."""
GLASSES = ("sunglasses", "glasses")
HEADS = {
    "bear", "panda", "koala", "fox", "lion", "wolf", "raccoon", "hamster", "frog", "polar bear", "cat face", "dog face",
    "mouse face", "rabbit face", "tiger face", "cow face", "pig face", "monkey face", "front-facing baby chick",
    "robot", "alien", "ghost", "jack-o-lantern", "grinning face", "smiling face with smiling eyes",
    "smiling face with sunglasses", "slightly smiling face", "grinning cat",
    "neutral face", "sleeping face", "winking face", "thinking face",
    "nerd face", "angry face", "crying face", "face with tongue", "zany face", "smiling face with heart-eyes",
}  # fmt: skip
"""Concepts drawn as a head from the front."""
HATS = ("top hat", "crown", "graduation cap", "woman's hat", "billed cap", "rescue worker's helmet", "military helmet")
CARRIED = (
    "balloon", "rose", "red heart", "soccer ball", "ice cream", "birthday cake", "wrapped gift", "guitar", "umbrella",
    "pizza", "banana", "book", "mobile phone", "trophy", "key", "candle", "lollipop", "carrot", "red apple", "bone",
    "star", "basketball", "hamburger", "hot beverage", "sunflower", "fish", "magic wand", "teddy bear",
)  # fmt: skip


@dataclass(frozen=True)
class Survey:
    """What a drawing looks like."""

    left: float
    """Left, top, right, bottom of its ink, as shares of its width and height."""
    top: float
    right: float
    bottom: float
    main: MainColour | None


@dataclass(frozen=True)
class Part:
    """A drawing to place, and what it is called."""

    item: EmojiItem
    noun: str
    survey: Survey

    @property
    def is_uncounted(self) -> bool:
        """Whether its noun is a plural, or names a mass or a game."""
        return is_plural(self.noun) or self.item.concept in MASS

    @property
    def phrase(self) -> str:
        """Its noun with the article."""
        return self.noun if self.is_uncounted else article(self.noun)

    def place(self, left: float, top: float, width: float, height: float, name: str) -> str:
        """Fit its ink into a rectangle of the composition, in the middle of its bottom; `name` makes its ids unique."""
        survey, item = self.survey, self.item
        ink_width, ink_height = (survey.right - survey.left) * item.width, (survey.bottom - survey.top) * item.height
        scale = min(width / ink_width, height / ink_height)
        x = left + (width - scale * ink_width) / 2 - scale * survey.left * item.width
        y = top + height - scale * survey.bottom * item.height
        body = re.sub(r"""(\bid="|url\(#|href="#)""", rf"\g<1>{name}", item.body)
        return f'<g transform="translate({x:.2f} {y:.2f}) scale({scale:.4f})">{body}</g>'


@dataclass(frozen=True)
class Composed:
    """A drawing made of others."""

    captions: tuple[str, ...]
    body: str
    parts: tuple[Part, ...]


class Compositions(Sequence[EmojiItem]):
    """New pictures from the drawings of `items`, each made when it is asked for; the same seed gives the same ones.

    A composition's parts have one design. Its concept is its caption without articles, and `composition` is true.
    """

    def __init__(self, items: Sequence[EmojiItem], count: int, seed: int = 0) -> None:
        """Raise `InputError` for a negative count, and for items that are too few to compose."""
        if count < 0:
            raise InputError(f"compositions={count} is negative; use 0 or more.")
        plain = [item for item in items if not item.skin_tones and not item.test and not item.composition]
        of_design = {design: [item for item in plain if item.design == design] for design in DESIGNS}
        self.cabinets = {name: cabinet for name, own in of_design.items() if (cabinet := Cabinet(own)).is_enough}
        if count and not self.cabinets:
            raise InputError(
                f"the {len(items)} items are of the test split, or too few to compose; give the train split."
            )
        self.num_items, self.seed = count, seed

    def __len__(self) -> int:
        return self.num_items

    @property
    def keys(self) -> list[str]:
        """Names of all compositions, `<design>/composition-<number>`."""
        return [self._key(index) for index in range(self.num_items)]

    def _key(self, index: int) -> str:
        designs = list(self.cabinets)
        return f"{designs[index % len(designs)]}/composition-{index:06d}"

    def __getitem__(self, index: int) -> EmojiItem:  # type: ignore[override]
        if not 0 <= index < self.num_items:
            raise IndexError(index)
        key = self._key(index)
        design = key.partition("/")[0]
        composed = self.cabinets[design].compose(np.random.default_rng([self.seed, index]))
        plain, *others = composed.captions
        style = f"{design.replace('-', ' ')} style"
        return EmojiItem(
            key=key,
            unicode=" ".join(part.item.unicode for part in composed.parts),
            label=plain,
            concept=re.sub(r"\ban? ", "", plain),
            tags=(),
            synonyms=(),
            group="compositions",
            skin_tones=(),
            captions=tuple(dict.fromkeys([plain, f"{plain}, {style}", *others, f"{others[-1]}, {style}"])),
            test=False,
            composition=True,
            width=SIDE,
            height=SIDE,
            body=composed.body,
        )


class Cabinet:
    """The drawings of one design that compositions are made of."""

    def __init__(self, items: Sequence[EmojiItem]) -> None:
        self.things = [item for item in items if is_thing(item)]
        self.heads = [item for item in items if item.concept in HEADS]
        self.glasses = [item for item in items if item.concept in GLASSES]
        self.hats = [item for item in items if item.concept in HATS]
        self.carried = [item for item in items if item.concept in CARRIED]
        self.ribbons = [item for item in items if item.concept == "ribbon"]
        self._surveys: dict[str, Survey] = {}

    @property
    def is_enough(self) -> bool:
        """Whether each kind of composition has its parts."""
        return len(self.things) > 1 and all((self.heads, self.hats, self.carried, self.ribbons, self.glasses))

    def compose(self, generator: np.random.Generator) -> Composed:
        """Make one composition of a random kind."""
        kinds = (self.pair, self.several, self.coloured, self.dressed)
        while True:
            kind = kinds[int(generator.choice(len(kinds), p=(0.35, 0.2, 0.25, 0.2)))]
            composed = kind(generator)
            if composed is not None:
                return composed

    def part(self, item: EmojiItem) -> Part:
        """Measure a drawing, once."""
        if item.key not in self._surveys:
            self._surveys[item.key] = survey(item)
        return Part(item, noun_of(item), self._surveys[item.key])

    def draw(self, generator: np.random.Generator, items: Sequence[EmojiItem], paint_prob: float = 0.0) -> Part | None:
        """Take one of `items`, with another colour at `paint_prob`; None if that is impossible."""
        part = self.part(items[int(generator.integers(len(items)))])
        return paint(part, generator) if generator.random() < paint_prob else part

    def pair(self, generator: np.random.Generator) -> Composed | None:
        """Two things side by side, or one before the other, or a big one and a small one."""
        paint_prob = 0.5 if generator.random() < 0.3 else 0.0
        first, second = (self.draw(generator, self.things, paint_prob) for _ in range(2))
        if first is None or second is None or first.item.concept == second.item.concept:
            return None
        one, two = first.phrase, second.phrase
        layout = generator.choice(("side", "front", "sizes"), p=(0.5, 0.25, 0.25))
        if layout == "side":
            captions = [f"{one} and {two}", f"{one} next to {two}", f"{first.noun}, {second.noun}"]
            captions.append(f"{one} on the left and {two} on the right")
            body = first.place(1, 14, 52, 70, "a") + second.place(47, 14, 52, 70, "b")
        elif layout == "front":
            captions = [f"{one} and {two}", f"{two} in front of {one}", f"{one} with {two}"]
            body = first.place(2, 4, 60, 62, "a") + second.place(40, 40, 58, 56, "b")
        elif first.is_uncounted or second.is_uncounted:
            return None
        else:
            captions = [f"a big {first.noun} and a small {second.noun}", f"{one} and {two}"]
            captions.append(f"a small {second.noun} next to a big {first.noun}")
            body = first.place(2, 8, 64, 84, "a") + second.place(69, 60, 29, 32, "b")
        return Composed(tuple(captions), body, (first, second))

    def several(self, generator: np.random.Generator) -> Composed | None:
        """Two to five of a thing."""
        part = self.draw(generator, self.things, paint_prob=0.3)
        if part is None or part.is_uncounted:
            return None
        places, number = PLACES[int(generator.integers(len(PLACES)))], plural(part.noun)
        body = "".join(part.place(*place, f"{index}-") for index, place in enumerate(places))
        captions = (f"{NUMBERS[len(places)]} {number}", f"{len(places)} {number}", number)
        return Composed(captions, body, (part,))

    def coloured(self, generator: np.random.Generator) -> Composed | None:
        """One thing in another colour."""
        part = self.draw(generator, self.things, paint_prob=1.0)
        if part is None:
            return None
        return Composed((part.phrase, part.noun, f"{part.noun} emoji"), part.place(4, 4, 92, 92, "a"), (part,))

    def dressed(self, generator: np.random.Generator) -> Composed | None:
        """A head with a hat, with a bow, or with something beside it."""
        head = self.draw(generator, self.heads, paint_prob=0.15)
        if head is None:
            return None
        kind = str(generator.choice(("hat", "glasses", "bow", "carried"), p=(0.3, 0.2, 0.1, 0.4)))
        stores = {"hat": self.hats, "glasses": self.glasses, "bow": self.ribbons, "carried": self.carried}
        other = self.draw(generator, stores[kind])
        if other is None or (kind == "glasses" and "glasses" in head.item.concept):
            return None
        one, two = head.phrase, "a bow" if kind == "bow" else other.phrase
        captions = (f"{one} wearing {two}", f"{one} with {two}", f"{head.noun} in {two}")
        if kind == "hat":
            body = head.place(12, 28, 76, 70, "a") + other.place(25, 1, 50, 38, "b")
        elif kind == "glasses":
            body = head.place(4, 4, 92, 92, "a") + other.place(16, 34, 68, 28, "b")
        elif kind == "bow":
            captions = (f"{one} with {two}", f"{one} wearing {two}", f"{head.noun}, bow")
            body = head.place(10, 20, 80, 78, "a") + other.place(52, 8, 40, 32, "b")
        else:
            captions = (f"{one} with {two}", f"{one} and {two}", f"{one} holding {two}")
            body = head.place(3, 6, 76, 76, "a") + other.place(55, 52, 43, 46, "b")
        return Composed(captions, body, (head, other))


def is_thing(item: EmojiItem) -> bool:
    """Return whether an icon shows one thing on clear ground that may stand beside others."""
    is_plain = re.fullmatch(r"[A-Za-z][A-Za-z' -]+", item.concept) and not SCENES.search(item.concept)
    return bool(is_plain) and item.group in THINGS and item.concept not in HEADS


def noun_of(item: EmojiItem) -> str:
    """Return the concept as a noun: "cat" for "cat face"."""
    return item.concept.removesuffix(" face") if item.group == "animals-nature" else item.concept


def survey(item: EmojiItem) -> Survey:
    """Measure a drawing."""
    picture = draw_svg(item, SURVEYED)
    left, top, right, bottom = picture.convert("RGBA").getchannel("A").getbbox() or (0, 0, SURVEYED, SURVEYED)
    # An icon that is not square is centred in its picture.
    side = max(item.width, item.height)
    x, y = (side - item.width) / 2 / side * SURVEYED, (side - item.height) / 2 / side * SURVEYED
    width, height = SURVEYED * item.width / side, SURVEYED * item.height / side
    box = ((left - x) / width, (top - y) / height, (right - x) / width, (bottom - y) / height)
    return Survey(*box, main_colour(picture))


def paint(part: Part, generator: np.random.Generator) -> Part | None:
    """Give a part another colour, and its noun the colour's name; None if it has no main colour."""
    main = part.survey.main
    if main is None:
        return None
    name = str(generator.choice([name for name in COLOURS if name not in (main.name, *SIMILAR.get(main.name, ()))]))
    noun = re.sub(rf"^({'|'.join(COLOURS)}) ", "", part.noun)
    if re.search(rf"\b({'|'.join(COLOURS)})\b", noun):
        return None
    item = replace(part.item, body=recolour(part.item.body, main, name))
    return Part(item, f"{name} {noun}", part.survey)
