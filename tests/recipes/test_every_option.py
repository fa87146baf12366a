"""A table over every option of a training run: setting it by name changes that field and nothing else."""

import json
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from unclip.config import override
from unclip.recipes import get_recipe
from unclip.training import ParaphraseConfig, TrainConfig
from unclip.training.config import TaskConfig

RECIPE_OF_KIND = {
    "clip": "emoji/clip",
    "autoencoder": "emoji/autoencoder",
    "prior": "emoji/prior",
    "decoder": "emoji/decoder",
    "upsampler": "emoji/upsampler_256",
}

RUN = {
    "name": "own/name",
    "batch_size": 48,
    "micro_batch_size": 12,
    "num_images": 777,
    "ema": "power",
    "ema_images": 1234.0,
    "ema_sigma_rel": [0.07],
    "init": "other/run",
    "seed": 5,
    "precision": "float16",
    "strategy": "fsdp",
    "activation_checkpointing": True,
    "compile": True,
    "max_skipped": 3,
    "keep_checkpoints": 7,
    "trackers": ["wandb"],
    "checkpoint_images": 11,
    "preview_images": 12,
    "validation_images": 13,
    "num_validation": 14,
}
DATA = {
    "folder": "s3://bucket/shards",
    "emoji_split": "test",
    "source_size": 300,
    "limit": 9,
    "every": 4,
    "compositions": 7,
    "embeddings": "https://host/embeddings",
    "missing_share": 0.25,
    "cache": False,
    "shuffle_shards": 6,
    "lanes": 8,
    "num_workers": 2,
    "validation_share": 0.125,
    "balance": ["concept", "design"],
    "balance_power": 0.5,
}
OPTIMIZER = {
    "name": "muon",
    "learning_rate": 0.5,
    "betas": [0.8, 0.95],
    "eps": 1e-5,
    "weight_decay": 0.25,
    "warmup_images": 17,
    "decay": None,  # Whichever of the two the recipe has not.
    "max_grad_norm": 2.5,
}
DIFFUSION = {"weighting": "p2"}
PARAPHRASES = {
    "classes": ["design"],
    "class_texts": [],
    "teacher": "other/teacher",
    "phrases": "other/phrases.txt",
    "min_prob": 0.5,
    "max_count": 3,
}
TASKS: dict[str, dict[str, Any]] = {
    "clip": {
        "max_shift": 0.2,
        "max_rotation": 3.0,
        "degrade_prob": 0.75,
        "positives": ["concept"],
        "classes": ["design"],
        "class_weight": 0.5,
        "class_texts": [],
        "teacher": "other/teacher",
        "phrases": "other/phrases.txt",
    },
    "autoencoder": {
        "image_size": 64,
        "gradient_weight": 0.5,
        "regularizer_weight": 0.01,
        "latent_noise": 0.2,
        "clip": "other/clip",
        "feature_weight": 0.5,
        "adversarial_weight": 0.1,
        "adversarial_images": 1000,
    },
    "prior": DIFFUSION
    | {"clip": "other/clip", "embed": "every_step", "text_drop_prob": 0.3, "self_conditioning_prob": 0.25},
    "decoder": DIFFUSION
    | {
        "clip": "other/clip",
        "image_drop_prob": 1.0,
        "text_drop_prob": 0.3,
        "autoencoder": "other/autoencoder",
        "embedding_noise": 0.1,
        "num_drawn": 5,
        "self_conditioning_prob": 0.25,
    },
    "upsampler": DIFFUSION
    | {
        "crop_size": 32,
        "degradation": "bsr",
        "blur_prob": 0.25,
        "blur_sigma": 1.5,
        "max_augmentation": 0.125,
    },
}
# The discriminator of a task, the network's own shape (tested with the networks) and the parts themselves.
NOT_OPTIONS = {"kind", "model", "task", "data", "optimizer", "paraphrases"}


def options_of(kind: str) -> dict[str, Any]:
    """Dotted names of a task's options, each with a value that its recipe has not."""
    config = get_recipe(RECIPE_OF_KIND[kind])
    optimizer = OPTIMIZER | {"decay": "constant" if config.optimizer.decay == "cosine" else "cosine"}
    parts = {"": RUN, "data.": DATA, "optimizer.": optimizer, "task.": TASKS[kind]}
    if kind in ("prior", "decoder"):
        parts["task.paraphrases."] = PARAPHRASES
    return {prefix + name: value for prefix, part in parts.items() for name, value in part.items()}


CASES = [(kind, name, value) for kind in TASKS for name, value in options_of(kind).items()]


def flat(config: BaseModel) -> dict[str, Any]:
    """Every leaf of a configuration by its dotted name."""

    def leaves(values: dict[str, Any], prefix: str) -> dict[str, Any]:
        found = {}
        for name, value in values.items():
            found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        return found

    return leaves(config.model_dump(mode="json"), "")


@pytest.mark.parametrize(("kind", "name", "value"), CASES, ids=[f"{kind}-{name}" for kind, name, _ in CASES])
def test_an_option_changes_itself_alone(kind: str, name: str, value: Any) -> None:
    config = get_recipe(RECIPE_OF_KIND[kind])
    if name in ("data.balance", "data.shuffle_shards", "data.lanes"):
        config = override(config, {"data.balance": "[]"})  # which some recipes set, and the others rule out
    if name == "data.emoji_split":
        config = override(config, {"data.compositions": "0"})  # likewise
    before = flat(config)
    assert before[name] != value
    after = flat(override(config, {name: value if isinstance(value, str) else json.dumps(value)}))
    assert after == before | {name: value}


def test_the_table_has_every_option() -> None:
    classes = {
        "": (TrainConfig, RUN),
        "data": (TrainConfig.model_fields["data"].annotation, DATA),
        "optimizer": (TrainConfig.model_fields["optimizer"].annotation, OPTIMIZER),
        "paraphrases": (ParaphraseConfig, PARAPHRASES),
    }
    tasks = {cls.model_fields["kind"].default: cls for cls in get_args(get_args(TaskConfig)[0])}
    assert set(tasks) == set(TASKS)
    classes |= {kind: (cls, TASKS[kind]) for kind, cls in tasks.items()}
    for place, (cls, table) in classes.items():
        assert set(cls.model_fields) - NOT_OPTIONS == set(table), place
