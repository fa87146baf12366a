"""Every setting of a task changes what its text says."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch

from short_runs import ALONE, calls, changed, first_batch, loss, of_pixels, options, small_shards, steps
from tiny_bert import write_tiny_bert
from unclip.clip import TextImageEncoder, contrastive_loss
from unclip.data import ShardSet, open_pictures
from unclip.diffusion import make_schedule
from unclip.diffusion.loss import loss_weight
from unclip.errors import ConfigError, DataError
from unclip.images import from_uint8
from unclip.recipes.smoke import CLIP
from unclip.training import Batch, Feed, TrainConfig, Trainer, make_task
from unclip.training.config import (
    AutoencoderTaskConfig,
    ClipTaskConfig,
    DecoderTaskConfig,
    PriorTaskConfig,
    TaskConfig,
    UpsamplerTaskConfig,
)

Recipe = Callable[[str], TrainConfig]


@pytest.fixture(scope="module")
def clip(tiny_recipe: Recipe) -> TrainConfig:
    config = changed(tiny_recipe("emoji/clip"), max_shift=0.0, max_rotation=0.0, degrade_prob=0.0)
    return changed(config, balance=[], positives=[], classes=[], class_texts=[])


@pytest.fixture(scope="module")
def prior(tiny_recipe: Recipe) -> TrainConfig:
    return changed(tiny_recipe("emoji/prior"), dropout=0.0)


@pytest.fixture(scope="module")
def decoder(tiny_recipe: Recipe) -> TrainConfig:
    return of_pixels(tiny_recipe("emoji/decoder"))


@pytest.fixture(scope="module")
def upsampler(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    folder = small_shards(tmp_path_factory.mktemp("small") / "shards", 32)
    return changed(
        tiny_recipe("emoji/upsampler_256"), folder=str(folder), emoji_split=None, image_size=32, low_res_size=8,
        in_channels=3, crop_size=32, patch_size=2, blur_prob=0.0, max_augmentation=0.0,
    )  # fmt: skip


def whole_pictures(config: TrainConfig, image_size: int) -> torch.Tensor:
    """The undamaged pictures of the first batch."""
    indices = Feed(make_task(config, ALONE.device).samples, config, ALONE).request(0).indices
    pictures = open_pictures(config.data.folder, [image_size])
    return torch.cat([from_uint8(pictures.item(int(index)).pixels[image_size][None]) for index in indices])


@pytest.mark.parametrize("change", [{"max_shift": 0.2}, {"max_rotation": 30.0}, {"degrade_prob": 1.0}])
def test_clip_sees_plain_pictures_unless_told_to_change_them(clip: TrainConfig, change: dict[str, float]) -> None:
    plain = whole_pictures(clip, clip.task.model.image_size)
    torch.testing.assert_close(first_batch(clip)["images"], plain, atol=1e-5, rtol=0)
    assert (first_batch(changed(clip, **change))["images"] - plain).abs().mean() > 0.01


def test_a_degraded_picture_keeps_its_mean_and_a_shifted_one_its_white_ground(clip: TrainConfig) -> None:
    plain = first_batch(clip)["images"]
    degraded = first_batch(changed(clip, degrade_prob=1.0))["images"]
    torch.testing.assert_close(degraded.mean(dim=(1, 2, 3)), plain.mean(dim=(1, 2, 3)), atol=0.05, rtol=0)
    assert first_batch(changed(clip, max_shift=0.5))["images"].max() <= 1.0 + 1e-5


def test_positives_are_the_pictures_that_agree(clip: TrainConfig) -> None:
    plain, grouped = clip, changed(clip, positives=["group"])
    task = make_task(grouped, ALONE.device)
    batch, info = first_batch(grouped, task), ShardSet.open(clip.data.folder).info
    names = [info(int(index))["group"] for index in Feed(task.samples, grouped, ALONE).request(0).indices]
    is_positive = batch["group"][:, None] == batch["group"]
    assert is_positive.tolist() == [[one == other for other in names] for one in names]
    assert len(set(names)) < len(names)
    network = task.build()
    rows = task.forward(network, batch)
    expected = contrastive_loss(rows["image"], rows["text"], network.logit_scale, batch["group"])
    torch.testing.assert_close(loss(task, network, batch).loss, expected)
    assert abs(steps(grouped, 1).losses[0] - steps(plain, 1).losses[0]) > 1e-3
    assert steps(changed(clip, positives=["key"]), 2).losses == pytest.approx(steps(plain, 2).losses, rel=1e-6)
    assert "group" not in first_batch(plain).tensors


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_positives_are_found_across_the_parts_of_a_batch(clip: TrainConfig, micro_batch_size: int) -> None:
    config = changed(clip, positives=["group"], validation_share=0.4, num_validation=5)
    whole, parts = steps(config, 3), steps(changed(config, micro_batch_size=micro_batch_size), 3)
    assert parts.losses == pytest.approx(whole.losses, rel=1e-5)
    top1 = [[report.metrics["top1"] for report in run.reports] for run in (whole, parts)]
    assert top1[0] == pytest.approx(top1[1])
    assert parts.trainer.validate() == pytest.approx(whole.trainer.validate(), rel=1e-3)


def test_a_field_that_positives_lack_is_refused(clip: TrainConfig) -> None:
    with pytest.raises(DataError, match=r'^task\.positives=\["grup"\]: .* has no .grup.; did you mean .group.\?'):
        make_task(changed(clip, positives=["grup"]), ALONE.device)


def test_text_drop_prob_1_makes_every_caption_the_empty_prompt(prior: TrainConfig, decoder: TrainConfig) -> None:
    encoder = TextImageEncoder.load(prior.task.clip)
    empty = encoder.tokenizer.encode([""], encoder.clip.config.context_length).ids
    for config in (prior, changed(decoder, text_dim=encoder.clip.config.text_width)):
        dropped, kept = (first_batch(changed(config, text_drop_prob=prob))["text_ids"] for prob in (1.0, 0.0))
        assert torch.equal(dropped, empty.expand(len(dropped), -1))
        assert not (kept == empty).all(dim=1).any()


@pytest.mark.parametrize("stage", ["prior", "decoder"])
def test_self_conditioning_prob_is_the_share_of_steps_with_two_passes(
    stage: str, request: pytest.FixtureRequest
) -> None:
    config = changed(request.getfixturevalue(stage), self_conditioning=True, micro_batch_size=8)
    for prob, passes in ((0.0, 1), (1.0, 2)):
        task = make_task(changed(config, self_conditioning_prob=prob), ALONE.device)
        network, batch = task.build(), first_batch(changed(config, self_conditioning_prob=prob), task)
        with calls(network) as seen:
            loss(task, network, batch)
        assert len(seen) == passes
        if prob == 0.0:
            assert not seen[0]["self_condition"].any()
        else:
            assert "self_condition" in seen[1]


@pytest.mark.parametrize("weighting", ["min_snr", "p2"])
@pytest.mark.parametrize("stage", ["prior", "decoder", "upsampler"])
def test_weighting_multiplies_each_samples_loss(stage: str, weighting: str, request: pytest.FixtureRequest) -> None:
    plain = changed(request.getfixturevalue(stage), weighting="uniform")
    batch, rows = first_batch(plain), [slice(row, row + 1) for row in range(4)]
    losses = []
    for config in (plain, changed(plain, weighting=weighting)):
        task = make_task(config, ALONE.device)
        network = task.build()
        losses.append(torch.stack([loss(task, network, batch.rows(row)).loss.detach() for row in rows]))
    model = plain.task.model
    factors = loss_weight(weighting, make_schedule(model.schedule, model.num_timesteps), batch["t"][:4], "x0")
    assert model.prediction_type == "x0"
    torch.testing.assert_close(losses[1], losses[0] * factors.float(), rtol=1e-4, atol=1e-7)
    assert (losses[1] - losses[0]).abs().max() > 1e-3


def test_clip_is_the_model_whose_embeddings_are_learned(
    prior: TrainConfig, decoder: TrainConfig, tmp_path: Path
) -> None:
    """A CLIP whose last projection is twice as large makes embeddings twice as large."""
    encoder = TextImageEncoder.load(prior.task.clip)
    with torch.no_grad():
        encoder.clip.vision.projection.weight.mul_(2.0)
    encoder.save(tmp_path / "clip")
    for config in (prior, decoder):
        before, after = (make_task(changed(config, clip=clip), ALONE.device).build()
                         for clip in (prior.task.clip, tmp_path / "clip"))  # fmt: skip
        torch.testing.assert_close(after.embedding_mean, 2.0 * before.embedding_mean, rtol=0.02, atol=0.01)
        torch.testing.assert_close(after.embedding_std, 2.0 * before.embedding_std, rtol=0.02, atol=0.01)


def test_embedding_once_and_every_step_give_the_same_losses(prior: TrainConfig) -> None:
    once, every_step = (steps(changed(prior, embed=embed), 3) for embed in ("once", "every_step"))
    assert every_step.losses == pytest.approx(once.losses, rel=1e-6)
    assert "pixels" in first_batch(changed(prior, embed="every_step")).tensors
    assert "pixels" not in first_batch(prior).tensors


def test_image_drop_prob_1_trains_without_conditioning_and_without_a_clip(decoder: TrainConfig) -> None:
    config = changed(decoder, image_drop_prob=1.0, clip=None)
    done = steps(config)
    assert len(done.losses) == 2
    assert not first_batch(config, done.trainer.task)["image_present"].any()
    assert first_batch(changed(decoder, image_drop_prob=0.0))["image_present"].all()
    with pytest.raises(ConfigError, match="the decoder needs image embeddings"):
        make_task(changed(decoder, clip=None), ALONE.device)


def test_embedding_noise_is_in_units_of_the_deviation(decoder: TrainConfig) -> None:
    seen = []
    for amount in (0.0, 1.0):
        config = changed(decoder, embedding_noise=amount)
        task = make_task(config, ALONE.device)
        network, batch = task.build(), first_batch(config, task)
        with calls(network) as made:
            loss(task, network, batch)
        seen.append(made[0]["image_embedding"])
    assert torch.equal(seen[0], batch["image_embedding"])
    torch.testing.assert_close(seen[1] - seen[0], network.embedding_std * batch["jitter"], atol=1e-5, rtol=1e-4)


def test_a_network_that_reads_the_level_is_told_that_of_each_sample(decoder: TrainConfig) -> None:
    config = changed(decoder, noise_conditioning=True, embedding_noise=0.5)
    task = make_task(config, ALONE.device)
    network, batch = task.build(), first_batch(config, task)
    with calls(network) as made:
        loss(task, network, batch)
    level = made[0]["augmentation"]
    assert 0.0 < level.min() < level.max() <= 0.5
    added = made[0]["image_embedding"] - batch["image_embedding"]
    expected = level[:, None] * network.embedding_std * batch["jitter"]
    torch.testing.assert_close(added, expected, atol=1e-5, rtol=1e-4)


def test_the_autoencoder_makes_what_the_decoder_learns(tiny_recipe: Recipe, decoder: TrainConfig) -> None:
    latents = tiny_recipe("emoji/decoder")
    assert {"latents"} == {"latents", "pixels"} & first_batch(latents).tensors.keys()
    assert {"pixels"} == {"latents", "pixels"} & first_batch(decoder).tensors.keys()


@pytest.fixture(scope="module")
def autoencoder(tiny_recipe: Recipe) -> TrainConfig:
    return changed(tiny_recipe("emoji/autoencoder"), image_size=32)


def test_image_size_is_the_side_of_what_an_autoencoder_learns(autoencoder: TrainConfig) -> None:
    for side in (16, 32):
        assert first_batch(changed(autoencoder, image_size=side))["pixels"].shape[1:] == (side, side, 4)


def test_the_parts_of_an_autoencoder_s_loss_have_their_weights(autoencoder: TrainConfig, prior: TrainConfig) -> None:
    """The loss is linear in each weight."""
    # Any other than 0, so that there is a discriminator.
    autoencoder = changed(autoencoder, clip=prior.task.clip, adversarial_weight=3.0)
    task = make_task(autoencoder, ALONE.device)
    network, batch = task.build(), first_batch(autoencoder, task)
    for name in ("gradient_weight", "regularizer_weight", "feature_weight"):
        losses = []
        for weight in (0.0, 1.0, 2.0):
            weighted = make_task(changed(autoencoder, **{name: weight}), ALONE.device)
            losses.append(float(loss(weighted, network, batch).loss.detach()))
        assert losses[1] - losses[0] > 1e-3
        # Float32 losses between 4 and 8 are 5e-7 apart.
        assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-4, abs=1e-6)
    halved = make_task(changed(autoencoder, adversarial_weight=1.5), ALONE.device)
    rows, fewer = task.forward(network, batch), halved.forward(network, batch)
    difference = 1.5 * (rows["generator"] + rows["discriminator"])
    torch.testing.assert_close(rows["loss"] - fewer["loss"], difference, atol=1e-5, rtol=1e-4)
    assert rows["discriminator"].min() > 0.1


def test_paraphrases_are_further_captions(prior: TrainConfig, decoder: TrainConfig, tmp_path: Path) -> None:
    """Those of a teacher: of its list, and none that the set has as a caption."""
    write_tiny_bert(tmp_path / "teacher")
    (tmp_path / "phrases.txt").write_text("\n".join(f"phrase {number}" for number in range(200)))
    paraphrases = {
        "classes": ["label"],
        "teacher": str(tmp_path / "teacher"),
        "phrases": str(tmp_path / "phrases.txt"),
        "min_prob": 0.0,
        "max_count": 3,
    }
    reading = changed(decoder, model=decoder.task.model.replace(text_dim=CLIP.text_width))
    for config in (prior, reading):
        plain, more = (
            make_task(changed(config, paraphrases=given), ALONE.device).samples.source for given in (None, paraphrases)
        )
        added = [more.captions(index)[len(plain.captions(index)) :] for index in range(len(plain))]
        assert all(
            more.captions(index)[: -len(texts) or None] == plain.captions(index) for index, texts in enumerate(added)
        )
        assert {len(texts) for texts in added} <= {0, 1, 2, 3}
        assert any(added)
        assert all(text.startswith("phrase ") for texts in added for text in texts)


def test_adversarial_images_is_when_the_discriminator_sets_in(autoencoder: TrainConfig) -> None:
    """No sooner than after so many images."""
    config = changed(autoencoder, adversarial_weight=1.0, adversarial_images=8, batch_size=4)
    figures = [report.metrics["discriminator"] for report in steps(config, 3).reports]
    assert figures[:2] == [0.0, 0.0]
    assert figures[2] > 0.1


def test_latent_noise_changes_what_is_decoded(autoencoder: TrainConfig) -> None:
    quiet, loud = (changed(autoencoder, latent_noise=amount) for amount in (0.0, 10.0))
    task = make_task(quiet, ALONE.device)
    network, batch = task.build(), first_batch(quiet, task)
    with torch.no_grad():
        network.encoder.conv_out.bias[network.config.latent_channels :] = -30.0  # posteriors without noise
    plain, noisy = (loss(make_task(config, ALONE.device), network, batch).loss for config in (quiet, loud))
    torch.testing.assert_close(plain, loss(task, network, Batch(batch.tensors | {"noise": 0 * batch["noise"]})).loss)
    assert noisy > plain + 1e-3


def test_num_drawn_is_how_many_pictures_a_distance_is_taken_of(decoder: TrainConfig) -> None:
    held_out = changed(decoder, validation_share=0.4)
    found = {}
    for count in (0, 1, 2, 3):
        found[count] = Trainer.open(changed(held_out, num_drawn=count), ALONE).validate()
    assert "frechet_clip" not in found[0].keys() | found[1].keys()
    assert found[2].keys() == found[3].keys() == found[0].keys() | {"frechet_clip"}
    assert found[2]["frechet_clip"] != found[3]["frechet_clip"]


def test_crop_size_is_the_side_of_what_is_learned(upsampler: TrainConfig) -> None:
    for side in (16, 32):
        batch = first_batch(changed(upsampler, crop_size=side))
        assert batch["pixels"].shape[1:] == (side, side, 3)
        assert batch["noise"].shape[1:] == (3, side, side)
    with pytest.raises(ConfigError, match="crop_size=18 must be a multiple of 4"):
        make_task(changed(upsampler, crop_size=18), ALONE.device)


def test_a_small_picture_is_plain_unless_told_to_damage_it(upsampler: TrainConfig) -> None:
    plain = first_batch(upsampler)["low_res"]
    torch.testing.assert_close(plain[..., 2:-2, 2:-2], whole_pictures(upsampler, 8), atol=1e-6, rtol=0)
    blurred = first_batch(changed(upsampler, blur_prob=1.0))["low_res"]
    sharp = first_batch(changed(upsampler, blur_prob=1.0, blur_sigma=0.01))["low_res"]
    bsr = first_batch(changed(upsampler, degradation="bsr"))["low_res"]
    assert blurred.var() < 0.95 * plain.var()
    torch.testing.assert_close(sharp, plain, atol=1e-5, rtol=0)
    assert bsr.shape[-1] == plain.shape[-1] + 2 * (8 - 2)
    assert (bsr[..., 8:-8, 8:-8] - plain[..., 2:-2, 2:-2]).abs().mean() > 0.02


def test_max_augmentation_bounds_the_noise_and_the_network_is_told(upsampler: TrainConfig) -> None:
    config = changed(upsampler, max_augmentation=0.5)
    task = make_task(config, ALONE.device)
    network, batch = task.build(), first_batch(config, task)
    with calls(network) as seen:
        loss(task, network, batch)
    assert torch.equal(seen[0]["augmentation"], batch["augmentation"])
    assert 0.0 < batch["augmentation"].max() <= 0.5
    added = (batch["low_res"] - first_batch(upsampler)["low_res"]) / batch["augmentation"][:, None, None, None]
    assert added.std().item() == pytest.approx(1.0, abs=0.1)


def test_noise_that_the_network_cannot_be_told_is_refused(upsampler: TrainConfig) -> None:
    deaf = changed(upsampler, noise_conditioning=False)
    assert len(steps(deaf, 1).losses) == 1
    with pytest.raises(ConfigError, match=r"set task\.max_augmentation=0, or noise_conditioning=true"):
        make_task(changed(deaf, max_augmentation=0.1), ALONE.device)


SHOWN = {
    ClipTaskConfig: {
        "max_shift": test_clip_sees_plain_pictures_unless_told_to_change_them,
        "max_rotation": test_clip_sees_plain_pictures_unless_told_to_change_them,
        "degrade_prob": test_a_degraded_picture_keeps_its_mean_and_a_shifted_one_its_white_ground,
        "positives": test_positives_are_the_pictures_that_agree,
        **dict.fromkeys(("classes", "class_weight", "class_texts", "teacher", "phrases"), "test_clip_classes.py"),
    },
    AutoencoderTaskConfig: {
        "image_size": test_image_size_is_the_side_of_what_an_autoencoder_learns,
        "gradient_weight": test_the_parts_of_an_autoencoder_s_loss_have_their_weights,
        "regularizer_weight": test_the_parts_of_an_autoencoder_s_loss_have_their_weights,
        "latent_noise": test_latent_noise_changes_what_is_decoded,
        "clip": test_the_parts_of_an_autoencoder_s_loss_have_their_weights,
        "feature_weight": test_the_parts_of_an_autoencoder_s_loss_have_their_weights,
        "adversarial_weight": test_the_parts_of_an_autoencoder_s_loss_have_their_weights,
        "adversarial_images": test_adversarial_images_is_when_the_discriminator_sets_in,
    },
    PriorTaskConfig: {
        "clip": test_clip_is_the_model_whose_embeddings_are_learned,
        "embed": test_embedding_once_and_every_step_give_the_same_losses,
        "text_drop_prob": test_text_drop_prob_1_makes_every_caption_the_empty_prompt,
        "paraphrases": test_paraphrases_are_further_captions,
        "self_conditioning_prob": test_self_conditioning_prob_is_the_share_of_steps_with_two_passes,
        "weighting": test_weighting_multiplies_each_samples_loss,
    },
    DecoderTaskConfig: {
        "clip": test_clip_is_the_model_whose_embeddings_are_learned,
        "image_drop_prob": test_image_drop_prob_1_trains_without_conditioning_and_without_a_clip,
        "text_drop_prob": test_text_drop_prob_1_makes_every_caption_the_empty_prompt,
        "paraphrases": test_paraphrases_are_further_captions,
        "autoencoder": test_the_autoencoder_makes_what_the_decoder_learns,
        "embedding_noise": test_embedding_noise_is_in_units_of_the_deviation,
        "self_conditioning_prob": test_self_conditioning_prob_is_the_share_of_steps_with_two_passes,
        "num_drawn": test_num_drawn_is_how_many_pictures_a_distance_is_taken_of,
        "weighting": test_weighting_multiplies_each_samples_loss,
    },
    UpsamplerTaskConfig: {
        "crop_size": test_crop_size_is_the_side_of_what_is_learned,
        "degradation": test_a_small_picture_is_plain_unless_told_to_damage_it,
        "blur_prob": test_a_small_picture_is_plain_unless_told_to_damage_it,
        "blur_sigma": test_a_small_picture_is_plain_unless_told_to_damage_it,
        "max_augmentation": test_max_augmentation_bounds_the_noise_and_the_network_is_told,
        "weighting": test_weighting_multiplies_each_samples_loss,
    },
}


def test_every_task_is_in_the_table() -> None:
    assert set(SHOWN) == set(get_args(get_args(TaskConfig)[0]))


@pytest.mark.parametrize("part", SHOWN)
def test_every_setting_has_its_test(part: type) -> None:
    assert options(part) == set(SHOWN[part])
