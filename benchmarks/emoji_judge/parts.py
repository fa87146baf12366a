"""The measurements of a model, each a function of its subject and of how many prompts it may draw."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from autoencoder import rebuild
from colours import main_colours
from lists import is_caption, read_compositions, read_phrases, words_of
from network import NUM_FIRST
from PIL import Image
from subject import Subject, beside, compare
from torch import Tensor

from unclip.data import load_shards
from unclip.errors import InputError
from unclip.images import from_uint8, resize
from unclip.metrics import frechet_distance, manifold_metrics

SEED = 0
NUM_SEEDS = 8
NEAR_SIDE = 32
"""Side at which pixels of neighbours are compared."""
STYLE = " style"
NAMED_AFTER_COLOUR = r"^(?:large |small )?(red|orange|yellow|green|blue|purple|pink|brown|black|grey) "


def captions(subject: Subject, count: int) -> dict[str, Any]:
    """Draw captions of the training set: one picture of each concept, by a caption that holds its name."""
    generator = np.random.default_rng(SEED)
    rows_of = rows_by_concept(subject.train.info)
    names = generator.permutation(sorted(rows_of))[:count]
    rows = [int(generator.choice(rows_of[name])) for name in names]
    prompts = [str(generator.choice(naming(subject.train.captions[row], subject.train.info[row]))) for row in rows]
    drawn = subject.draw(prompts, range(len(rows)), "captions")
    infos = [subject.train.info[row] for row in rows]
    features = subject.judge.features(drawn)
    ranks = subject.judge.ranks(features, [[info["concept"]] for info in infos])
    subject.sheet("captions", drawn, prompts, ranks)
    subject.show_failures(drawn, prompts, ranks)
    real = subject.judge.features(torch.from_numpy(subject.train.images[rows]))
    return compare(subject.judge, features, real, infos)


def test(subject: Subject, count: int) -> dict[str, Any]:
    """Draw test items by a caption that names their design; in training no picture of the pair was seen."""
    rows, prompts, drawn = drawn_test(subject, count)
    infos = [subject.test.info[row] for row in rows]
    features = subject.judge.features(drawn)
    real = subject.judge.features(torch.from_numpy(subject.test.images[rows]))
    subject.sheet("test", drawn, prompts, subject.judge.ranks(features, [[info["concept"]] for info in infos]))
    result = compare(subject.judge, features, real, infos)
    for name, each in (("design", features), ("real_design", real)):
        places = subject.judge.design_logits(each).argmax(dim=1).tolist()
        designs = [subject.judge.network.config.designs[place] for place in places]
        is_right = [design == info["design"] for design, info in zip(designs, infos, strict=True)]
        result[name] = round(float(np.mean(is_right)), 4)
    return result


def phrases(subject: Subject, count: int, half: str = "dev") -> dict[str, Any]:
    """Draw synonyms and phrases that were no captions; those that a training set of richer words holds are left out."""
    words = words_of(subject.train.info)
    everything = read_phrases(half)
    chosen = [phrase for phrase in everything if not is_caption(phrase.text, words)]
    generator = np.random.default_rng(SEED)
    chosen = [chosen[place] for place in generator.permutation(len(chosen))[:count]]
    texts, concepts = [phrase.text for phrase in chosen], [phrase.concepts for phrase in chosen]
    drawn = subject.draw(texts, range(len(chosen)), f"phrases {half}")
    ranks = subject.judge.ranks(subject.judge.features(drawn), concepts)
    subject.sheet(f"phrases_{half}", drawn, texts, ranks)
    rows_of = rows_by_concept(subject.train.info)
    real_rows = [int(generator.choice(rows_of[names[0]])) for names in concepts]
    real = subject.judge.features(torch.from_numpy(subject.train.images[real_rows]))
    real_ranks = subject.judge.ranks(real, concepts)
    result = {
        **beside(ranks, real_ranks),
        "left_out": len(everything) - sum(not is_caption(p.text, words) for p in everything),
    }
    for kind in ("synonym", "phrase"):
        rows = torch.tensor([phrase.kind == kind for phrase in chosen])
        result[kind] = beside(ranks[rows], real_ranks[rows])
    return result


def compositions(subject: Subject, count: int) -> dict[str, Any]:
    """Draw compositions: the share of things among the judge's first five, and of main colours as they were named."""
    everything = read_compositions()
    places = np.random.default_rng(SEED).permutation(len(everything))[:count]
    chosen = [everything[place] for place in sorted(places)]
    texts = [each.text for each in chosen]
    drawn = subject.draw(texts, range(len(chosen)), "compositions")
    features = subject.judge.features(drawn)
    things: dict[str, list[bool]] = defaultdict(list)
    first_ranks = []
    for row, each in zip(features, chosen, strict=True):
        ranks = [int(subject.judge.ranks(row[None], [names])[0]) for names in each.things]
        first_ranks.append(min(ranks))
        things[each.kind] += [rank < NUM_FIRST for rank in ranks]
    subject.sheet("compositions", drawn, texts, torch.tensor(first_ranks))
    result: dict[str, Any] = {
        kind: {"things": round(float(np.mean(seen)), 4), "count": len(seen)} for kind, seen in things.items()
    }
    coloured = [place for place, each in enumerate(chosen) if each.colour]
    expected = [str(chosen[place].colour) for place in coloured]
    is_right = np.array(colours_are(from_uint8(drawn[coloured]), expected)) if coloured else np.zeros(0, bool)
    is_thing = np.array([first_ranks[place] < NUM_FIRST for place in coloured])
    return result | {
        "colour_is_right": round(float(is_right.mean()), 4) if coloured else 0.0,
        "colour_and_thing": round(float((is_right & is_thing).mean()), 4) if coloured else 0.0,
        "num_coloured": len(coloured),
        "real_colour_is_right": real_colours(subject),
    }


def stages(subject: Subject, count: int) -> dict[str, Any]:
    """Score what each stage keeps of test pictures: autoencoder, decoder from real embeddings, prior and decoder."""
    rows, _, from_text = drawn_test(subject, count)
    infos = [subject.test.info[row] for row in rows]
    judge = subject.judge
    real = judge.features(torch.from_numpy(subject.test.images[rows]))
    result: dict[str, Any] = {"from_text": compare(judge, judge.features(from_text), real, infos)}
    large = load_shards(subject.shards / "test", 2 * subject.test.images.shape[1])
    pictures = [Image.fromarray(large.images[row]) for row in rows]
    varied = subject.vary(pictures, range(len(rows)), "image embeddings")
    subject.sheet(
        "from_images",
        varied,
        [info["label"] for info in infos],
        judge.ranks(judge.features(varied), [[i["concept"]] for i in infos]),
    )
    result["from_image_embedding"] = compare(judge, judge.features(varied), real, infos)
    stage = subject.pipe.decoder.stage
    if stage.autoencoder is None:
        return result
    dtype, channels = next(stage.autoencoder.parameters()).dtype, stage.autoencoder.config.in_channels
    with subject.pipe.resident(stage):
        result["autoencoder"] = rebuild(
            judge,
            lambda images: stage.finish(stage.encode(images.to(dtype))),
            subject.shards / "test",
            stage.image_size,
            channels,
        )
    return result


def distribution(subject: Subject, count: int) -> dict[str, Any]:
    """Compare drawn test captions with all real test pictures on the judge's features, beside training pictures."""
    rows, _, drawn = drawn_test(subject, count)
    generator = np.random.default_rng(SEED)
    floor_rows = np.sort(generator.permutation(len(subject.train))[: len(rows)])
    real = subject.judge.features(torch.from_numpy(np.array(subject.test.images)))
    sets = {
        "drawn": subject.judge.features(drawn),
        "train_floor": subject.judge.features(torch.from_numpy(subject.train.images[floor_rows])),
    }
    result: dict[str, Any] = {"count": len(rows)}
    for name, features in sets.items():
        metrics = manifold_metrics(real, features)
        result[name] = {
            "frechet": round(frechet_distance(real, features), 3),
            "precision": round(metrics.precision, 4),
            "recall": round(metrics.recall, 4),
        }
    return result


def diversity(subject: Subject, count: int) -> dict[str, Any]:
    """Compare 8 seeds of a prompt with the designs of its concept: mean distances of features, and their quotient.

    `count` pictures make count / 8 prompts: plain names of concepts that at least two designs draw, without people
    and flags.
    """
    generator = np.random.default_rng(SEED)
    rows_of = {
        name: rows
        for name, rows in rows_by_concept(subject.train.info).items()
        if len({subject.train.info[row]["design"] for row in rows}) >= 2
        and subject.train.info[rows[0]]["group"] not in ("people-body", "flags", "component")
    }
    if not rows_of:
        raise InputError("no concept of the training shards is drawn by two designs; diversity needs one.")
    names = generator.permutation(sorted(rows_of))[: max(count // NUM_SEEDS, 1)].tolist()
    prompts = [name for name in names for _ in range(NUM_SEEDS)]
    drawn = subject.draw(prompts, list(range(NUM_SEEDS)) * len(names), "diversity")
    of_seeds = subject.judge.features(drawn).split(NUM_SEEDS)
    ranks = subject.judge.ranks(torch.cat(of_seeds), [[prompt] for prompt in prompts])
    subject.sheet("diversity", drawn, prompts, ranks)
    of_designs = [subject.judge.features(torch.from_numpy(subject.train.images[rows_of[name]])) for name in names]
    seeds, designs = (float(np.mean([mean_distance(rows) for rows in each])) for each in (of_seeds, of_designs))
    return {
        "between_seeds": round(seeds, 3),
        "between_designs": round(designs, 3),
        "quotient": round(seeds / designs, 4),
        "num_prompts": len(names),
    }


def memorisation(subject: Subject, count: int) -> dict[str, Any]:
    """Compare the distance to the nearest training picture of drawn test captions with that of real test pictures.

    In features, and as root mean square of pixels in [0, 1] at 32 px; median and the lowest twentieth.
    """
    rows, _, drawn = drawn_test(subject, count)
    sets = {"drawn": drawn, "real_test": torch.from_numpy(subject.test.images[rows])}
    known = torch.from_numpy(np.array(subject.train.images))
    result: dict[str, Any] = {"count": len(rows)}
    for space, rows_of in (("features", subject.judge.features), ("pixels", small_pixels)):
        targets = rows_of(known)
        for name, pictures in sets.items():
            nearest = torch.cdist(rows_of(pictures), targets).min(dim=1).values
            low, middle = (round(float(nearest.quantile(share)), 4) for share in (0.05, 0.5))
            result.setdefault(space, {})[name] = {"median": middle, "lowest_twentieth": low}
    return result


PARTS: Mapping[str, Callable[[Subject, int], dict[str, Any]]] = {
    "captions": captions,
    "test": test,
    "phrases": phrases,
    "compositions": compositions,
    "stages": stages,
    "distribution": distribution,
    "diversity": diversity,
    "memorisation": memorisation,
}


def drawn_test(subject: Subject, count: int) -> tuple[list[int], list[str], Tensor]:
    """Return test rows, captions of them that name the design, and what is drawn of these, once for all parts."""
    if "test" not in subject.cache:
        generator = np.random.default_rng(SEED)
        known = [row for row, info in enumerate(subject.test.info) if info["concept"] in subject.judge.places]
        rows = [known[place] for place in generator.permutation(len(known))[:count]]
        prompts = []
        for row in rows:
            texts = naming(subject.test.captions[row], subject.test.info[row])
            prompts.append(str(generator.choice([text for text in texts if text.endswith(STYLE)] or texts)))
        subject.cache["test"] = rows, prompts, subject.draw(prompts, range(len(rows)), "test")
    rows, prompts, drawn = subject.cache["test"]
    return rows, prompts, drawn


def naming(texts: Sequence[str], info: Mapping[str, Any]) -> list[str]:
    """Return the captions that hold the concept's name; a tag alone, such as "entrance", may stand for several."""
    return [text for text in texts if info["concept"].lower() in text.lower()] or list(texts[:1])


def rows_by_concept(infos: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Return the rows of each concept; compositions have none."""
    rows = defaultdict(list)
    for row, info in enumerate(infos):
        if info["concept"] and not info.get("composition"):
            rows[info["concept"]].append(row)
    return rows


def mean_distance(features: Tensor) -> float:
    """Return the mean distance of all pairs of rows."""
    return float(torch.pdist(features).mean()) if len(features) > 1 else 0.0


def small_pixels(pictures: Tensor) -> Tensor:
    """Return rows whose distances are root mean squares of pixels in [0, 1] at `NEAR_SIDE`."""
    parts = [resize(from_uint8(part), NEAR_SIDE).flatten(1) / 2.0 for part in pictures.split(512)]
    return torch.cat(parts) / parts[0].shape[1] ** 0.5


def colours_are(images: Tensor, expected: Sequence[str]) -> list[bool]:
    """Return for each picture whether its main colour is the expected one."""
    return [found == name for found, name in zip(main_colours(images, list(expected)), expected, strict=True)]


def real_colours(subject: Subject) -> float:
    """Return the share of real pictures named after a colour, such as "blue book", whose main colour has that name."""
    rows, names = [], []
    for row, info in enumerate(subject.train.info):
        match = re.match(NAMED_AFTER_COLOUR, info["concept"])
        if match and info["group"] not in ("people-body", "flags") and not info["concept"].endswith("button"):
            rows.append(row)
            names.append(match.group(1))
    return round(float(np.mean(colours_are(from_uint8(torch.from_numpy(subject.train.images[rows])), names))), 4)
