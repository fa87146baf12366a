"""Whatever stands in a foreign config, the answer is a config of ours or one line: every option, set to nonsense."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from dalle2_golden import CASES
from kandinsky_configs import autoencoder_config_theirs, decoder_config_theirs
from unclip.config import load_config
from unclip.errors import UnclipError
from unclip.interop import kandinsky as kandinsky_configs
from unclip.interop import schedulers
from unclip.interop import unclip as unclip_configs
from unclip.interop.clip import clip_from_transformers
from unclip.interop.dalle2 import prior_config, unet_config
from unclip.interop.movq import autoencoder_config
from unclip.interop.sources import Component
from unclip.model import StageSettings
from unclip.models import autoencoder_preset, decoder_preset, kandinsky_decoder_preset, prior_preset, upsampler_preset

NONSENSE = ([], "a", -1, 0, 10**9, None, True, [0], ["a"], {}, 1.5)
PRIOR = prior_preset("karlo")
DECODER, PROJECTIONS = unclip_configs.decoder_config_theirs(decoder_preset("karlo"))
DDPM = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": True,
    "clip_sample_range": 2.0,
    "thresholding": True,
    "sample_max_value": 2.0,
}
CLIP = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128, "vocab_size": 99}
Read = Callable[[dict[str, Any]], object]


def settings(fields: Mapping[str, Any]) -> StageSettings:
    return load_config(StageSettings, fields)


CONFIGS: dict[str, tuple[Mapping[str, Any], Read]] = {
    "prior": (unclip_configs.prior_config_theirs(PRIOR), unclip_configs.prior_config),
    "decoder": (DECODER, lambda config: unclip_configs.decoder_config(config, PROJECTIONS)),
    "projections": (PROJECTIONS, lambda config: unclip_configs.decoder_config(DECODER, config)),
    "upsampler": (
        unclip_configs.upsampler_config_theirs(upsampler_preset("karlo")),
        lambda config: unclip_configs.upsampler_config(config, 64),
    ),
    "kandinsky 2.1": (
        decoder_config_theirs(kandinsky_decoder_preset("kandinsky-2.1")),
        kandinsky_configs.decoder_config,
    ),
    "kandinsky 2.2": (
        decoder_config_theirs(kandinsky_decoder_preset("kandinsky-2.2")),
        kandinsky_configs.decoder_config,
    ),
    "movq": (
        autoencoder_config_theirs(autoencoder_preset("kandinsky-2.2")),
        autoencoder_config,
    ),
    "scheduler": (
        schedulers.unclip_scheduler(PRIOR, 5.0),
        lambda config: (
            settings(schedulers.unclip_sampling(config, "prior")),
            schedulers.with_diffusion(PRIOR, config),
        ),
    ),
    "DDPM": (DDPM, lambda config: settings(schedulers.kandinsky_sampling(config)[0])),
    "CLIP": (CLIP, lambda config: clip_from_transformers(Component(config, {}), None, "file")),
    "DALLE2-pytorch prior": (CASES["prior"]["config"], lambda config: prior_config(config, {})),
    "DALLE2-pytorch decoder": (CASES["decoder"]["config"], lambda config: unet_config(config, 0, old=False)),
}


def places(config: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in config.items():
        yield (*path, name)
        if isinstance(value, Mapping):
            yield from places(value, (*path, name))


def is_refused(read: Read, config: dict[str, Any]) -> bool:
    """Whether `read` says in one line what it minds; anything but that line is an error."""
    try:
        read(config)
    except UnclipError as error:
        return len(str(error).splitlines()) == 1
    return False


@pytest.mark.parametrize("name", CONFIGS)
def test_nonsense_is_one_line(name: str) -> None:
    config, read = CONFIGS[name]
    refused = 0
    for path in places(config):
        for value in NONSENSE:
            changed = section = copy.deepcopy(dict(config))
            for key in path[:-1]:
                section = section[key]
            section[path[-1]] = value
            refused += is_refused(read, changed)
    assert refused > len(NONSENSE)
