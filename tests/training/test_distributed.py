"""Two processes equal one with the same whole batch, in whole copies and in shards."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from processes import finish, start
from short_runs import changed
from unclip.checkpoint import load_tensors
from unclip.training import TrainConfig

WORKER = Path(__file__).parents[1] / "helpers" / "training_worker.py"
NUM_STEPS = 6
BALANCED = "balanced emoji/clip"
"""CLIP with balanced batches, in which pictures of a group are positives of each other, and classes."""
JUDGED = "judged emoji/autoencoder"
"""With CLIP's features, and a discriminator that sets in at the third step."""
STAGES = (BALANCED, JUDGED, "emoji/clip", "emoji/prior", "emoji/decoder", "emoji/upsampler_256")
VARIANTS = {
    "one": {},
    "accumulated": {"micro_batch_size": 2},
    "ddp": {},
    "ddp_accumulated": {"micro_batch_size": 2},
    "fsdp": {"strategy": "fsdp", "activation_checkpointing": True},
    "fsdp_zero2": {"strategy": "fsdp_zero2", "micro_batch_size": 2},
}
ALONE = ("one", "accumulated")
# Variants that differ from others in what does not depend on the stage: CLIP compares samples, the decoder does not.
FEW_STAGES = ("ddp_accumulated", "fsdp_zero2")
RUNS = [
    (variant, stage)
    for variant in VARIANTS
    for stage in STAGES
    if variant not in FEW_STAGES or stage in ("emoji/clip", "emoji/decoder")
]


@pytest.fixture(scope="module")
def results(tiny_recipe: Callable[[str], TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage trained in every variant: those of one process, and those of two."""
    folder = tmp_path_factory.mktemp("processes")
    for count, variants in ((1, set(ALONE)), (2, VARIANTS.keys() - set(ALONE))):
        runs = [
            {"config": measured(tiny_recipe, stage).replace(**VARIANTS[variant]).model_dump(mode="json"),
             "out": str(folder / variant / stage), "num_steps": NUM_STEPS}
            for variant, stage in RUNS if variant in variants
        ]  # fmt: skip
        path = folder / f"runs-{count}.json"
        path.write_text(json.dumps(runs))
        for code, errors in finish(start([WORKER, path], count), timeout=600):
            assert code == 0, errors
    return folder


def measured(recipe: Callable[[str], TrainConfig], stage: str) -> TrainConfig:
    """With five held-out samples, which two processes cannot share equally, and without dropout.

    Dropout's draws belong to a process's own passes; all others belong to the samples.
    """
    config = recipe(stage.rpartition(" ")[2])
    options = {"dropout": 0.0} if "dropout" in type(config.task.model).model_fields else {}
    options |= {"num_drawn": 5} if config.task.kind == "decoder" else {}
    options |= {"balance": ["group"], "positives": ["group"], "classes": ["group"]} if stage == BALANCED else {}
    if stage == JUDGED:
        options = {"image_size": 32, "clip": recipe("emoji/prior").task.clip, "feature_weight": 0.5}
        options |= {"adversarial_weight": 0.1, "adversarial_images": 2 * config.batch_size}
    return changed(config, validation_share=0.4, num_validation=5, **options)


@pytest.mark.parametrize(("variant", "stage"), [run for run in RUNS if run[0] != "one"])
def test_losses_are_those_of_one_process(results: Path, stage: str, variant: str) -> None:
    losses, expected = (json.loads((results / name / stage / "losses-0.json").read_text()) for name in (variant, "one"))
    assert len(expected) == NUM_STEPS
    assert losses == pytest.approx(expected, abs=1e-5, rel=0)
    assert expected[0] != expected[-1]


@pytest.mark.parametrize(("variant", "stage"), [run for run in RUNS if run[0] != "one"])
def test_held_out_figures_are_those_of_one_process(results: Path, stage: str, variant: str) -> None:
    path = results / variant / stage / "figures-0.json"
    figures, expected = (json.loads((results / name / stage / path.name).read_text()) for name in (variant, "one"))
    own = {"emoji/prior": {"recall_at_1", "cosine_unrelated"}, "emoji/decoder": {"frechet_clip"}}.get(stage, set())
    assert {"held_out_loss", "held_out_loss_online"} | own <= expected.keys()
    assert figures == pytest.approx(expected, rel=2e-3, abs=2e-5)
    if variant not in ALONE:
        assert figures == json.loads(path.with_name("figures-1.json").read_text())


@pytest.mark.parametrize(("variant", "stage"), [run for run in RUNS if run[0] not in ALONE])
def test_averages_are_the_same_in_all_processes(results: Path, stage: str, variant: str) -> None:
    folder = results / variant / stage
    first, second = (load_tensors(folder / f"average-{rank}.safetensors").tensors for rank in (0, 1))
    alone = load_tensors(results / "one" / stage / "average-0.safetensors").tensors
    assert first.keys() == second.keys() == alone.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
        torch.testing.assert_close(tensor, alone[name], atol=2e-4, rtol=1e-3)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are read from Linux's /proc")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_nothing_of_the_connections_is_left_after_a_run(
    tiny_recipe: Callable[[str], TrainConfig], tmp_path: Path, strategy: str
) -> None:
    """Threads that outlive the run abort the process at its exit, now and then, after everything went well."""
    config = tiny_recipe("emoji/prior").replace(strategy=strategy, num_images=16)
    script = (
        "import json, sys; from pathlib import Path; from unclip.config import load_config\n"
        "from unclip.training import TrainConfig, train\n"
        "train(load_config(TrainConfig, json.loads(sys.argv[1])), sys.argv[2], device='cpu')\n"
        "names = [(thread / 'comm').read_text().strip() for thread in Path('/proc/self/task').iterdir()]\n"
        "print('left:', sorted(name for name in names if 'gloo' in name or 'tcpstore' in name), file=sys.stderr)"
    )
    ends = finish(start(["-c", script, config.model_dump_json(), tmp_path / "run"], 2))
    assert [(code, errors.splitlines()[-1]) for code, errors in ends] == [(0, "left: []")] * 2, ends
