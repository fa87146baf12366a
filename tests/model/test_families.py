"""Families: what a class of networks promises to whoever samples it."""

import pytest

from unclip.model.families import FAMILIES
from unclip.model.family import DecoderShape

DECODERS = sorted(name for name, family in FAMILIES.items() if family.stage == "decoder")


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoders_configuration_says_what_sampling_reads(name: str) -> None:
    config = FAMILIES[name].config
    assert DecoderShape.__annotations__.keys() - {*dir(config), *config.model_fields} == set()
    assert FAMILIES[name].condition_decoder is not None
