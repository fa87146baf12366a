"""The prior: cached text, padding, causality, statistics, and what it refuses."""

import pytest
import torch
from torch import Tensor

from unclip.errors import InputError
from unclip.models import Prior, PriorConfig, prior_preset


@pytest.fixture
def prior() -> Prior:
    return Prior(prior_preset("tiny").replace(text_dim=24, text_embedding_dim=20)).eval()


def text(lengths: list[int], length: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    mask = torch.arange(length) < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), 20), torch.randn(len(lengths), length, 24), mask


X_T, TIME = torch.linspace(-1, 1, 64).view(2, 32), torch.tensor([3.0, 700.0])


def test_cached_text_gives_the_same_prediction(prior: Prior) -> None:
    embedding, hidden, mask = text([5, 16])
    cache = prior.text_cache(embedding, hidden, mask)
    assert cache.shape == (2, 2, 2, 2, 17, 32)
    expected = prior(X_T, TIME, embedding, hidden, mask)
    torch.testing.assert_close(prior(X_T, TIME, text_mask=mask, cache=cache), expected, rtol=0, atol=2e-6)


def test_padding_changes_nothing_and_may_be_cut_off(prior: Prior) -> None:
    embedding, hidden, mask = text([5, 7])
    expected = prior(X_T, TIME, embedding, hidden, mask)
    hidden[0, 5:] = 100.0
    torch.testing.assert_close(prior(X_T, TIME, embedding, hidden, mask), expected, rtol=0, atol=2e-6)
    cut = prior(X_T, TIME, embedding, hidden[:, :7], mask[:, :7])
    torch.testing.assert_close(cut, expected, rtol=0, atol=2e-6)


def test_a_prompt_without_any_real_token_stays_finite(prior: Prior) -> None:
    embedding, hidden, mask = text([0, 3])
    assert prior(X_T, TIME, embedding, hidden, mask).isfinite().all()


def test_every_input_reaches_the_prediction(prior: Prior) -> None:
    inputs = {"x_t": X_T, "timestep": TIME} | dict(
        zip(("text_embedding", "text_hidden"), text([16, 16])[:2], strict=True)
    )
    expected = prior(**inputs)
    for name in inputs:
        changed = prior(**inputs | {name: inputs[name] + 0.5})
        assert (changed - expected).abs().max() > 1e-4, name


def test_text_embedding_alone_is_enough_without_text_tokens() -> None:
    prior = Prior(PriorConfig(embedding_dim=32, num_text_tokens=0, width=64, depth=2, num_heads=2)).eval()
    embedding = torch.randn(2, 32)
    expected = prior(X_T, TIME, embedding)
    torch.testing.assert_close(prior(X_T, TIME, cache=prior.text_cache(embedding)), expected, rtol=0, atol=2e-6)


def test_standardize_uses_the_stored_statistics_and_unstandardize_undoes_it(prior: Prior) -> None:
    data = 3 + 2 * torch.randn(500, 32)
    assert torch.equal(prior.standardize(data), data)
    prior.embedding_mean.copy_(data.mean(0))
    prior.embedding_std.copy_(data.std(0))
    z = prior.standardize(data)
    torch.testing.assert_close(z.mean(0), torch.zeros(32), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.std(0), torch.ones(32), rtol=0, atol=1e-5)
    torch.testing.assert_close(prior.unstandardize(z), data)
    assert {"embedding_mean", "embedding_std"} <= prior.state_dict().keys()


def test_bfloat16_weights_stay_near_float32(prior: Prior) -> None:
    embedding, hidden, mask = text([5, 16])
    expected = prior(X_T, TIME, embedding, hidden, mask)
    actual = prior.bfloat16()(X_T, TIME, embedding, hidden, mask)
    torch.testing.assert_close(actual.float(), expected, rtol=0.1, atol=0.05)


def test_text_that_does_not_fit_is_refused(prior: Prior) -> None:
    embedding, hidden, _ = text([4, 4], length=17)
    with pytest.raises(InputError, match=r"^text_hidden has 17 tokens; this prior takes 16\.$"):
        prior(X_T, TIME, embedding, hidden)
    with pytest.raises(InputError, match=r"^this prior needs text_hidden, up to 16 tokens\.$"):
        prior(X_T, TIME, embedding)
    with pytest.raises(InputError, match=r"^this prior needs text_embedding, or a cache made from it\.$"):
        prior(X_T, TIME)
    plain = Prior(PriorConfig(embedding_dim=32, num_text_tokens=0, width=64, depth=1, num_heads=2))
    with pytest.raises(InputError, match=r"takes no text tokens"):
        plain(X_T, TIME, torch.randn(2, 32), torch.randn(2, 4, 32))
