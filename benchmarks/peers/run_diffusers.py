"""The worker that measures diffusers' networks and schedulers as its unCLIP and Kandinsky pipelines call them.

Runs in that peer's environment. The pipelines themselves take no random features, so the bodies of their loops are
written out here; training is what its example scripts do: AdamW, clipping, `EMAModel`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers import DDPMScheduler, PriorTransformer, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.training_utils import EMAModel
from protocol import Task, Work, serve
from torch import Tensor, nn
from torch.nn import functional as F

NUM_TEXT_TOKENS = 77
# Steps of a grid of which one is measured at a time: more than anybody measures.
MANY_STEPS = 1000
# Levels with attention, and one without.
DOWN = ("ResnetDownsampleBlock2D",) + ("SimpleCrossAttnDownBlock2D",) * 3
UP = ("SimpleCrossAttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",)


def main() -> None:
    """Serve the driver."""
    serve(build, ("diffusers",))


def build(task: Task) -> Work:
    """Build what the task names; raises `KeyError` for a kind that is not there."""
    kinds: dict[str, Callable[[Task], Work]] = {
        "prior_train": prior_train,
        "prior_step": prior_step,
        "prior_sample_ddpm": prior_sample,
        "decoder_train": decoder_train,
        "decoder_step": decoder_step,
        "kandinsky_step": kandinsky_step,
        "upsampler_step": upsampler_step,
    }
    return kinds[task.kind](task)


def make_prior(task: Task) -> PriorTransformer:
    """A prior of random weights."""
    prior = PriorTransformer(num_embeddings=NUM_TEXT_TOKENS, additional_embeddings=4, **task.settings["prior"])
    return prior.to(task.device)


def make_unet(settings: dict[str, Any], **conditioning: Any) -> UNet2DConditionModel:
    """A U-Net of Karlo's kind."""
    return UNet2DConditionModel(
        sample_size=64,
        layers_per_block=settings["layers_per_block"],
        block_out_channels=tuple(settings["base_channels"] * mult for mult in (1, 2, 3, 4)),
        down_block_types=DOWN,
        up_block_types=UP,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        attention_head_dim=settings.get("head_dim", 64),
        resnet_time_scale_shift="scale_shift",
        **conditioning,
    )


def make_decoder(task: Task) -> tuple[UNet2DConditionModel, UnCLIPTextProjModel]:
    """A decoder of random weights, and what makes its context."""
    settings = task.settings["decoder"]
    context = settings["cross_attention_dim"]
    unet = make_unet(settings, in_channels=3, out_channels=6, cross_attention_dim=context, class_embed_type="identity")
    projection = UnCLIPTextProjModel(
        clip_embeddings_dim=settings["dim"],
        time_embed_dim=4 * settings["base_channels"],
        cross_attention_dim=context,
    )
    return unet.to(task.device), projection.to(task.device)


def prior_train(task: Task) -> Work:
    """A step as in their script for priors: the error of x0."""
    prior, width = make_prior(task), task.settings["prior"]["embedding_dim"]
    noiser = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample")
    told = prior_condition(task, 1)
    pictures = rows(task, width)

    def loss() -> Tensor:
        noise, times = torch.randn_like(pictures), draw_times(task)
        noisy = noiser.add_noise(pictures, noise, times)
        return F.mse_loss(prior(noisy, timestep=times, **told).predicted_image_embedding, pictures)

    return Work(training_step(loss, prior), (prior,))


def decoder_train(task: Task) -> Work:
    """A step as in their scripts: the error of the noise; the variance is not trained."""
    unet, projection = make_decoder(task)
    noiser = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    pictures = torch.rand(task.settings["batch_size"], 3, 64, 64).to(task.device) * 2 - 1
    dim = task.settings["decoder"]["dim"]
    embedding, text, hidden = rows(task, dim), rows(task, dim), rows(task, NUM_TEXT_TOKENS, dim)
    mask = F.pad(whole_mask(task, 1), (projection.clip_extra_context_tokens, 0), value=True)

    def loss() -> Tensor:
        noise, times = torch.randn_like(pictures), draw_times(task)
        context, added = projection(
            image_embeddings=embedding,
            prompt_embeds=text,
            text_encoder_hidden_states=hidden,
            do_classifier_free_guidance=False,
        )
        output = unet(
            noiser.add_noise(pictures, noise, times),
            times,
            encoder_hidden_states=context,
            class_labels=added,
            attention_mask=mask,
        ).sample
        return F.mse_loss(output[:, :3], noise)

    return Work(training_step(loss, unet, projection), (unet, projection))


def training_step(loss: Callable[[], Tensor], *networks: nn.Module) -> Callable[[], None]:
    """Gradients, clipping, AdamW and a moving average."""
    parameters = [parameter for network in networks for parameter in network.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.01)
    average = EMAModel(parameters)

    def step() -> None:
        loss().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.step(parameters)

    return step


def prior_step(task: Task) -> Work:
    """One step of the loop."""
    prior = make_prior(task).eval()
    steps = prior_loop(prior, task, MANY_STEPS)
    return Work(lambda: next(steps), (prior,))


def prior_sample(task: Task) -> Work:
    """The loop from end to end."""
    prior = make_prior(task).eval()
    return Work(lambda: list(prior_loop(prior, task, task.settings["prior_steps"])), (prior,))


def prior_loop(prior: PriorTransformer, task: Task, num_steps: int) -> Iterator[Tensor]:
    """The sampling of embeddings, guided."""
    scheduler = UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0)
    told = prior_condition(task, 2)

    def predict(latents: Tensor, time: Tensor) -> Tensor:
        both = prior(torch.cat([latents] * 2), timestep=time, **told).predicted_image_embedding
        return guided(both, task)

    return denoise(scheduler, predict, rows(task, task.settings["prior"]["embedding_dim"]), num_steps)


def decoder_step(task: Task) -> Work:
    """One step of the loop."""
    unet, projection = make_decoder(task)
    unet, projection = unet.eval(), projection.eval()
    dim = task.settings["decoder"]["dim"]
    twice = task.settings["batch_size"] * 2
    with torch.no_grad():
        context, added = projection(
            image_embeddings=rows(task, dim),
            prompt_embeds=torch.randn(twice, dim, device=task.device),
            text_encoder_hidden_states=torch.randn(twice, NUM_TEXT_TOKENS, dim, device=task.device),
            do_classifier_free_guidance=True,
        )
    mask = F.pad(whole_mask(task, 2), (projection.clip_extra_context_tokens, 0), value=True)

    def predict(latents: Tensor, time: Tensor) -> Tensor:
        both = unet(
            torch.cat([latents] * 2), time, encoder_hidden_states=context, class_labels=added, attention_mask=mask
        ).sample
        return guided_with_variance(both, latents.shape[1], task)

    steps = denoise(UnCLIPScheduler(variance_type="learned_range"), predict, rows(task, 3, 64, 64), MANY_STEPS)
    return Work(lambda: next(steps), (unet, projection))


def kandinsky_step(task: Task) -> Work:
    """One step of Kandinsky 2.2's loop."""
    settings = task.settings["kandinsky"]
    unet = make_unet(
        settings,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=768,
        addition_embed_type="image",
        encoder_hid_dim_type="image_proj",
        encoder_hid_dim=settings["dim"],
    )
    unet = unet.to(task.device).eval()
    pictures = torch.cat([torch.zeros_like(rows(task, settings["dim"])), rows(task, settings["dim"])])
    scheduler = DDPMScheduler(
        beta_schedule="linear",
        beta_start=0.00085,
        beta_end=0.012,
        variance_type="learned_range",
        clip_sample_range=2.0,
    )

    def predict(latents: Tensor, time: Tensor) -> Tensor:
        told = {"image_embeds": pictures}
        both = unet(torch.cat([latents] * 2), time, encoder_hidden_states=None, added_cond_kwargs=told).sample
        return guided_with_variance(both, latents.shape[1], task)

    size = settings["image_size"]
    steps = denoise(scheduler, predict, rows(task, 4, size, size), MANY_STEPS)
    return Work(lambda: next(steps), (unet,))


def upsampler_step(task: Task) -> Work:
    """One step of the loop over pixels."""
    settings = task.settings["upsampler"]
    size = settings["image_size"]
    unet = UNet2DModel(
        sample_size=size,
        in_channels=6,
        out_channels=3,
        layers_per_block=settings["layers_per_block"],
        block_out_channels=tuple(settings["base_channels"] * mult for mult in (1, 2, 3, 4)),
        down_block_types=("ResnetDownsampleBlock2D",) * 4,
        up_block_types=("ResnetUpsampleBlock2D",) * 4,
        add_attention=False,
    )
    unet = unet.to(task.device).eval()
    enlarged = rows(task, 3, size, size)

    def predict(latents: Tensor, time: Tensor) -> Tensor:
        return unet(torch.cat([latents, enlarged], dim=1), time).sample

    scheduler = UnCLIPScheduler(variance_type="fixed_small_log")
    steps = denoise(scheduler, predict, rows(task, 3, size, size), MANY_STEPS)
    return Work(lambda: next(steps), (unet,))


def denoise(
    scheduler: Any, predict: Callable[[Tensor, Tensor], Tensor], latents: Tensor, num_steps: int
) -> Iterator[Tensor]:
    """The latents after each step of a loop."""
    scheduler.set_timesteps(num_steps)
    times = scheduler.timesteps
    for index, time in enumerate(times):
        options = {}
        if isinstance(scheduler, UnCLIPScheduler):
            options["prev_timestep"] = times[index + 1] if index + 1 < len(times) else None
        # A block that stayed open between two steps would also hold for the caller.
        with torch.no_grad():
            latents = scheduler.step(predict(latents, time), time, latents, **options).prev_sample
        yield latents


def guided(both: Tensor, task: Task) -> Tensor:
    """Classifier-free guidance of [unconditional; conditional]."""
    unconditional, conditional = both.chunk(2)
    return unconditional + task.settings["guidance_scale"] * (conditional - unconditional)


def guided_with_variance(both: Tensor, channels: int, task: Task) -> Tensor:
    """The guided noise, and the variance of the conditional half."""
    noise, variance = both.split(channels, dim=1)
    return torch.cat([guided(noise, task), variance.chunk(2)[1]], dim=1)


def prior_condition(task: Task, copies: int) -> dict[str, Tensor]:
    """What the prior is told of texts without padding, for so many passes in one batch."""
    width, count = task.settings["prior"]["embedding_dim"], copies * task.settings["batch_size"]
    return {
        "proj_embedding": torch.randn(count, width, device=task.device),
        "encoder_hidden_states": torch.randn(count, NUM_TEXT_TOKENS, width, device=task.device),
        "attention_mask": whole_mask(task, copies),
    }


def whole_mask(task: Task, copies: int) -> Tensor:
    """All tokens are real."""
    shape = (copies * task.settings["batch_size"], NUM_TEXT_TOKENS)
    return torch.ones(shape, dtype=torch.bool, device=task.device)


def draw_times(task: Task) -> Tensor:
    """Uniform time steps."""
    return torch.randint(0, 1000, (task.settings["batch_size"],), device=task.device)


def rows(task: Task, *sizes: int) -> Tensor:
    """Random numbers, a row a sample."""
    return torch.randn(task.settings["batch_size"], *sizes).to(task.device)


if __name__ == "__main__":
    main()
