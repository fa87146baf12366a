"""The worker that measures this package, one unit at a time. Knows stages and tasks; no peer."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from our_training import our_steps
from protocol import Task, Work, serve
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, fill
from unclip.clip import TextFeatures
from unclip.config import Config
from unclip.model import StageSettings
from unclip.models import (
    Decoder,
    DecoderConfig,
    KandinskyDecoder,
    KandinskyDecoderConfig,
    Prior,
    PriorConfig,
    Upsampler,
    UpsamplerConfig,
    decoder_preset,
    kandinsky_decoder_preset,
    prior_preset,
    upsampler_preset,
)
from unclip.pipelines import Condition, DecoderStage, PriorStage, UpsamplerStage
from unclip.runtime import NoiseSource, inference_dtype
from unclip.training import DecoderTaskConfig, PriorTaskConfig

C = TypeVar("C", bound=Config)
N = TypeVar("N", bound=nn.Module)

# Steps of a grid of which one is measured at a time: more than anybody measures.
MANY_STEPS = 1000


def main() -> None:
    """Serve the driver."""
    serve(build, ("unclip",))


def build(task: Task) -> Work:
    """Build what the task names; raises `KeyError` for a kind that is not there."""
    kinds: dict[str, Callable[[Task], Work]] = {
        "prior_train": prior_train,
        "decoder_train": decoder_train,
        "prior_sample": partial(prior_sample, sampler="ddim"),
        "prior_sample_ddpm": partial(prior_sample, sampler="ddpm"),
        "prior_step": prior_step,
        "decoder_sample": decoder_sample,
        "decoder_step": decoder_step,
        "kandinsky_step": kandinsky_step,
        "upsampler_step": upsampler_step,
        "image": image,
    }
    return kinds[task.kind](task)


def prior_train(task: Task) -> Work:
    """A step of `unclip train`, without the data."""
    config = PriorTaskConfig(model=prior_shape(task.settings), clip=Path("none"))
    return trained(task, config)


def decoder_train(task: Task) -> Work:
    """A step of `unclip train`, without the data."""
    drop = 1.0 if task.settings.get("unconditional") else 0.1
    model = shape(DecoderConfig, decoder_preset, task.settings["decoder"])
    return trained(task, DecoderTaskConfig(model=model, image_drop_prob=drop))


def trained(task: Task, config: PriorTaskConfig | DecoderTaskConfig) -> Work:
    """The loop's own steps."""
    settings = task.settings
    tokens = settings.get("num_text_tokens", 0)
    steps, network, precision = our_steps(config, settings["batch_size"], tokens, task.device, task.precision)
    return Work(lambda: next(steps), (network,), getattr(torch, precision))


def prior_stage(task: Task, sampler: str) -> PriorStage:
    """A prior of random weights, as the pipeline loads it."""
    network = loaded(Prior, prior_shape(task.settings), task)
    return PriorStage(network, stage_settings(task, "prior_steps", sampler))


def decoder_stage(task: Task, sampler: str) -> DecoderStage:
    """A decoder of random weights, as the pipeline loads it."""
    network = loaded(Decoder, shape(DecoderConfig, decoder_preset, task.settings["decoder"]), task)
    return DecoderStage(network, stage_settings(task, "decoder_steps", sampler))


def prior_sample(task: Task, sampler: str) -> Work:
    """A whole sample; guidance is that of the settings, else none."""
    stage = prior_stage(task, sampler)
    text, null = (texts(task, stage.network.config) for _ in range(2))
    return work(task, lambda: stage.sample(text, null, noise(task)), stage.network)


def prior_step(task: Task) -> Work:
    """One step of the sampler; the text's cache is made when the sampling starts."""
    stage = prior_stage(task, "ddpm")
    text, null = (texts(task, stage.network.config) for _ in range(2))
    return steps_of(task, lambda: stage.steps(text, null, noise(task), stage.defaults), stage.network)


def decoder_sample(task: Task) -> Work:
    """A whole picture; an unconditional one never looks at the embedding."""
    stage = decoder_stage(task, "ddim")
    config = stage.network.config
    embedding = rows(task, config.embedding_dim)
    if not task.settings.get("unconditional"):
        return work(task, lambda: stage.sample(embedding, condition(task, config), noise(task)), stage.network)
    # Scale 0 would evaluate both passes: the network is told by itself that nothing is there.
    alone = Unconditional(stage.network)
    return work(task, lambda: stage_without(stage, alone, embedding, task), stage.network)


def stage_without(stage: DecoderStage, network: nn.Module, embedding: Tensor, task: Task) -> Tensor:
    """A picture of a decoder that is told of no embedding."""
    from unclip.diffusion import bind, clip_x0
    from unclip.model.settings import PIXEL_BOUND
    from unclip.pipelines.stage import run_to_end, sample_steps

    config = stage.network.config
    conditioning = {"image_embedding": embedding}
    bound = bind(network, stage.schedule, config.prediction_type, conditioning, config.learned_variance)
    draw = partial(noise(task), (config.in_channels, config.image_size, config.image_size), embedding.device)
    return run_to_end(sample_steps(clip_x0(bound, PIXEL_BOUND), stage.schedule, stage.defaults, draw)).clamp(-1.0, 1.0)


class Unconditional(nn.Module):
    """A decoder whose image embedding is always absent."""

    def __init__(self, network: Decoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_t: Tensor, timestep: Tensor, image_embedding: Tensor) -> Tensor:
        """The prediction from the learned null."""
        absent = torch.zeros(len(x_t), dtype=torch.bool, device=x_t.device)
        prediction: Tensor = self.network(x_t, timestep, image_embedding, absent)
        return prediction


def decoder_step(task: Task) -> Work:
    """One step of the sampler."""
    stage = decoder_stage(task, "ddpm")
    config = stage.network.config
    embedding, told = rows(task, config.embedding_dim), condition(task, config)
    return steps_of(task, lambda: stage.steps(embedding, told, noise(task), stage.defaults), stage.network)


def kandinsky_step(task: Task) -> Work:
    """One step of the sampler over latents; guidance leads away from an empty image."""
    config = shape(KandinskyDecoderConfig, kandinsky_decoder_preset, task.settings["kandinsky"])
    network = loaded(KandinskyDecoder, config, task)
    stage = DecoderStage(network, stage_settings(task, "decoder_steps", "ddpm"))
    embedding, null = rows(task, config.embedding_dim), torch.zeros(1, config.embedding_dim, device=task.device)
    text = TextFeatures(embedding, embedding[:, None], torch.ones(len(embedding), 1, dtype=torch.bool))
    told = Condition(text, text, null)
    return steps_of(task, lambda: stage.steps(embedding, told, noise(task), stage.defaults), network)


def upsampler_step(task: Task) -> Work:
    """One step of the sampler over pixels."""
    config = shape(UpsamplerConfig, upsampler_preset, task.settings["upsampler"])
    network = loaded(Upsampler, config, task)
    stage = UpsamplerStage(network, stage_settings(task, "upsampler_steps", "ddpm"))
    low_res = rows(task, 3, config.low_res_size, config.low_res_size).clamp(-1.0, 1.0)
    return steps_of(task, lambda: stage.steps(low_res, noise(task), stage.defaults), network)


def image(task: Task) -> Work:
    """Prior and decoder, one after the other."""
    prior, decoder = prior_stage(task, "ddim"), decoder_stage(task, "ddim")
    text, null = (texts(task, prior.network.config) for _ in range(2))
    # The prior is not guided, as on the other side.
    settings = prior.defaults.replace(guidance_scale=1.0)

    def draw() -> Tensor:
        embedding = prior.sample(text, null, noise(task), settings)
        return decoder.sample(embedding, condition(task, decoder.network.config), noise(task))

    return work(task, draw, prior.network, decoder.network)


def work(task: Task, unit: Callable[[], object], *networks: nn.Module) -> Work:
    """A unit without gradients."""
    return Work(torch.inference_mode()(unit), networks, sampling_dtype(task))


def steps_of(task: Task, start: Callable[[], Iterator[object]], network: nn.Module) -> Work:
    """A unit that is the next step of a sampling, which starts here."""
    with torch.inference_mode():
        steps = start()
    return work(task, lambda: next(steps), network)


def loaded(kind: Callable[[Any], N], config: Config, task: Task) -> N:
    """A network of random weights, put on the device as the pipeline puts it there."""
    network = kind(config).eval().requires_grad_(False)
    tensors = {name: LazyTensor.of(tensor) for name, tensor in network.state_dict().items()}
    fill(network, tensors, "random weights", task.device, sampling_dtype(task))
    return network


def sampling_dtype(task: Task) -> torch.dtype:
    """What the pipeline computes in: by default bfloat16 where the device multiplies it."""
    return inference_dtype(torch.device(task.device)) if task.precision == "default" else torch.float32


def stage_settings(task: Task, steps: str, sampler: str) -> StageSettings:
    """How the stage is sampled; where a job does not name the steps, one step is measured at a time."""
    scale = task.settings.get("guidance_scale", 1.0)
    return StageSettings(num_steps=task.settings.get(steps, MANY_STEPS), sampler=sampler, guidance_scale=scale)


def shape(kind: type[C], preset: Callable[[str], C], settings: Mapping[str, Any]) -> C:
    """A network's configuration: a preset, or its fields."""
    return preset(settings["preset"]) if "preset" in settings else kind(**settings)


def prior_shape(settings: Mapping[str, Any]) -> PriorConfig:
    """The prior's configuration."""
    return shape(PriorConfig, prior_preset, settings["prior"])


def rows(task: Task, *sizes: int) -> Tensor:
    """Random numbers, a row a sample."""
    return torch.randn(task.settings["batch_size"], *sizes).to(task.device)


def texts(task: Task, config: PriorConfig | DecoderConfig, num_text_tokens: int = 77) -> TextFeatures:
    """Random features of texts without padding, which ours would cut off."""
    hidden = rows(task, num_text_tokens, config.text_dim or config.embedding_dim)
    mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=task.device)
    return TextFeatures(rows(task, config.embedding_dim), hidden, mask)


def condition(task: Task, config: DecoderConfig) -> Condition:
    """What a decoder is told besides the embedding."""
    return Condition(texts(task, config), texts(task, config))


def noise(task: Task) -> NoiseSource:
    """A generator for each sample."""
    return NoiseSource.from_seeds(range(task.settings["batch_size"]))


if __name__ == "__main__":
    main()
