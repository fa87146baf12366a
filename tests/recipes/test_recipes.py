"""Every recipe validates, has the size that its source says, a plan that its docstring quotes, and a smoke variant."""

import json
import re
from functools import cache
from pathlib import Path

import pytest

from unclip.cli.plan import duration
from unclip.clip import TextImageEncoder, clip_preset
from unclip.config import override
from unclip.errors import ConfigError
from unclip.model.families import build_on_meta
from unclip.models import count_parameters
from unclip.recipes import RECIPES, frozen_clip, get_recipe, num_pictures, prepare_smoke
from unclip.training import Plan, make_plan

LARGE = sorted(name for name in RECIPES if not name.startswith("emoji/"))
PLANNED = re.compile(r"Planned: (\d+) x (\w+), (.*)\.$", re.MULTILINE)
HARDWARE = {"cc3m": (4, "a100"), "laion": (64, "h100"), "karlo": (64, "a100"), "paper": (256, "a100")}

# Parameters, in millions, and the margin that the difference of the networks makes.
PUBLISHED = {
    "cc3m/prior": (33, 0.03),  # ECLIPSE, which has no time token.
    "laion/prior": (250, 0.06),  # DALLE2-pytorch's heads are wider than its blocks.
    "laion/decoder": (1500, 0.04),
    "karlo/prior": (1000, 0.03),
    "karlo/decoder": (900, 0.01),
    "karlo/upsampler_256": (700, 0.02),
    "paper/prior": (1000, 0.25),  # 24 blocks of 2048 have 1.2B weights; the paper rounds.
    "paper/decoder": (3500, 0.03),
    "paper/upsampler_256": (700, 0.05),
    "paper/upsampler_1024": (300, 0.07),
}


# Every setting of every recipe and smoke variant, a line each; a changed setting changes its line.
GOLDEN = json.loads(Path(__file__).with_name("recipes.json").read_text())


@pytest.mark.parametrize("smoke", [False, True])
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_has_the_settings_that_are_checked_in(name: str, smoke: bool) -> None:
    assert get_recipe(name, smoke).model_dump(mode="json") == GOLDEN[f"{name} --smoke" if smoke else name]


@cache
def planned(name: str, num_gpus: int, gpu: str) -> Plan:
    config = get_recipe(name)
    return make_plan(config, num_pictures=num_pictures(name), num_gpus=num_gpus, gpu=gpu, clip=frozen_clip(config))


@pytest.mark.parametrize("name", LARGE)
def test_the_docstring_quotes_the_plan_and_the_plan_fits(name: str) -> None:
    text = RECIPES[name].__doc__ or ""
    found = PLANNED.search(text)
    assert found is not None
    num_gpus, gpu = HARDWARE[name.split("/")[0]]
    plan = planned(name, num_gpus, gpu)
    assert (int(found[1]), found[2], found[3], plan.fits) == (num_gpus, gpu, duration(plan.days), True)
    assert f"`unclip train {name} --out runs/{name}`" in text
    assert "Expected: " in text or "Expected (" in text


@pytest.mark.parametrize("name", sorted(set(RECIPES) - set(LARGE)))
def test_an_emoji_recipe_fits_one_small_gpu(name: str) -> None:
    assert planned(name, 1, "rtx4090").fits


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_network_has_the_published_size(name: str) -> None:
    millions, margin = PUBLISHED[name]
    assert planned(name, *HARDWARE[name.split("/")[0]]).parameters / 1e6 == pytest.approx(millions, rel=margin)


@pytest.mark.parametrize("name", LARGE)
def test_smoke_keeps_the_paths_and_shrinks_the_sizes(name: str) -> None:
    full, smoke = get_recipe(name), get_recipe(name, smoke=True)
    assert (smoke.data.embeddings is None, smoke.data.cache) == (full.data.embeddings is None, full.data.cache)
    assert (smoke.micro_batch_size is None, smoke.strategy) == (full.micro_batch_size is None, full.strategy)
    assert (smoke.data.num_workers > 0, smoke.data.validation_share > 0) == (True, True)
    assert smoke.task.replace(**dict(full.task)) == full.task
    kept = {"prediction_type", "schedule", "dropout", "learned_variance", "noise_conditioning", "conditioning"}
    for field in kept & set(type(full.task.model).model_fields):
        assert getattr(smoke.task.model, field) == getattr(full.task.model, field)
    assert count_parameters(build_on_meta(smoke.task.model)) < 1_000_000


def test_smoke_makes_its_inputs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = get_recipe("cc3m/prior", smoke=True)
    prepare_smoke(config)
    encoder = TextImageEncoder.load(Path("runs/smoke/clip"))
    assert encoder.embedding_dim == config.task.model.embedding_dim
    files = {path: path.stat().st_mtime_ns for path in Path("runs/smoke").rglob("*") if path.is_file()}
    names = {
        ".lock",
        "toy-000000.tar",
        "toy-000000.tar.index.json",
        "clip.safetensors",
        "tokenizer.json",
        "toy-000000.safetensors",
        "statistics.safetensors",
    }
    assert {path.name for path in files} == names
    prepare_smoke(config)
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_smoke_leaves_a_users_data_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare_smoke(get_recipe("cc3m/prior"))
    assert list(tmp_path.iterdir()) == []


def test_the_frozen_clip_is_the_stored_one_the_seriess_or_the_presets(tmp_path: Path, tiny_folder: Path) -> None:
    assert frozen_clip(get_recipe("karlo/prior")) == clip_preset("vit-l-14")
    assert frozen_clip(get_recipe("paper/prior")) == get_recipe("paper/clip").task.model
    assert frozen_clip(get_recipe("emoji/decoder")) == get_recipe("emoji/clip").task.model
    assert frozen_clip(get_recipe("paper/clip")) is None
    prior = get_recipe("karlo/prior")
    assert frozen_clip(prior.replace(task=prior.task.replace(clip=tmp_path))) is None
    stored = frozen_clip(prior.replace(task=prior.task.replace(clip=tiny_folder)))
    assert stored == TextImageEncoder.load(tiny_folder).clip.config


def test_sizes_of_data_sets_count_what_a_recipe_draws() -> None:
    assert num_pictures("emoji/clip") == 18_375
    assert num_pictures("emoji/decoder") == 18_375 + 2_500
    assert num_pictures("emoji/upsampler_1024") == 2_625
    assert num_pictures("karlo/decoder") == 115_000_000


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_an_unknown_key_is_refused_with_the_nearest(name: str) -> None:
    config = get_recipe(name)
    for wrong, near in (
        ("batchsize", "batch_size"),
        ("optimizer.learning_rat", "learning_rate"),
        ("task.mode", "model"),
    ):
        with pytest.raises(ConfigError, match=f"did you mean '{near}'"):
            override(config, {wrong: "1"})
