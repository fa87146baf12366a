"""The choice of sizes: it fits the time by its own plan, grows with what there is, and is pure."""

import itertools
from functools import cache
from pathlib import Path

import pytest

from unclip.clip import clip_preset
from unclip.errors import InputError
from unclip.model.families import build_on_meta
from unclip.models import count_parameters
from unclip.recipes import Circumstances, TrainingStage, choose, planned_minutes
from unclip.recipes.choose import defaults_of, with_length
from unclip.training import TrainConfig
from unclip.training.config import TaskConfig

TWO_CORES, GPU = 4e11, 3e14
GIVEN = Circumstances(
    num_pictures=200, image_size=256, vocab_size=900, longest_caption=14, flops_per_second=TWO_CORES, minutes=25
)
OUT = Path("runs/own")


def clip_of(stages: tuple[TrainingStage, ...]) -> object:
    return next(stage.config.task.model for stage in stages if stage.name == "clip")


def minutes_of(given: Circumstances) -> list[float]:
    stages = choose(given, OUT)
    return [planned_minutes(stage.config, given.flops_per_second, clip_of(stages)) for stage in stages]  # type: ignore[arg-type]


@cache
def parameters(task: TaskConfig) -> int:
    return count_parameters(build_on_meta(task.model))


def parameters_of(given: Circumstances) -> int:
    return sum(parameters(stage.config.task) for stage in choose(given, OUT))


@pytest.mark.parametrize(
    ("num_pictures", "minutes", "rate"),
    [(8, 2, TWO_CORES), (200, 2, TWO_CORES), (200, 25, TWO_CORES), (3_000, 240, TWO_CORES), (50_000, 25, GPU)],
)
def test_stages_end_inside_the_budget(num_pictures: int, minutes: float, rate: float) -> None:
    given = GIVEN.replace(num_pictures=num_pictures, minutes=minutes, flops_per_second=rate)
    stages, planned = choose(given, OUT), minutes_of(given)
    assert sum(stage.share for stage in stages) == pytest.approx(1.0)
    for stage, taken in zip(stages, planned, strict=True):
        assert 0 < taken <= stage.share * minutes
        assert stage.config.num_images % stage.config.checkpoint_images == 0
        assert stage.config.checkpoint_images % stage.config.batch_size == 0
    assert sum(planned) <= minutes


def test_time_is_used_where_there_are_pictures_enough() -> None:
    given = GIVEN.replace(num_pictures=13_000)
    assert sum(minutes_of(given)) > 0.9 * given.minutes


def test_more_time_or_pictures_is_never_a_smaller_model_or_less_training() -> None:
    for field, values in (("minutes", (3, 60, 300)), ("num_pictures", (50, 1_999, 2_000))):
        series = [GIVEN.replace(minutes=200, num_pictures=5_000).replace(**{field: value}) for value in values]
        sizes, planned = [parameters_of(given) for given in series], [sum(minutes_of(given)) for given in series]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[-1]
        # Whole batches may leave a hundredth.
        assert all(later >= 0.99 * earlier for earlier, later in itertools.pairwise(planned))


def test_a_gpu_gets_larger_networks_and_a_larger_decoder() -> None:
    given = GIVEN.replace(num_pictures=50_000, flops_per_second=GPU)
    assert parameters_of(given) > 5 * parameters_of(given.replace(flops_per_second=TWO_CORES))
    assert [stage.config.task.model.image_size for stage in choose(given, OUT) if stage.name == "decoder"] == [64]


def test_the_upsampler_draws_what_the_pictures_have() -> None:
    names = {size: [stage.name for stage in choose(GIVEN.replace(image_size=size), OUT)] for size in (64, 128, 256)}
    assert names == {size: ["clip", f"upsampler_{size}", "decoder", "prior"] for size in (64, 128, 256)}
    large = GIVEN.replace(image_size=64, num_pictures=50_000, flops_per_second=GPU)
    assert [stage.name for stage in choose(large, OUT)] == ["clip", "decoder", "prior"]
    with pytest.raises(InputError, match="image_size=100"):
        choose(GIVEN.replace(image_size=100), OUT)


def test_a_given_clip_is_not_trained_and_sets_the_shapes() -> None:
    shape = clip_preset("vit-b-32")
    stages = choose(GIVEN, OUT, shape)
    assert [stage.name for stage in stages] == ["upsampler_256", "decoder", "prior"]
    assert sum(stage.share for stage in stages) == pytest.approx(1.0)
    assert [stage.config.task.model.embedding_dim for stage in stages[1:]] == [512, 512]
    assert stages[2].config.task.model.num_text_tokens == 77


@pytest.mark.parametrize(("num_pictures", "batch"), [(8, 4), (12, 4), (200, 64), (700, 128), (5_000, 256)])
def test_clips_batch_holds_no_picture_twice(num_pictures: int, batch: int) -> None:
    [clip] = [stage for stage in choose(GIVEN.replace(num_pictures=num_pictures), OUT) if stage.name == "clip"]
    assert clip.config.batch_size == batch


def test_some_are_held_out_from_a_hundred_on() -> None:
    shares = {
        count: {stage.config.data.validation_share for stage in choose(GIVEN.replace(num_pictures=count), OUT)}
        for count in (99, 100)
    }
    assert shares == {99: {0.0}, 100: {0.05}}


@pytest.mark.parametrize(("longest", "length"), [(5, 32), (33, 40), (77, 77)])
def test_clip_reads_the_longest_caption(longest: int, length: int) -> None:
    stages = choose(GIVEN.replace(longest_caption=longest), OUT)
    assert [clip_of(stages).context_length, stages[-1].config.task.model.num_text_tokens] == [length, length]  # type: ignore[attr-defined]


def test_figures_stand_at_the_end_of_a_run() -> None:
    config = choose(GIVEN, OUT)[0].config
    for wanted in (1, 5_000, 77_777):
        changed: TrainConfig = with_length(config, wanted)
        assert changed.num_images <= max(wanted, 8 * config.batch_size)
        assert changed.num_images % changed.validation_images == changed.num_images % changed.checkpoint_images == 0


def test_every_sampled_stage_has_its_settings() -> None:
    assert set(defaults_of(choose(GIVEN, OUT)).stages) == {"prior", "decoder", "upsampler_256"}
