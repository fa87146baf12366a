"""What is measured: the networks of a preset or a model, their settings, and the sizes that they draw."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from unclip.clip import clip_preset, multilingual_preset
from unclip.clip.config import PRESETS as CLIP_PRESETS
from unclip.config import Config, override
from unclip.errors import ConfigError, InputError, did_you_mean
from unclip.model import StageSettings, model_preset, model_presets, open_sources
from unclip.model.families import build_on_meta
from unclip.model.family import LATENT_SIZE
from unclip.model.folder import upsampler_names
from unclip.models import (
    AutoencoderConfig,
    DecoderConfig,
    KandinskyDecoderConfig,
    PriorConfig,
    UpsamplerConfig,
    autoencoder_preset,
    decoder_preset,
    kandinsky_decoder_preset,
    preset_names,
    prior_preset,
    upsampler_preset,
)
from unclip.models.dalle2_pytorch import Dalle2PriorConfig, Dalle2UNetConfig
from unclip.pipelines import DecoderStage, ImageSize, Model, PriorStage, Stage, UpsamplerStage
from unclip.pipelines.job import chain_to, show_size, width_and_height

HeightWidth = tuple[int, int]
"""(height, width)."""
BEFORE_UPSAMPLERS = ("clip", "text_encoder", "prior", "decoder", "autoencoder")
# Of a network that comes without a model, and so without settings.
ALONE = StageSettings(num_steps=25, sampler="ddpm")
# Presets of single networks, by the kind of stage.
NETWORK_PRESETS: dict[str, dict[str, Callable[[str], Config]]] = {
    "clip": dict.fromkeys(CLIP_PRESETS, clip_preset),
    "text_encoder": dict.fromkeys(("tiny", "kandinsky-2.1"), multilingual_preset),
    "prior": dict.fromkeys(preset_names(PriorConfig), prior_preset),
    "decoder": dict.fromkeys(preset_names(KandinskyDecoderConfig), kandinsky_decoder_preset)
    | dict.fromkeys(preset_names(DecoderConfig), decoder_preset),  # which counts where both have a name
    "autoencoder": dict.fromkeys(preset_names(AutoencoderConfig), autoencoder_preset),
    "upsampler": dict.fromkeys(preset_names(UpsamplerConfig), upsampler_preset),
}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Networks to measure, and how they are sampled."""

    name: str
    """As the table shows it."""
    networks: Mapping[str, Config]
    """Configurations by stage; `upsampler_256_last` is part of `upsampler_256`."""
    settings: Mapping[str, StageSettings]
    """Of the stages that are sampled."""
    num_candidates: int = 1
    """Image embeddings that the prior draws for a picture."""
    image_size: int | None = None
    """Default side of the pictures; None is the largest."""
    model: str | None = None
    """The model whose weights are read; None: random ones."""

    @property
    def stages(self) -> list[str]:
        """Names of the parts that take time one after the other, in that order."""
        return [stage for stage in BEFORE_UPSAMPLERS if stage in self.networks] + upsampler_names(self.networks)

    def only(self, stage: str | None) -> "Subject":
        """Return the subject with one stage alone; None is all. Raises `InputError` for an unknown stage."""
        if stage is None:
            return self
        if stage not in self.stages:
            raise InputError(f"{self.name} has no stage {stage!r}; {did_you_mean(stage, self.stages)}")
        networks = {name: self.networks[name] for name in (stage, f"{stage}_last") if name in self.networks}
        settings = {name: value for name, value in self.settings.items() if name == stage}
        return replace(self, networks=networks, settings=settings)

    def changed(self, changes: Mapping[str, str], text_tokens: int | None = None) -> "Subject":
        """Return the subject with fields of its networks set from text, `{"prior.depth": "6"}`, and texts of a length.

        `text_tokens=0` makes networks that read no text tokens. Raises `InputError` or `ConfigError` for an unknown
        stage or field (with the nearest name) and for invalid values.
        """
        networks = dict(self.networks)
        for path, text in changes.items():
            stage, _, field = path.partition(".")
            if stage not in networks or not field:
                raise InputError(f"--set {path}: write <stage>.<field>; {did_you_mean(stage, networks)}")
            try:
                networks[stage] = override(networks[stage], {field: text})
            except ConfigError as error:
                raise ConfigError(f"--set {path}: {error}") from None
        if text_tokens is not None:
            networks = {name: _with_text_tokens(config, text_tokens) for name, config in networks.items()}
        return replace(self, networks=networks)


def preset_subject(name: str, stage: str | None = None) -> Subject:
    """Return the model preset called `name`, or with a `stage` that stage of it, or the preset of such a network.

    Raises `InputError` with the nearest name if there is none.
    """
    if stage is None:
        preset = model_preset(name)
        return Subject(name=name, networks=preset.stages, settings=preset.sampling)
    kind = "upsampler" if stage.startswith("upsampler_") else stage
    if kind not in NETWORK_PRESETS or stage == "upsampler":
        allowed = [*NETWORK_PRESETS.keys() - {"upsampler"}, "upsampler_256", "upsampler_1024"]
        raise InputError(f"there is no stage {stage!r}; {did_you_mean(stage, allowed)}")
    makers = NETWORK_PRESETS[kind]
    models = {model for model in model_presets() if stage in preset_subject(model).stages}
    if name in models or (name in model_presets() and name not in makers):
        return preset_subject(name).only(stage)
    if name not in makers:
        raise InputError(f"no preset of {stage!r} is called {name!r}; {did_you_mean(name, models | makers.keys())}")
    config = makers[name](name)
    if isinstance(config, UpsamplerConfig) and stage != f"upsampler_{config.image_size}":
        raise InputError(f"the preset {name!r} makes {config.image_size} px; ask for upsampler_{config.image_size}.")
    is_sampled = kind in ("prior", "decoder", "upsampler")
    return Subject(name=name, networks={stage: config}, settings={stage: ALONE} if is_sampled else {})


def model_subject(name: str) -> Subject:
    """Return the networks of a model that `UnClip.load` finds; raises as opening it does."""
    source = open_sources([name]).source
    return Subject(
        name=source.name,
        networks={stage: weights.config for stage, weights in source.networks.items()},
        settings=source.defaults.stages,
        num_candidates=source.defaults.num_candidates,
        image_size=source.defaults.image_size,
        model=name,
    )


def stage_sizes(
    subject: Subject, image_size: ImageSize | None = None
) -> tuple[dict[str, HeightWidth | None], int | None]:
    """Return what each stage's network makes for pictures of `image_size` (None: the default), and the pictures' width.

    The size of a stage that makes no picture is None, as is the width without such a stage; upsamplers to larger sizes
    are left out. Raises `CheckpointError` if stages do not fit each other, and `InputError` for a size that they cannot
    draw.
    """
    sizes: dict[str, HeightWidth | None] = dict.fromkeys(subject.stages)
    if "decoder" not in sizes:
        drawn = None
        for name in sizes:
            config = subject.networks[name]
            if isinstance(config, UpsamplerConfig):
                drawn = sizes[name] = width_and_height(image_size or config.image_size)[::-1]
                multiple = config.size_multiple
                if any(side % multiple or side % (config.image_size // config.low_res_size) for side in drawn):
                    raise InputError(f"--size {show_size(drawn[::-1])}: {name} needs sides divisible by {multiple}.")
            elif isinstance(config, AutoencoderConfig):
                drawn = width_and_height(image_size or LATENT_SIZE * config.downsampling)[::-1]
                sizes[name] = (drawn[0] // config.downsampling, drawn[1] // config.downsampling)
        return sizes, None if drawn is None else drawn[1]
    networks = {name: build_on_meta(config) for name, config in subject.networks.items()}
    upsamplers = [UpsamplerStage(networks[name], ALONE) for name in upsampler_names(networks)]
    prior = [PriorStage(networks["prior"], ALONE)] if "prior" in networks else []
    decoder = DecoderStage(networks["decoder"], ALONE, networks.get("autoencoder"))
    stages: dict[str, Stage] = {stage.name: stage for stage in (*prior, decoder, *upsamplers)}
    default = subject.image_size if upsamplers or "autoencoder" in networks else None
    chain = chain_to(Model(name=subject.name, encoders={}, stages=stages, image_size=default), image_size)
    height, width = (side // decoder.downsampling for side in chain.sizes[0])
    sizes |= {name: (height, width) for name in ("decoder", "autoencoder") if name in sizes}
    sizes |= {stage.name: size for stage, size in zip(chain.upsamplers, chain.sizes[1:], strict=True)}
    unused = {stage.name for stage in upsamplers} - {stage.name for stage in chain.upsamplers}
    return {name: size for name, size in sizes.items() if name not in unused}, chain.size[1]


def _with_text_tokens(config: Config, count: int) -> Config:
    """Return a network for texts of `count` tokens, without text tokens for 0; networks without text are unchanged."""
    match config:
        case PriorConfig():
            return config.replace(num_text_tokens=count)
        case DecoderConfig() if count == 0:
            return config.replace(text_dim=0, text_transformer=None)
        case DecoderConfig(text_transformer=transformer) if transformer is not None:
            return config.replace(text_transformer=transformer.replace(num_text_tokens=count))
        case Dalle2PriorConfig() if count == 0:
            return config.replace(reads_text_hidden=False)
        case KandinskyDecoderConfig() | Dalle2UNetConfig() if count == 0:
            return config.replace(text_dim=0)
        case Dalle2PriorConfig() | Dalle2UNetConfig():
            return config.replace(num_text_tokens=count)
    return config
