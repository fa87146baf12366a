"""Time embeddings against another library's, and their type."""

import torch
from diffusers.models.embeddings import get_timestep_embedding

from unclip.nn import TimeEmbedding, timestep_embedding


def test_sinusoids_equal_those_of_diffusers() -> None:
    timestep = torch.tensor([0.0, 1.0, 500.25, 999.0])
    theirs = get_timestep_embedding(timestep, 64, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(timestep_embedding(timestep, 64), theirs, rtol=0, atol=1e-6)


def test_sinusoids_are_float32_whatever_comes_in() -> None:
    timestep = torch.tensor([3.0, 999.0])
    ours = timestep_embedding(timestep.double(), 8)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, timestep_embedding(timestep, 8), rtol=0, atol=0)


def test_time_zero_is_ones_then_zeros() -> None:
    torch.testing.assert_close(timestep_embedding(torch.zeros(1), 6), torch.tensor([[1.0, 1, 1, 0, 0, 0]]))


def test_the_layers_run_in_the_weights_type() -> None:
    embedding = TimeEmbedding(16, 32)
    expected = embedding(torch.tensor([7.0, 900.0]))
    actual = embedding.bfloat16()(torch.tensor([7.0, 900.0]))
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.float(), expected, rtol=0.03, atol=0.03)
