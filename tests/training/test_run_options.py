"""Every setting of a run changes what its text says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from processes import finish, start
from short_runs import ALONE, calls, changed, first_batch, fresh, loss, of_pixels, options, steps
from unclip.checkpoint import load_tensors
from unclip.errors import CheckpointError, InputError, TrainingError
from unclip.training import Feed, TrainConfig, Trainer, average_stage, make_task, train
from unclip.training.averages import ema_decay, load_snapshots
from unclip.training.memory import sharded_blocks

HERE = Path(__file__).parents[1] / "helpers"
RATE = 1e-3


@pytest.fixture(scope="module")
def decoder(prior: TrainConfig, tiny_recipe: Callable[[str], TrainConfig]) -> TrainConfig:
    """The smallest stage with pictures to look at."""
    config = changed(of_pixels(tiny_recipe("emoji/decoder")), trackers=())
    return config.replace(data=prior.data, num_images=24)


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def test_name_stands_before_what_is_told(
    prior: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(prior.replace(name="own/name", num_images=8), tmp_path, device="cpu")
    assert capsys.readouterr().err.startswith("own/name  step 1  8 images")


def test_batch_size_is_the_images_of_a_step_and_num_images_their_sum(prior: TrainConfig, tmp_path: Path) -> None:
    train(prior.replace(batch_size=4, num_images=12), tmp_path, device="cpu")
    assert [line["images_seen"] for line in lines(tmp_path)] == [4, 8, 12]
    assert len(first_batch(prior.replace(batch_size=4))) == 4


@pytest.mark.parametrize("stage", ["prior", "decoder"])
def test_micro_batches_are_smaller_passes_with_the_same_losses(stage: str, request: pytest.FixtureRequest) -> None:
    config = request.getfixturevalue(stage)
    small = config.replace(micro_batch_size=2)
    assert steps(small, 3).losses == pytest.approx(steps(config, 3).losses, rel=1e-5)
    task = make_task(small, ALONE.device)
    network = task.build()
    with calls(network) as seen:
        for part in task.split(first_batch(small, task), 2):
            loss(task, network, part)
    assert [len(call["0"]) for call in seen] == [2, 2, 2, 2]


def test_power_keeps_an_average_for_each_width_and_snapshots_to_make_others_of(
    prior: TrainConfig, tmp_path: Path
) -> None:
    config = prior.replace(ema="power", ema_sigma_rel=(0.05, 0.1, 0.2), checkpoint_images=8)
    train(config, tmp_path, device="cpu")
    found = set(load_snapshots(tmp_path))
    assert found == {(seen, width) for seen in (8, 16, 24) for width in (0.05, 0.1, 0.2)}
    assert average_stage(tmp_path, 0.12, tmp_path / "other.safetensors").images_seen == 24
    train(prior, tmp_path / "classic", device="cpu")
    assert load_snapshots(tmp_path / "classic") == {}


def test_ema_images_is_the_half_life(prior: TrainConfig) -> None:
    # At most a tenth of the images seen: one of 1e-3 images forgets all but the last step.
    last, half = steps(prior.replace(ema_images=1e-3), 1), steps(prior.replace(ema_images=0.7), 1)
    before = fresh(prior)["query"].detach()
    torch.testing.assert_close(last.trainer.state.averages.networks[0].query, last.weights["query"])
    kept = ema_decay(8, 8, 0.7)
    torch.testing.assert_close(
        half.trainer.state.averages.networks[0].query, kept * before + (1 - kept) * half.weights["query"]
    )
    assert 1e-4 < kept < 0.5


def test_seed_changes_weights_order_and_noise(prior: TrainConfig) -> None:
    other = prior.replace(seed=1)
    assert not torch.equal(
        fresh(prior)["time_embedding.linear_1.weight"], fresh(other)["time_embedding.linear_1.weight"]
    )
    one, two = first_batch(prior), first_batch(other)
    assert not torch.equal(one["noise"], two["noise"])
    assert not torch.equal(one["image_embedding"], two["image_embedding"])
    assert steps(prior).losses == steps(prior).losses


@pytest.mark.parametrize(("precision", "scale"), [("bfloat16", 1.0), ("float16", 2.0**16), ("float32", 1.0)])
def test_precision_is_that_of_the_passes_and_float16_scales_the_loss(
    prior: TrainConfig, precision: str, scale: float
) -> None:
    done = steps(prior.replace(precision=precision), 2)
    assert done.trainer.state.loss_scale.value == scale
    assert done.losses == pytest.approx(steps(prior).losses, rel=2e-2)
    assert {weight.dtype for weight in done.weights.values()} == {torch.float32}
    assert (done.losses == steps(prior).losses) == (precision == "float32")


@pytest.mark.parametrize("stage", ["prior", "decoder"])
def test_activation_checkpointing_runs_blocks_twice_with_the_same_losses(
    stage: str, request: pytest.FixtureRequest
) -> None:
    config = request.getfixturevalue(stage)
    counts = {}
    for on in (False, True):
        trainer = Trainer.open(config.replace(activation_checkpointing=on), ALONE)
        task, state = trainer.task, trainer.state
        inner = next(
            layer for layer in sharded_blocks(state.network)[0].modules() if isinstance(layer, torch.nn.Linear)
        )
        with calls(inner) as seen:
            loss(task, state.network.train(), first_batch(config, task)).loss.backward()
        counts[on] = len(seen)
    assert counts == {False: 1, True: 2}
    assert steps(config.replace(activation_checkpointing=True), 3).losses == steps(config, 3).losses


def test_a_compiled_network_has_the_same_losses(
    prior: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process without the checks of annotations, which the compiler does not take. A minute, most of it C++."""
    config = changed(prior, num_text_tokens=0)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    runs = [
        {"config": config.replace(compile=on).model_dump(mode="json"), "out": str(tmp_path / str(on)), "num_steps": 2}
        for on in (False, True)
    ]
    (tmp_path / "runs.json").write_text(json.dumps(runs))
    [(code, errors)] = finish(start([HERE / "training_worker.py", tmp_path / "runs.json"], 1), timeout=600)
    assert code == 0, errors
    plain, compiled = (json.loads((tmp_path / str(on) / "losses-0.json").read_text()) for on in (False, True))
    assert compiled == pytest.approx(plain, rel=1e-4)
    assert any((tmp_path / "compiled").rglob("*.cpp"))


def test_max_skipped_is_how_many_infinite_steps_end_a_run(prior: TrainConfig) -> None:
    broken = prior.replace(max_skipped=3, optimizer=prior.optimizer.replace(learning_rate=1e30))
    with pytest.raises(TrainingError, match=r"was not finite for 3 steps in a row"):
        steps(broken, 50)


def test_checkpoints_come_after_their_images_and_the_last_ones_stay(prior: TrainConfig, tmp_path: Path) -> None:
    config = prior.replace(num_images=40, checkpoint_images=8)
    train(config.replace(keep_checkpoints=3), tmp_path / "three", device="cpu")
    assert names(tmp_path / "three", "checkpoint-*") == [f"checkpoint-{step:08d}.safetensors" for step in (3, 4, 5)]
    train(config.replace(checkpoint_images=24, keep_checkpoints=9), tmp_path / "rare", device="cpu")
    assert names(tmp_path / "rare", "checkpoint-*") == [f"checkpoint-{step:08d}.safetensors" for step in (3, 5)]


def test_trackers_are_the_named_ones(prior: TrainConfig, tmp_path: Path) -> None:
    for trackers, folders in (((), []), (("tensorboard",), ["tensorboard"])):
        out = tmp_path / str(len(trackers))
        train(prior.replace(trackers=trackers, num_images=8), out, device="cpu")
        assert sorted(path.name for path in out.iterdir() if path.is_dir()) == folders


def test_previews_come_after_their_images_and_at_the_end(decoder: TrainConfig, tmp_path: Path) -> None:
    train(decoder.replace(preview_images=16), tmp_path, device="cpu")
    assert names(tmp_path / "samples", "*") == ["000000016.png", "000000024.png"]


def test_held_out_figures_come_after_their_images_and_keep_the_best(prior: TrainConfig, tmp_path: Path) -> None:
    config = changed(prior, validation_share=0.4, num_validation=3, validation_images=8)
    train(config, tmp_path, device="cpu")
    figures = {"held_out_loss", "held_out_loss_online", "cosine_image_predicted", "recall_at_1"}
    assert all(figures <= line.keys() for line in lines(tmp_path))
    assert (tmp_path / "best.safetensors").exists()
    train(config.replace(validation_images=16), tmp_path / "rare", device="cpu")
    assert [figures <= line.keys() for line in lines(tmp_path / "rare")] == [False, True, False]
    train(prior, tmp_path / "none", device="cpu")
    assert not any(figures & line.keys() for line in lines(tmp_path / "none"))
    assert not (tmp_path / "none" / "best.safetensors").exists()


def test_num_validation_is_how_many_are_looked_at(prior: TrainConfig) -> None:
    for count in (1, 3):
        config = changed(prior, validation_share=0.4, num_validation=count)
        feed = Feed(make_task(config, ALONE.device).samples, config, ALONE)
        assert sum(len(batch) for batch in feed.validation()) == count


@pytest.mark.parametrize("name", ["emoji/clip", "emoji/autoencoder", "emoji/prior", "emoji/decoder"])
def test_init_is_where_the_weights_come_from(
    name: str, tiny_recipe: Callable[[str], TrainConfig], whole_run: Callable[[str], Path]
) -> None:
    folder, stage = whole_run(name), name.split("/")[1]
    config = changed(tiny_recipe(name), init=folder, seed=7)
    trainer = Trainer.open(config, ALONE)
    written = load_tensors(folder / f"{stage}.safetensors").tensors
    for network in (trainer.state.network, *trainer.state.averages.networks):
        state = trainer.task.exported(network).state_dict()
        assert state.keys() == written.keys()
        assert all(torch.equal(state[key], written[key]) for key in written)


def test_init_of_another_shape_is_refused(decoder: TrainConfig, whole_run: Callable[[str], Path]) -> None:
    with pytest.raises(CheckpointError, match="does not fit Decoder"):
        steps(changed(decoder, init=whole_run("emoji/decoder")))
    with pytest.raises(InputError, match="holds no decoder"):
        steps(changed(decoder, init=whole_run("emoji/clip")))


SHOWN = {
    "name": test_name_stands_before_what_is_told,
    "batch_size": test_batch_size_is_the_images_of_a_step_and_num_images_their_sum,
    "micro_batch_size": test_micro_batches_are_smaller_passes_with_the_same_losses,
    "num_images": test_batch_size_is_the_images_of_a_step_and_num_images_their_sum,
    "ema": test_power_keeps_an_average_for_each_width_and_snapshots_to_make_others_of,
    "ema_images": test_ema_images_is_the_half_life,
    "ema_sigma_rel": test_power_keeps_an_average_for_each_width_and_snapshots_to_make_others_of,
    "init": test_init_is_where_the_weights_come_from,
    "seed": test_seed_changes_weights_order_and_noise,
    "precision": test_precision_is_that_of_the_passes_and_float16_scales_the_loss,
    "strategy": HERE / "test_distributed.py",
    "activation_checkpointing": test_activation_checkpointing_runs_blocks_twice_with_the_same_losses,
    "compile": test_a_compiled_network_has_the_same_losses,
    "max_skipped": test_max_skipped_is_how_many_infinite_steps_end_a_run,
    "keep_checkpoints": test_checkpoints_come_after_their_images_and_the_last_ones_stay,
    "trackers": test_trackers_are_the_named_ones,
    "checkpoint_images": test_checkpoints_come_after_their_images_and_the_last_ones_stay,
    "preview_images": test_previews_come_after_their_images_and_at_the_end,
    "validation_images": test_held_out_figures_come_after_their_images_and_keep_the_best,
    "num_validation": test_num_validation_is_how_many_are_looked_at,
}


def test_every_setting_has_its_test() -> None:
    assert options(TrainConfig) == set(SHOWN)
