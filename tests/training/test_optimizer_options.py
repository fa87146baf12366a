"""Every setting of the optimiser changes what its text says."""

import pytest
import torch
from short_runs import changed, fresh, options, steps
from torch.optim import Muon

from unclip.training import OptimizerConfig, TrainConfig
from unclip.training.optimizer import hidden_matrices, learning_rate

RATE = 1e-3


def moves(config: TrainConfig, count: int = 1) -> dict[str, torch.Tensor]:
    """How far the first steps move each weight."""
    before = fresh(config)
    return {name: after - before[name].detach() for name, after in steps(config, count).weights.items()}


def test_muon_takes_the_hidden_matrices(prior: TrainConfig) -> None:
    done = steps(prior.replace(optimizer=prior.optimizer.replace(name="muon")), 1)
    matrices = {id(weight) for weight in hidden_matrices(done.trainer.state.network)}
    muon = done.trainer.state.optimizer.optimizers["muon"]
    assert isinstance(muon, Muon)
    assert {id(weight) for group in muon.param_groups for weight in group["params"]} == matrices
    adamw = steps(prior, 1)
    for (name, ours), parameter in zip(done.weights.items(), done.trainer.state.network.parameters(), strict=True):
        assert torch.equal(ours, adamw.weights[name]) == (id(parameter) not in matrices), name


# AdamW's first step without decay is rate * g / (|g| + eps), whatever the betas are.
def test_learning_rate_scales_the_first_step_and_betas_only_the_later_ones(prior: TrainConfig) -> None:
    first, double = moves(prior), moves(changed(prior, learning_rate=2 * RATE))
    other = changed(prior, betas=(0.5, 0.7))
    assert first["query"].abs().max().item() == pytest.approx(RATE, rel=1e-3)
    torch.testing.assert_close(double["query"], 2 * first["query"], rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(moves(other)["query"], first["query"], rtol=1e-3, atol=1e-7)
    assert (moves(other, 3)["query"] - moves(prior, 3)["query"]).abs().max() > 0.1 * RATE


def test_eps_is_added_to_the_gradients_size(prior: TrainConfig) -> None:
    sizes = []
    for eps in (1e-2, 1e-1):
        share = (moves(changed(prior, eps=eps))["query"].abs() / RATE).double()
        sizes.append(eps * share / (1.0 - share))
    torch.testing.assert_close(sizes[0], sizes[1], rtol=1e-2, atol=1e-5)
    assert sizes[0].max() > 1e-4


def test_weight_decay_shrinks_matrices_and_nothing_else(prior: TrainConfig) -> None:
    plain, decayed, before = moves(prior), moves(changed(prior, weight_decay=0.5)), fresh(prior)
    for name, weight in before.items():
        expected = -RATE * 0.5 * weight.detach() if weight.ndim >= 2 else torch.zeros_like(weight)
        torch.testing.assert_close(decayed[name] - plain[name], expected, rtol=1e-2, atol=2e-7)


def test_the_learning_rate_of_each_step_is_the_schedules(prior: TrainConfig) -> None:
    config = changed(prior, warmup_images=16, decay="cosine", num_images=48)
    told = [report.metrics["learning_rate"] for report in steps(config, 5).reports]
    assert told == pytest.approx([learning_rate(config.optimizer, seen, 48) for seen in range(0, 40, 8)])
    assert told[0] == pytest.approx(RATE / 17)
    assert told[2] == pytest.approx(RATE)
    assert told[4] == pytest.approx(RATE * (0.01 + 0.99 * 0.5))


def test_max_grad_norm_is_the_length_that_the_optimiser_sees(prior: TrainConfig) -> None:
    for limit in (1e9, 1e-2):
        done = steps(changed(prior, max_grad_norm=limit), 1)
        seen = [state["exp_avg"] for state in done.trainer.state.optimizer.optimizers["adamw"].state.values()]
        length = torch.stack([gradient.norm() for gradient in seen]).norm() / (1 - prior.optimizer.betas[0])
        norm = done.reports[0].metrics["grad_norm"]
        assert norm > 1e-2
        assert length.item() == pytest.approx(min(norm, limit), rel=1e-3)


SHOWN = {
    "name": test_muon_takes_the_hidden_matrices,
    "learning_rate": test_learning_rate_scales_the_first_step_and_betas_only_the_later_ones,
    "betas": test_learning_rate_scales_the_first_step_and_betas_only_the_later_ones,
    "eps": test_eps_is_added_to_the_gradients_size,
    "weight_decay": test_weight_decay_shrinks_matrices_and_nothing_else,
    "warmup_images": test_the_learning_rate_of_each_step_is_the_schedules,
    "decay": test_the_learning_rate_of_each_step_is_the_schedules,
    "max_grad_norm": test_max_grad_norm_is_the_length_that_the_optimiser_sees,
}


def test_every_setting_has_its_test() -> None:
    assert options(OptimizerConfig) == set(SHOWN)
