"""What is measured: the networks of a preset or a model, changed as asked. Knows shapes; measures nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from unclip.clip import clip_preset, multilingual_preset
from unclip.clip.config import PRESETS as CLIP_PRESETS
from unclip.config import Config, override
from unclip.errors import ConfigError, InputError, did_you_mean
from unclip.model import StageSettings, model_preset, model_presets, open_sources
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

BEFORE_UPSAMPLERS = ("clip", "text_encoder", "prior", "decoder", "autoencoder")
# Of a network that comes without a model, and so without settings.
ALONE = StageSettings(num_steps=25, sampler="ddpm")


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
    """Side of the pictures where nobody asks for another; None is the largest."""
    model: str | None = None
    """The model whose weights are read; None: random ones."""

    @property
    def stages(self) -> list[str]:
        """Names of the parts that take time one after the other, in that order."""
        return [stage for stage in BEFORE_UPSAMPLERS if stage in self.networks] + upsampler_names(self.networks)

    def only(self, stage: str | None) -> "Subject":
        """The subject with one stage alone; None is all. Raises `InputError` for a stage that it has not."""
        if stage is None:
            return self
        if stage not in self.stages:
            raise InputError(f"{self.name} has no stage {stage!r}; {did_you_mean(stage, self.stages)}")
        kept = (stage, f"{stage}_last")
        networks = {name: config for name, config in self.networks.items() if name in kept}
        settings = {name: value for name, value in self.settings.items() if name == stage}
        return replace(self, networks=networks, settings=settings)


def preset_subject(name: str, stage: str | None = None) -> Subject:
    """The model preset called `name`, or with a `stage` that stage of it, or the preset of such a network.

    Raises `InputError` with the nearest name for what is none of these.
    """
    if stage is None:
        return _whole(name)
    models = {model for model in model_presets() if stage in _whole(model).stages}
    alone = _network_presets(stage)
    if name in models:
        return _whole(name).only(stage)
    if name in alone:
        config = alone[name]()
        return Subject(name=name, networks={stage: config}, settings=_settings_alone(stage, name, config))
    if name in model_presets():
        return _whole(name).only(stage)
    raise InputError(f"no preset of {stage!r} is called {name!r}; {did_you_mean(name, models | alone.keys())}")


def model_subject(name: str) -> Subject:
    """The networks of a model that `UnClip.load` finds; raises as opening it does."""
    source = open_sources([name]).source
    return Subject(
        name=source.name,
        networks={stage: weights.config for stage, weights in source.networks.items()},
        settings=source.defaults.stages,
        num_candidates=source.defaults.num_candidates,
        image_size=source.defaults.image_size,
        model=name,
    )


def change_networks(subject: Subject, changes: Mapping[str, str]) -> Subject:
    """The subject with fields of its networks set from text, `{"prior.depth": "6"}`.

    Raises `InputError` or `ConfigError` for an unknown stage or field (with the nearest name) and a value that it
    cannot have.
    """
    networks = dict(subject.networks)
    for path, text in changes.items():
        stage, _, field = path.partition(".")
        if stage not in networks or not field:
            raise InputError(f"--set {path}: write <stage>.<field>; {did_you_mean(stage, networks)}")
        try:
            networks[stage] = override(networks[stage], {field: text})
        except ConfigError as error:
            raise ConfigError(f"--set {path}: {error}") from None
    return replace(subject, networks=networks)


def with_text_tokens(config: Config, count: int) -> Config:
    """A network for texts of `count` tokens; 0 is one that reads no text tokens. Networks without text stay."""
    match config:
        case PriorConfig():
            return config.replace(num_text_tokens=count)
        case DecoderConfig() if count == 0:
            return config.replace(text_dim=0, text_transformer=None)
        case DecoderConfig(text_transformer=own) if own is not None:
            return config.replace(text_transformer=own.replace(num_text_tokens=count))
        case Dalle2PriorConfig() if count == 0:
            return config.replace(reads_text_hidden=False)
        case KandinskyDecoderConfig() | Dalle2UNetConfig() if count == 0:
            return config.replace(text_dim=0)
        case Dalle2PriorConfig() | Dalle2UNetConfig():
            return config.replace(num_text_tokens=count)
    return config


def _whole(name: str) -> Subject:
    preset = model_preset(name)
    return Subject(name=name, networks=preset.stages, settings=preset.sampling)


def _network_presets(stage: str) -> dict[str, Callable[[], Config]]:
    """Presets of the kind of network that a stage can be, none built yet."""
    kinds: dict[str, list[tuple[Sequence[str], Callable[[str], Config]]]] = {
        "clip": [(list(CLIP_PRESETS), clip_preset)],
        "text_encoder": [(["tiny", "kandinsky-2.1"], multilingual_preset)],
        "prior": [(preset_names(PriorConfig), prior_preset)],
        "decoder": [
            (preset_names(KandinskyDecoderConfig), kandinsky_decoder_preset),
            (preset_names(DecoderConfig), decoder_preset),
        ],
        "autoencoder": [(preset_names(AutoencoderConfig), autoencoder_preset)],
        "upsampler": [(preset_names(UpsamplerConfig), upsampler_preset)],
    }
    kind = "upsampler" if stage.startswith("upsampler_") else stage
    if kind not in kinds or stage == "upsampler":
        allowed = [*kinds.keys() - {"upsampler"}, "upsampler_256", "upsampler_1024"]
        raise InputError(f"there is no stage {stage!r}; {did_you_mean(stage, allowed)}")
    return {name: partial(make, name) for names, make in kinds[kind] for name in names}


def _settings_alone(stage: str, name: str, config: Config) -> dict[str, StageSettings]:
    if isinstance(config, UpsamplerConfig) and stage != f"upsampler_{config.image_size}":
        raise InputError(f"the preset {name!r} makes {config.image_size} px; ask for upsampler_{config.image_size}.")
    return {stage: ALONE} if stage in ("prior", "decoder") or isinstance(config, UpsamplerConfig) else {}
