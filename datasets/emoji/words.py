"""The words of each emoji: label, concept, keywords from four sources, and the captions made of them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phrases import COLOURS, chosen
from sources import ANNOTATIONS, KEYWORDS, WORDS, read_json
from wordnet import KINDS, Sense, WordNet

from unclip.data.english import article

SKIN_TONES = ("", "light", "medium-light", "medium", "medium-dark", "dark")
GROUPS_WITHOUT_ARTICLE = {"symbols", "flags", "component"}
SHORTCODES = ("emojibase", "cldr", "joypixels", "iamcal", "github", "emojibase-legacy")
MAX_TAGS, MAX_SYNONYMS = 16, 6
MAX_LISTED = 8
"""Most tags of one caption."""
SPECIFIC = 5
"""Concepts that a tag may belong to and still tells what a picture shows."""

Record = dict[str, Any]


def code_points(hexcode: str) -> str:
    """The joining key: lower case, without the variation selector FE0F, which some sets write and some do not."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def straight(text: str) -> str:
    """The text with the quotes that a keyboard types."""
    return text.translate(str.maketrans("’‘“”", "''\"\""))


def read_words(folder: Path, wordnet: WordNet) -> dict[str, Record]:
    """Label, concept, tags, synonyms, group and skin tones of every emoji and skin-tone variant, by code points."""
    groups = {group["order"]: group["key"] for group in read_json(folder, WORDS, "en/messages.json")["groups"]}
    bases = read_json(folder, WORDS, "en/data.json")
    tags = tags_of_all(bases, read_keywords(folder), wordnet)
    words = {}
    for base in bases:
        for emoji in [base, *base.get("skins", [])]:
            tone = emoji.get("tone", [])
            words[code_points(emoji["hexcode"])] = {
                "label": straight(emoji["label"]),
                "concept": straight(base["label"]),
                "tags": tags[base["label"]][0],
                "synonyms": synonyms(straight(base["label"]), *tags[base["label"]], wordnet),
                "group": groups.get(base.get("group"), "component"),
                "skin_tones": [SKIN_TONES[index] for index in (tone if isinstance(tone, list) else [tone])],
            }
    return words


def read_keywords(folder: Path) -> list[dict[str, list[str]]]:
    """The keywords of emojilib and of CLDR, by emoji without FE0F; underscores are spaces."""
    ours = read_json(folder, KEYWORDS, "dist/emoji-en-US.json")
    annotations = read_json(folder, ANNOTATIONS, "annotations/en/annotations.json")["annotations"]["annotations"]
    cldr = {emoji: [*texts.get("tts", ()), *texts.get("default", ())] for emoji, texts in annotations.items()}
    return [
        {emoji.replace("\ufe0f", ""): [straight(word).replace("_", " ").strip() for word in words]
         for emoji, words in source.items()}
        for source in (ours, cldr)
    ]  # fmt: skip


def tags_of_all(
    bases: Sequence[Record], sources: Sequence[Mapping[str, Sequence[str]]], wordnet: WordNet
) -> dict[str, tuple[list[str], list[str]]]:
    """At most `MAX_TAGS` tags of each concept, by its label, and those of them that belong to few concepts.

    Tags that two sources have come first, then rare ones; those of one source must be words of WordNet.
    """
    votes: dict[str, Counter[str]] = {}
    for base in bases:
        emoji = base["emoji"].replace("\ufe0f", "")
        lists = [base.get("tags", ()), *(source.get(emoji, ()) for source in sources)]
        votes[base["label"]] = Counter(tag for one in lists for tag in {straight(tag).lower() for tag in one})
    num_concepts = Counter(tag for counts in votes.values() for tag in counts)
    known = {word for _, word in wordnet.senses}
    tags = {}
    for label, counts in votes.items():
        in_label = set(re.findall(r"[a-z]+", straight(label).lower()))
        own = [tag for tag in counts if re.fullmatch(r"[a-z][a-z' -]+", tag)]
        own = [tag for tag in own if set(re.findall(r"[a-z]+", tag)) - in_label and (counts[tag] > 1 or tag in known)]
        own.sort(key=lambda tag: (counts[tag] < 2, num_concepts[tag] > SPECIFIC, num_concepts[tag], tag))
        own = own[:MAX_TAGS]
        tags[label] = own, [tag for tag in own if num_concepts[tag] <= SPECIFIC]
    return tags


def synonyms(concept: str, tags: Sequence[str], specific: Sequence[str], wordnet: WordNet) -> list[str]:
    """Up to `MAX_SYNONYMS` other names of a concept: WordNet's, then tags of few concepts that are nouns."""
    if concept.startswith("flag: "):
        return [f"{concept.removeprefix('flag: ')} flag"]
    nouns = [tag for tag in specific if " " in tag or ("noun", tag) in wordnet.senses]
    names = [*related_words(concept, tags, wordnet), *nouns]
    return [name for name in dict.fromkeys(names) if name not in COLOURS][:MAX_SYNONYMS]


def related_words(concept: str, tags: Sequence[str], wordnet: WordNet) -> list[str]:
    """Up to three synonyms of a concept, and the word for its kind ("ruminant"), if its sense in WordNet is sure."""
    name = re.sub(r" (face|button)$", "", concept.lower())
    senses = [wordnet.synsets[key] for key in wordnet.senses.get(("noun", name), ())]
    senses = [sense for sense in senses if sense.kind in KINDS.values() and sense.is_fit]
    context = {part for tag in tags for part in tag.split()} - set(name.split())

    def overlap(sense: Sense) -> int:
        above = [word for key in sense.hypernyms for word in wordnet.synsets[key].words]
        words = re.findall(r"[a-z]+", " ".join([sense.gloss, *sense.words, *above]).lower())
        return len(context.intersection(words))

    if not senses:
        return []
    best = max(senses, key=overlap)
    if len(senses) > 1 and overlap(best) == 0:
        return []
    others = [word for word in best.words if word.islower() and word != name and wordnet.frequency(word) > 0]
    kinds = [wordnet.synsets[key].words[0] for key in best.hypernyms[:1]]
    return [*others[:3], *(kind for kind in kinds if kind.islower() and 10 <= wordnet.frequency(kind) <= 300)]


def concept_groups(words: Mapping[str, Record]) -> dict[str, str]:
    """The concepts' names with their groups."""
    return {word["concept"]: word["group"] for word in words.values()}


def read_shortcodes(folder: Path) -> dict[str, list[str]]:
    """The shortcodes of all sources by code points."""
    shortcodes: dict[str, list[str]] = {}
    for source in SHORTCODES:
        for hexcode, names in read_json(folder, WORDS, f"en/shortcodes/{source}.json").items():
            shortcodes.setdefault(code_points(hexcode), []).extend([names] if isinstance(names, str) else names)
    return shortcodes


def all_names(folder: Path, words: Mapping[str, Record]) -> set[str]:
    """Everything that the packages call an emoji, and its label as a phrase."""
    names = {name for word in words.values() for name in (word["label"], phrase(word["label"], word["group"]))}
    names |= {tag for base in read_json(folder, WORDS, "en/data.json") for tag in base.get("tags", ())}
    names |= {name for source in read_keywords(folder) for names in source.values() for name in names}
    names |= {name for names in read_shortcodes(folder).values() for name in names}
    return {straight(name).replace("_", " ").strip() for name in names if any(map(str.isalpha, name))}


def caption_forms(design: str, word: Record) -> list[str]:
    """Several captions of one picture, the plain label first; duplicates are dropped.

    Those without the label, made of synonyms and tags, differ between designs: a concept is met under many words.
    """
    label, concept, style = word["label"], word["concept"], f"{design.replace('-', ' ')} style"
    sentence, tags = phrase(label, word["group"]), word["tags"]
    listed = tags[:MAX_LISTED]
    forms = [label, f"{label}, {style}", sentence, f"{sentence}, {style}", f"{concept}, {style}"]
    forms += [", ".join([label, *listed]), ", ".join([concept, *listed, style])]
    forms += [] if ":" in concept else [f"{concept} emoji"]
    names = word["synonyms"]
    if names:
        picks = list(dict.fromkeys(chosen(names, design, concept, str(index)) for index in range(2)))
        forms += [*picks, f"{picks[0]}, {style}"]
    if len(tags) > 2:
        some = (chosen(tags, design, concept, "tag", str(index)) for index in range(3))
        forms.append(", ".join(dict.fromkeys([*names[:1], *some])))
    return list(dict.fromkeys(forms))


def phrase(label: str, group: str) -> str:
    """The label as people would type it: "a red apple", "a waving hand with dark skin tone", "the flag of Japan"."""
    if label.startswith("flag: "):
        return f"the flag of {label.removeprefix('flag: ')}"
    head, _, detail = label.partition(": ")
    if group in GROUPS_WITHOUT_ARTICLE or "," in detail:
        return label
    return f"{article(head)} with {detail}" if detail else article(head)
