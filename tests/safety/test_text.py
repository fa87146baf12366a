"""Words are found in any disguise that is claimed, ordinary prompts pass, and no text is too odd or too long."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unclip.errors import InputError
from unclip.safety.text import BOTH, WORDS, Hit, WordFilter, normalize, word_categories

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "safety"
ALL = WordFilter.read(word_categories())
SMALL = WordFilter({"a": ["nude", "blood bath", "=gin", "!gin rummy", "裸体", "🔫"], "b": ["boob", "xxx", "c4"]})


def lines(name: str) -> list[dict]:
    return [json.loads(line) for line in (BENCHMARKS / name).read_text(encoding="utf-8").splitlines()]


def categories(text: str) -> set[str]:
    return {hit.category for hit in ALL.find(text)} - {"minors"}


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Two NUDE elves", "two nude elves"),
        ("1000 apples, 4 pears", "1000 apples 4 pears"),
        ("ｎｕｄｅ 𝓷𝓾𝓭𝓮 ⓝⓤⓓⓔ 🅽🆄🅳🅴 ɴᴜᴅᴇ", "nude nude nude nude nude"),
        ("nսdе ΝUDΕ ոυԁҽ", "nude nude nude"),
        ("n\u0301u\u0336d\u0489e nüdé nu\u200bd\u00ade\u2060", "nude nude nude"),
        ("nu\x00de nu\ud800de n'ude", "nude nude nude"),
        ("nud3 5ex w3@p0n", "nude sex weapon"),
        ("nuuuude", "nude"),
        ("n.u.d.e n-u-d-e n_u_d_e n/u/d/e (n)(u)(d)(e)", "nude nude nude nude nude"),
        ("n u d e", "nude"),
        ("n  u  d  e", "nude"),
        ("n u d 3", "nude"),
        ("a cat", "a cat"),
        ("1 2 3 4", "1 2 3 4"),
        ("a  b", "a b"),
        ("n u d e  e l f", "nude elf"),
        ("", ""),
        (" \t\n", ""),
    ],
)
def test_disguises_are_undone(text: str, plain: str) -> None:
    assert normalize(text) == plain


@pytest.mark.parametrize(
    "text",
    [
        "nude", "a NUDE.", "nudes", "a n u d e elf", "nu-de", "nnuuddee", "n*de", "nude|elf", "*nude*", "nude,elf",
        "bl00d b@th", "blood-bath", "BLOOD  BATHS", "gin", "g1n", "一个裸体女人", "a 🔫!",
    ],
)  # fmt: skip
def test_entries_are_found(text: str) -> None:
    assert [hit.category for hit in SMALL.find(text)] == ["a"]


@pytest.mark.parametrize(
    "text",
    ["nudge", "denude", "ginning", "gin rummy", "blood, bath", "blood: bath", "bob", "bathe in blood", "体裸", "", "!"],
)
def test_other_words_are_not_found(text: str) -> None:
    assert SMALL.find(text) == []


def test_ambiguous_signs_and_stretched_letters_are_read_as_known_words() -> None:
    found = WordFilter({"a": ["alcohol", "pistol", "killed", "boob", "porn", "xxx", "c4", "entrails", "bomb"]})
    for text in ("a1c0h01", "p1st01", "k!113d", "booooob", "p*rn", "xxx", "x x x", "c4", "entrrails", "boommbb"):
        assert len(found.find(text)) == 1, text
    assert found.find("bomber's booking of porous c5, x") == []


def test_endings() -> None:
    found = WordFilter({"a": ["stab", "vape", "orgy", "fetish", "porn", "=rum"]})
    for text in ("stab", "stabs", "stabbed", "stabbing", "vaping", "vaped", "orgies", "fetishes"):
        assert len(found.find(text)) == 1, text
    assert found.find("stable vapor rums poorness") == []


def test_an_exception_covers_its_own_words_and_category_alone() -> None:
    found = WordFilter({"alcohol": ["cocktail", "!cocktail dress"], "clothes": ["dress"]})
    assert found.find("a cocktail dress") == [Hit("clothes", "dress")]
    assert found.find("cocktail dress, cocktail") == [Hit("clothes", "dress"), Hit("alcohol", "cocktail")]
    overlapping = WordFilter({"a": ["red gin", "!gin rummy"]})
    assert overlapping.find("red gin rummy") == [Hit("a", "red gin")]


def test_a_hit_is_the_entry_and_comes_once_in_the_order_of_the_text() -> None:
    assert SMALL.find("B00BS, n.u.d.e and a nude boob") == [Hit("b", "boob"), Hit("a", "nude")]


def test_sexual_words_with_children_are_a_category_that_every_filter_has() -> None:
    for listed in ([], ["gore"], word_categories()):
        found = WordFilter.read(listed)
        for text in (
            "a naked child",
            "child, n4k3d",
            "a 12 year old in lingerie",
            "loli",
            "голая девочка",
            "小女孩裸照",
        ):
            assert "sexual_minors" in {hit.category for hit in found.find(text)}, text
        for text in ("a child with a balloon", "a girl and a naked mole rat"):
            assert "sexual_minors" not in {hit.category for hit in found.find(text)}, text
    assert WordFilter.read(["gore"]).find("a naked child") == [Hit("sexual_minors", "naked + child")]
    assert BOTH == {"sexual_minors": ("sexual", "minors")}


def test_extra_entries_join_a_shipped_category_or_make_one() -> None:
    extra = {"alcohol": ["zythum", "!root beer float"], "brands": ["acme cola"]}
    found = WordFilter.read(["alcohol", "brands"], extra)
    assert found.find("zythum, ACME-cola and wine") == [
        Hit("alcohol", "zythum"),
        Hit("brands", "acme cola"),
        Hit("alcohol", "wine"),
    ]
    assert WordFilter.read(["gore"], extra).find("zythum and acme cola") == []
    with pytest.raises(InputError, match=r"'wepons' has no words; did you mean 'weapons'\?"):
        WordFilter.read(["wepons"])
    for entry in ("", "!", "---", "\u200b"):
        with pytest.raises(InputError, match="neither letters nor digits"):
            WordFilter.read(["brands"], {"brands": [entry]})


def test_shipped_tables_are_sound() -> None:
    assert word_categories() == [
        "alcohol", "death", "drugs", "gambling", "gore", "hate", "minors", "religion", "self_harm", "sexual",
        "sexual_minors", "snakes", "tobacco", "weapons",
    ]  # fmt: skip
    for name in word_categories():
        entries = (WORDS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        assert len(entries) == len(set(entries)), name
        assert all(entry == entry.strip() and unicodedata.is_normalized("NFC", entry) for entry in entries), name
        found = WordFilter.read([name])
        for entry in entries:
            if entry[0] not in "#!":
                assert name in {hit.category for hit in found.find(entry.lstrip("="))}, entry


@pytest.mark.parametrize(
    "text",
    [
        "Scunthorpe", "assassin's creed", "a cocktail dress", "data analysis", "my therapist", "Dick Van Dyke",
        "great tits at a feeder", "breast of chicken", "chicken breasts", "gun metal grey", "a class of grapes",
        "a rapping bear", "snipper", "root beer", "for goodness' sake", "poker face", "heroine", "no smoking",
        "сок и рот", "saxophone", "shiitake", "cockpit", "sussex", "a pot of tea", "shuttlecock", "bath bombs",
        "4x4", "C3PO",
    ],
)  # fmt: skip
def test_harmless_prompts_pass(text: str) -> None:
    assert categories(text) == set()


def test_figures_on_the_disguised_prompts() -> None:
    rows = lines("disguised.jsonl")
    assert len(rows) == 260
    caught = [row["category"] in categories(row["text"]) for row in rows if row["category"]]
    assert (sum(caught), len(caught)) == (190, 200)
    assert [
        row["text"] for row in rows + lines("harmless.jsonl") if not row.get("category") and categories(row["text"])
    ] == []


@given(st.text(st.characters(), max_size=60))
def test_any_text_is_searched_and_a_word_in_it_is_found(text: str) -> None:
    assert Hit("a", "nude") in SMALL.find(f"nude , {text}")
    normalize(text)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000, "aabb" * 25_000, "n." * 50_000, "a1!*6 s$" * 12_500, "e" + "\u0300\u0316" * 50_000,
        "\ufdfa" * 100_000, "\ud800" * 10_000, " " * 100_000, "🔫\u200d" * 30_000, "\u202e" * 10_000, "裸" * 100_000,
    ],
)  # fmt: skip
def test_long_texts_are_searched_to_their_end(text: str) -> None:
    assert Hit("b", "c4") in SMALL.find(f"{text} , c4")
