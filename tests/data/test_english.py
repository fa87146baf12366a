"""Articles, plurals and -ing of the phrases that captions are made of."""

from unclip.data.english import article, gerund, is_plural, plural


def test_articles() -> None:
    nouns = ["apple", "onion", "unicorn", "unimpressed cat", "hour", "one-thirty", "glasses", "bus"]
    phrases = [
        "an apple",
        "an onion",
        "a unicorn",
        "an unimpressed cat",
        "an hour",
        "a one-thirty",
        "glasses",
        "a bus",
    ]
    assert [article(noun) for noun in nouns] == phrases


def test_plurals() -> None:
    nouns = ["cloud with snow", "red box", "baby", "glasses", "bus", "piece of cake", "computer mouse", "toy"]
    plurals = ["clouds with snow", "red boxes", "babies", "glasses", "buses", "pieces of cake", "computer mice", "toys"]
    assert [plural(noun) for noun in nouns] == plurals
    assert [noun for noun in plurals if not is_plural(noun)] == ["computer mice"]
    assert not is_plural("smiling face with sunglasses")
    assert (article("skis"), article("iris")) == ("skis", "an iris")


def test_gerunds() -> None:
    verbs = {
        "run": "running",
        "dance": "dancing",
        "lie": "lying",
        "visit": "visiting",
        "see": "seeing",
        "fix": "fixing",
    }
    assert {verb: gerund(verb) for verb in verbs} == verbs
