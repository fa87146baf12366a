"""The judge of drawn emoji: its lists, its colours, its augmentation, and a small one that is trained and used."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from unclip.checkpoint import save_module, save_tensors
from unclip.data import EmojiItem, ImageTextSet, emoji_items, load_shards, write_shards
from unclip.errors import CheckpointError, InputError
from unclip.images import from_uint8
from unclip.models import ConvAutoencoder, ConvAutoencoderConfig

ROOT = Path(__file__).parents[2]
JUDGE = ROOT / "benchmarks/emoji_judge"
sys.path += [str(JUDGE), str(JUDGE.parent)]

from augment import augment, move, recolour  # noqa: E402
from autoencoder import rebuild  # noqa: E402
from colours import COLOURS, colour_shares, main_colours  # noqa: E402
from lists import (  # noqa: E402
    PER_GROUP,
    SHEET,
    SHEET_GROUPS,
    draw_sheet,
    is_caption,
    read_compositions,
    read_phrases,
    words_of,
)
from network import Judge, JudgeConfig, JudgeNetwork  # noqa: E402
from train import evaluate, take_over, train  # noqa: E402

CONCEPTS = (
    "red heart",
    "blue heart",
    "green heart",
    "black cat",
    "flag: Japan",
    "banana",
    "waving hand",
    "beach with umbrella",
)
LEAST_UNCAPTIONED = 70
"""Of each half: richer captions may come to hold some synonyms, which are then left out of a measurement."""


@pytest.fixture(scope="module")
def items() -> list[EmojiItem]:
    return emoji_items()


@pytest.fixture(scope="module")
def shards(items: list[EmojiItem], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight concepts in two designs for training, the same in a third for the test."""
    folder = tmp_path_factory.mktemp("judge")
    plain = [item for item in items if item.concept in CONCEPTS and not item.skin_tones]
    write_shards(folder / "train", [item for item in plain if item.design in ("noto", "twemoji")], 128, "emoji")
    write_shards(folder / "test", [item for item in plain if item.design == "fluent-flat"], 128, "emoji")
    return folder


@pytest.fixture(scope="module")
def pictures(shards: Path) -> ImageTextSet:
    return load_shards(shards / "train", 64)


@pytest.fixture(scope="module")
def weights(pictures: ImageTextSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge that was trained for 120 batches of 16."""
    path = tmp_path_factory.mktemp("weights") / "judge.safetensors"
    Judge(train(pictures, 1920, seed=0, batch_size=16)).save(path)
    return path


def test_lists_are_whole(items: list[EmojiItem]) -> None:
    concepts = {item.concept for item in items}
    halves = {half: read_phrases(half) for half in ("dev", "test")}
    for phrases in halves.values():
        assert Counter(phrase.kind for phrase in phrases) == {"synonym": 50, "phrase": 50}
        assert all(phrase.concepts and concepts.issuperset(phrase.concepts) for phrase in phrases)
    assert len({phrase.text for phrases in halves.values() for phrase in phrases}) == 200
    compositions = read_compositions()
    assert Counter(each.kind for each in compositions) == {"colour": 50, "count": 15, "accessory": 18, "pair": 17}
    assert {each.colour for each in compositions} <= {None, *COLOURS}
    assert {name for each in compositions for names in each.things for name in names} <= concepts


def test_lists_are_no_captions(items: list[EmojiItem]) -> None:
    words = words_of(item.info() for item in items)
    assert is_caption("A zebra", words)
    assert not is_caption("a striped horse", words)
    for half in ("dev", "test"):
        assert sum(not is_caption(phrase.text, words) for phrase in read_phrases(half)) >= LEAST_UNCAPTIONED, half


def test_the_sheet_is_drawn_from_eight_groups(items: list[EmojiItem]) -> None:
    group_of = {item.concept: item.group for item in items}
    prompts = SHEET.read_text().splitlines()
    assert Counter(group_of[prompt] for prompt in prompts) == dict.fromkeys(SHEET_GROUPS, PER_GROUP)
    infos = [item.info() for item in items]
    assert draw_sheet(infos) == draw_sheet(infos[::-1])
    with pytest.raises(InputError, match="0 concepts of smileys-emotion are too few to draw 8"):
        draw_sheet([])


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((220, 40, 40), "red"),
        ((245, 140, 10), "orange"),
        ((252, 200, 40), "yellow"),
        ((90, 170, 60), "green"),
        ((60, 140, 230), "blue"),
        ((150, 90, 200), "purple"),
        ((245, 120, 190), "pink"),
        ((120, 75, 45), "brown"),
        ((50, 48, 55), "black"),
        ((150, 152, 150), "grey"),
    ],
)
def test_colours_have_names(rgb: tuple[int, int, int], name: str) -> None:
    pixels = torch.full((1, 8, 8, 3), 255, dtype=torch.uint8)
    pixels[:, 2:6, 2:6] = torch.tensor(rgb, dtype=torch.uint8)
    images = from_uint8(pixels)
    assert colour_shares(images)[0, COLOURS.index(name)] == 1.0
    assert main_colours(images, [name]) == [name]
    assert colour_shares(torch.ones(1, 3, 8, 8)).sum() == 0.0


def test_augmentation_keeps_white_and_the_range(pictures: ImageTextSet) -> None:
    images = from_uint8(torch.from_numpy(pictures.images[list(range(8))]))
    white = torch.ones(4, 3, 64, 64)
    for change in (move, recolour):  # of darkness, which is 0 in white
        assert torch.equal(change((1.0 - white) / 2.0, torch.Generator().manual_seed(1)), torch.zeros_like(white))
    first, again, other = (augment(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().mean() > 0.01
    assert first.shape == images.shape
    assert -1.0 <= float(first.min()) < float(first.max()) <= 1.0


def test_training_tells_concepts_and_designs_apart(weights: Path, pictures: ImageTextSet) -> None:
    judge = Judge.load(weights)
    figures = evaluate(judge, pictures)
    assert figures["all"]["count"] == len(pictures) == 15
    assert figures["all"]["top1"] >= 0.9
    assert figures["all"]["top5"] == 1.0
    assert figures["all"]["design"] >= 0.8
    assert {kind: figures[kind]["count"] for kind in ("people", "flags", "others")} == {
        "people": 2,
        "flags": 1,
        "others": 12,
    }


def test_a_judge_scores_all_kinds_of_tensors_alike(weights: Path, pictures: ImageTextSet) -> None:
    judge = Judge.load(weights)
    pixels = torch.from_numpy(pictures.images[list(range(8))])
    concepts = [info["concept"] for info in pictures.info[:8]]
    images = from_uint8(pixels)
    covered = torch.cat([images, torch.zeros(8, 1, 64, 64)], dim=1)
    assert judge.score(pixels, concepts) == judge.score(images, concepts) == judge.score(covered, concepts)
    features = judge.features(pixels)
    first = [judge.network.config.concepts[place] for place in judge.logits(features).argmax(dim=1)]
    assert judge.ranks(features, [[name] for name in first]).tolist() == [0] * 8
    everything = [list(judge.network.config.concepts)] * 8
    assert judge.ranks(features, everything).tolist() == [0] * 8
    with pytest.raises(InputError, match="no concept of this judge: a cat; use names"):
        judge.score(pixels[:1], ["a cat"])
    with pytest.raises(InputError, match="2 lists of concepts for 1 pictures"):
        judge.score(pixels[:1], ["banana", "banana"])


def test_another_file_is_no_judge(tmp_path: Path) -> None:
    save_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(1)}, {"kind": "clip"})
    with pytest.raises(CheckpointError, match="is of kind 'clip', not 'emoji-judge'"):
        Judge.load(tmp_path / "other.safetensors")


def test_the_network_is_small() -> None:
    config = JudgeConfig(concepts=tuple(map(str, range(2000))), designs=tuple("abcdefgh"))
    assert sum(weight.numel() for weight in JudgeNetwork(config).parameters()) < 1_450_000


def run_judge(*words: str | Path, script: str = "judge.py") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(JUDGE / script), *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_model_is_measured(tiny_folder: Path, shards: Path, weights: Path, tmp_path: Path) -> None:
    parts = "captions,test,stages,distribution,diversity,memorisation"
    options = ("--num-prompts", "8", "--parts", parts, "--json", tmp_path / "out.json", "--sheets", tmp_path / "sheets")
    options += ("--drawings", tmp_path / "drawings")
    run = run_judge(tiny_folder, "--judge", weights, "--shards", shards, *options)
    assert run.returncode == 0, run.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["captions"]["count"] == 8
    assert result["captions"]["real_top5"] >= 0.9
    assert result["captions"]["top1_of_real"] == pytest.approx(
        result["captions"]["top1"] / result["captions"]["real_top1"], abs=1e-3
    )
    assert result["captions"]["people"]["count"] == 1
    assert result["diversity"]["num_prompts"] == 1
    assert {stage for stage in result["stages"] if stage != "seconds"} == {"from_text", "from_image_embedding"}
    assert result["test"] == {
        **result["stages"]["from_text"],
        **{k: result["test"][k] for k in ("design", "real_design", "seconds")},
    }
    assert result["distribution"]["drawn"]["frechet"] > result["distribution"]["train_floor"]["frechet"] > 0.0
    assert result["memorisation"]["pixels"]["drawn"]["median"] > result["memorisation"]["pixels"]["real_test"]["median"]
    assert (tmp_path / "sheets/captions.txt").read_text().count("\n") == 8
    again = run_judge(tiny_folder, "--judge", weights, "--shards", shards, *options)  # nothing is drawn again
    assert again.stdout == run.stdout
    assert "pictures, " in run.stderr
    assert again.stderr == ""
    assert "top1_of_real" in run.stdout
    assert len([line for line in run.stdout.splitlines() if line.startswith("captions")]) == 4


def test_an_unknown_part_is_one_line() -> None:
    run = run_judge("--parts", "captoins")
    assert run.returncode == 2
    assert run.stderr.startswith("--parts: 'captoins' is unknown; did you mean 'captions'?")
    assert run.stderr.count("\n") == 1


def test_a_judge_goes_on_from_another(weights: Path, pictures: ImageTextSet) -> None:
    start = Judge.load(weights)
    config = start.network.config
    reordered = JudgeNetwork(JudgeConfig(concepts=("another", *config.concepts[::-1]), designs=config.designs))
    take_over(reordered, start.network)
    pixels = torch.from_numpy(pictures.images[list(range(8))])
    other = Judge(reordered)
    torch.testing.assert_close(other.features(pixels), start.features(pixels))
    logits = other.logits(other.features(pixels))[:, 1:].flip(1)
    torch.testing.assert_close(logits, start.logits(start.features(pixels)))


def test_an_autoencoder_is_measured_alone(shards: Path, weights: Path, tmp_path: Path) -> None:
    config = ConvAutoencoderConfig(in_channels=4, latent_channels=8, widths=(32, 32))
    save_module(tmp_path / "autoencoder.safetensors", ConvAutoencoder(config), config, "autoencoder")
    words = [str(tmp_path), "--shards", str(shards), "--judge", str(weights), "--image-size", "64"]
    run = run_judge(*words, script="autoencoder.py")
    assert run.returncode == 0, run.stderr
    untrained = json.loads(run.stdout)
    assert untrained["num_pictures"] == 7
    assert 0.0 < untrained["psnr"] < 20.0
    judge = Judge.load(weights)
    exact = rebuild(judge, lambda images: images, shards / "test", 64, 3)
    assert exact["agreement"] == 1.0
    noisy = rebuild(
        Judge.load(weights), lambda images: images - 0.2 * torch.where(images > 0, 1, -1), shards / "test", 64, 4
    )
    assert noisy["psnr"] == noisy["psnr_coverage"] == pytest.approx(20.0, abs=0.01)  # a tenth of the range everywhere
    missing = run_judge(str(shards), *words[1:], script="autoencoder.py")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
