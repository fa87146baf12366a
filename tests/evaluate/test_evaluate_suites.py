"""Suites of single stages, against the same computed by hand on the tiny model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pictures import picture
from unclip.errors import InputError
from unclip.evaluate import SUITES, prior_suite, prompt_diversity, round_trip, run_suites, upsampler_consistency
from unclip.images import from_pil, resize, to_pil
from unclip.metrics import cosine_figures, psnr
from unclip.model import StageSettings
from unclip.model.family import select_text
from unclip.models import Upsampler
from unclip.pipelines import Condition, Model, UpsamplerStage
from unclip.runtime import NoiseSource, forked_random_state, seeded

SEED = 7
CAPTIONS = ["a red apple, noto style", "a cat with sunglasses", "a blue heart"]


@pytest.fixture(scope="module")
def real() -> list[Image.Image]:
    return [picture(number, 48, 48) for number in range(3)]


def noise(row: int) -> NoiseSource:
    """That of one sample of a suite."""
    return NoiseSource([seeded(SEED, row)])


def see(model: Model, images: list[Image.Image]) -> Tensor:
    """One by one as on a CPU: other sums in a batch could round a pixel of the decoder's to its neighbour."""
    return torch.cat([model.need_clip.encode_pictures([image]) for image in images])


def cosines(first: Tensor, second: Tensor) -> Tensor:
    return F.cosine_similarity(first.double(), second.double())


def test_the_prior_suite_is_the_cosines_of_what_the_stage_draws(model: Model, real: list[Image.Image]) -> None:
    clip, prior = model.need_clip, model.need_prior
    text, null = clip.encode_text(CAPTIONS), clip.encode_text([""])
    drawn = [
        prior.sample(select_text(text, [row]), null, noise(row), num_candidates=model.num_candidates)
        for row in range(3)
    ]
    wanted = cosine_figures(text.embedding, clip.encode_pictures(real), torch.cat(drawn))
    found = prior_suite(model, CAPTIONS, real, seed=SEED)
    assert found == pytest.approx(wanted, abs=1e-5)
    assert found != prior_suite(model, CAPTIONS, real, seed=SEED + 1)


def test_the_prior_suite_takes_settings_and_candidates(model: Model, real: list[Image.Image]) -> None:
    clip, prior = model.need_clip, model.need_prior
    settings = StageSettings(num_steps=2, sampler="ddim")
    text, null = clip.encode_text(CAPTIONS), clip.encode_text([""])
    drawn = [prior.sample(select_text(text, [row]), null, noise(row), settings) for row in range(3)]
    wanted = cosine_figures(text.embedding, clip.encode_pictures(real), torch.cat(drawn))
    found = prior_suite(model, CAPTIONS, real, seed=SEED, settings=settings, num_candidates=1)
    assert found == pytest.approx(wanted, abs=1e-5)


def test_the_prior_suite_needs_no_decoder(model: Model, real: list[Image.Image]) -> None:
    alone = replace(model, stages={"prior": model.need_prior})
    assert prior_suite(alone, CAPTIONS, real, seed=SEED) == prior_suite(model, CAPTIONS, real, seed=SEED)


def test_the_round_trip_is_the_cosines_of_the_decoders_pictures(model: Model, real: list[Image.Image]) -> None:
    decoder, seen, null = model.need_decoder, see(model, real), model.need_clip.encode_text([""])
    drawn = [decoder.sample(seen[row : row + 1], Condition(null, null), noise(row)) for row in range(3)]
    again = see(model, [image for batch in drawn for image in to_pil(batch)])
    small = [image.resize((16, 16), Image.Resampling.BICUBIC) for image in real]
    nearest = cosines(again.repeat_interleave(3, 0), seen.repeat(3, 1)).view(3, 3).argmax(dim=1)
    own, floor = cosines(again, seen), cosines(again, seen[[1, 2, 0]])
    wanted = {
        "cosine_mean": own.mean().item(),
        "cosine_median": own.sort().values[1].item(),
        "recall_at_1": sum(int(place) == row for row, place in enumerate(nearest)) / 3,
        "floor_mean": floor.mean().item(),
        "floor_median": floor.sort().values[1].item(),
        "shrunk_mean": cosines(see(model, small), seen).mean().item(),
    }
    assert round_trip(model, real, seed=SEED) == pytest.approx(wanted, abs=1e-5)


def test_consistency_is_the_psnr_of_what_is_shrunk_again(model: Model, real: list[Image.Image]) -> None:
    stage = model.need_upsampler
    low = from_pil([image.resize((16, 16), Image.Resampling.BICUBIC) for image in real])
    large = torch.cat([stage.sample(low[row : row + 1], noise(row)).clamp(-1, 1) for row in range(3)])
    wanted = {
        "upsampler_32": psnr(resize(large, 16), low).mean().item(),
        "upsampler_32_bicubic": psnr(resize(resize(low, 32).clamp(-1, 1), 16), low).mean().item(),
    }
    found = upsampler_consistency(model, real, seed=SEED)
    assert found == pytest.approx(wanted, abs=1e-3)
    assert found["upsampler_32_bicubic"] > 20


def test_what_comes_back_exactly_counts_as_100_db(model: Model) -> None:
    black, white = Image.new("RGB", (48, 48)), Image.new("RGB", (48, 48), "white")
    assert upsampler_consistency(model, [black, white], seed=SEED)["upsampler_32_bicubic"] == 100.0


def test_an_upsampler_that_draws_grey_has_the_psnr_of_grey(model: Model) -> None:
    """A network whose every x0 is 0: of black and white, at 1 from it in [-1, 1], that is 10 log10(2^2 / 1^2)."""
    config = model.need_upsampler.network.config.replace(prediction_type="x0", learned_variance=False)
    with forked_random_state(0):
        network = Upsampler(config)
    for parameter in network.parameters():
        parameter.requires_grad_(False).zero_()
    stage = UpsamplerStage(network.eval(), StageSettings(num_steps=2, sampler="ddim"))
    grey = replace(model, stages={**model.stages, "upsampler_32": stage})
    pictures = [Image.new("RGB", (20, 20), colour) for colour in ("black", "white")]
    found = upsampler_consistency(grey, pictures, seed=SEED)
    assert found["upsampler_32"] == pytest.approx(6.0206, abs=1e-3)


def test_figures_do_not_depend_on_batches(model: Model, real: list[Image.Image]) -> None:
    one = run_suites(model, CAPTIONS, real, seed=SEED).figures
    three = run_suites(model, CAPTIONS, real, seed=SEED, batch_size=3).figures
    for suite in SUITES:
        assert three[suite] == pytest.approx(one[suite], abs=1e-4)
    assert run_suites(model, CAPTIONS, real, seed=SEED).figures == one


def test_a_model_that_waits_in_files_has_the_same_figures(
    model: Model, real: list[Image.Image], tmp_path: Path
) -> None:
    model.save(tmp_path / "tiny")
    held, waiting = (Model.load(tmp_path / "tiny", "cpu", torch.float32, low_memory=low) for low in (False, True))
    found = [run_suites(loaded, CAPTIONS, real, seed=SEED).figures for loaded in (held, waiting)]
    assert found[0] == found[1]


def test_progress_counts_every_step(model: Model, real: list[Image.Image]) -> None:
    ticks: list[tuple[str, int, int]] = []
    run_suites(model, CAPTIONS, real, seed=SEED, progress=lambda *tick: ticks.append(tick))
    counts = {"prior": 9, "decoder": 9, "upsampler_32": 6}
    assert ticks == [(stage, step + 1, count) for stage, count in counts.items() for step in range(count)]


def test_suites_without_their_parts_are_noted_or_refused_by_name(model: Model, real: list[Image.Image]) -> None:
    bare = replace(model, stages={"decoder": model.need_decoder})
    found = run_suites(bare, CAPTIONS, real, seed=SEED)
    assert list(found.figures) == ["round_trip"]
    assert found.notes == (
        "The suite prior was left out: the model has no prior.",
        "The suite upsampler was left out: the model has no upsampler.",
    )
    with pytest.raises(InputError, match="has no prior"):
        run_suites(bare, CAPTIONS, real, seed=SEED, suites=["prior"])
    with pytest.raises(InputError, match="has no upsampler"):
        run_suites(bare, CAPTIONS, real, seed=SEED, suites=["upsampler"])
    assert list(run_suites(model, CAPTIONS, real, seed=SEED, suites=["upsampler"]).figures) == ["upsampler"]
    assert run_suites(model, CAPTIONS, real, seed=SEED, suites=[]).figures == {}


def test_diversity_is_the_mean_distance_of_pairs(model: Model, real: list[Image.Image]) -> None:
    clip = model.need_clip
    seen = clip.encode_pictures(real)
    pairs = 1 - cosines(seen[[0, 0, 1]], seen[[1, 2, 2]])
    found = prompt_diversity(clip, [real, [real[0]] * 3])
    assert found["diversity"] == pytest.approx(pairs.mean().item() / 2, abs=1e-6)
    assert found["least"] == pytest.approx(0.0, abs=1e-6)


def test_what_cannot_be_measured_is_refused(model: Model, real: list[Image.Image]) -> None:
    with pytest.raises(InputError, match=r"needs at least 2; found 1"):
        round_trip(model, real[:1], seed=SEED)
    with pytest.raises(InputError, match=r"2 captions and 3 pictures"):
        prior_suite(model, CAPTIONS[:2], real, seed=SEED)
    with pytest.raises(InputError, match=r"no suite 'piror'; did you mean 'prior'"):
        run_suites(model, CAPTIONS, real, seed=SEED, suites=["piror"])
    with pytest.raises(InputError, match=r"seed=-1"):
        upsampler_consistency(model, real, seed=-1)
    with pytest.raises(InputError, match=r"batch_size=0"):
        upsampler_consistency(model, real, seed=SEED, batch_size=0)
    with pytest.raises(InputError, match=r"at least 2; found \[1, 3\]"):
        prompt_diversity(model.need_clip, [real, real[:1]])
