"""The choice of sizes: it fits the time by its own plan, grows with what there is, and is pure."""

import itertools
from functools import cache
from pathlib import Path

import pytest

from unclip.clip import clip_preset
from unclip.errors import InputError
from unclip.model.checks import check_fit
from unclip.model.families import build_on_meta
from unclip.models import count_parameters
from unclip.recipes import Circumstances, TrainingStage, choose, planned_minutes
from unclip.recipes.choose import defaults_of, space_of, with_length
from unclip.training import TrainConfig
from unclip.training.config import DecoderTaskConfig, TaskConfig

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


def decoder_of(given: Circumstances) -> DecoderTaskConfig:
    [task] = [stage.config.task for stage in choose(given, OUT) if stage.name == "decoder"]
    assert isinstance(task, DecoderTaskConfig)
    return task


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
    for size, side in ((64, 64), (128, 32), (256, 32)):
        assert decoder_of(given.replace(image_size=size)).model.image_size == side


def test_the_upsampler_draws_what_the_pictures_have() -> None:
    names = {size: [stage.name for stage in choose(GIVEN.replace(image_size=size), OUT)] for size in (64, 128, 256)}
    assert names == {
        64: ["clip", "upsampler_64", "decoder", "prior"],
        128: ["clip", "autoencoder", "decoder", "prior"],
        256: ["clip", "autoencoder", "upsampler_256", "decoder", "prior"],
    }
    large = GIVEN.replace(image_size=64, num_pictures=50_000, flops_per_second=GPU)
    assert [stage.name for stage in choose(large, OUT)] == ["clip", "decoder", "prior"]
    with pytest.raises(InputError, match="image_size=100"):
        choose(GIVEN.replace(image_size=100), OUT)


def test_a_given_clip_is_not_trained_and_sets_the_shapes() -> None:
    shape = clip_preset("vit-b-32")
    stages = choose(GIVEN, OUT, shape)
    assert [stage.name for stage in stages] == ["autoencoder", "upsampler_256", "decoder", "prior"]
    assert sum(stage.share for stage in stages) == pytest.approx(1.0)
    assert [stage.config.task.model.embedding_dim for stage in stages[2:]] == [512, 512]
    assert stages[3].config.task.model.num_text_tokens == 77


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


@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize(("size", "minutes"), [(128, 25), (256, 25), (256, 200)])
def test_large_pictures_are_drawn_through_latents_that_fit(size: int, minutes: float, has_alpha: bool) -> None:
    given = GIVEN.replace(image_size=size, minutes=minutes, has_alpha=has_alpha)
    stages = {stage.name: stage.config.task.model for stage in choose(given, OUT)}
    autoencoder, decoder = stages["autoencoder"], stages["decoder"]
    check_fit({name: model for name, model in stages.items() if name != "prior"})
    assert decoder.image_size == 16
    assert decoder.in_channels == autoencoder.latent_channels == 8
    drawn = decoder.image_size * autoencoder.downsampling
    assert drawn == (128 if minutes == 25 else size)
    assert ("upsampler_256" in stages) == (drawn < size)
    channels = 4 if has_alpha else 3
    assert {model.in_channels for name, model in stages.items() if name not in ("clip", "decoder", "prior")} == {
        channels
    }
    assert decoder_of(given).autoencoder == OUT / "autoencoder"
    assert space_of(given).reason.startswith(f"the decoder draws latents, 16 x 16 x 8 numbers: pictures of {drawn} px")


def test_an_autoencoder_has_steps_enough_or_there_is_none() -> None:
    for minutes in (2, 10, 20, 25, 60, 110, 300):
        for size in (128, 256):
            given = GIVEN.replace(minutes=minutes, image_size=size)
            steps = [stage.config.num_images / 16 for stage in choose(given, OUT) if stage.name == "autoencoder"]
            assert (space_of(given).autoencoder is not None) == (len(steps) == 1)
            # An upsampler beside it takes a part of its time.
            assert all(count >= 1300 for count in steps)
    few = GIVEN.replace(minutes=2)
    assert "upsampler_256" in [stage.name for stage in choose(few, OUT)]
    assert decoder_of(few).autoencoder is None
    wanted = int(space_of(few).reason.split("--minutes ")[1].split()[0])
    assert space_of(few.replace(minutes=wanted)).autoencoder is not None
    assert space_of(few.replace(minutes=wanted - 2)).autoencoder is None


def test_small_pictures_are_drawn_as_pixels() -> None:
    for size in (32, 64):
        space = space_of(GIVEN.replace(image_size=size))
        assert space == (None, 32, f"the decoder draws pixels: {size} px are few, latents begin at 128 px")
