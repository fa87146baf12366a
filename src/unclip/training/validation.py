"""Held-out figures of a run: losses of the network and of its average, what the stage measures. Knows no files."""

from collections.abc import Iterator

import torch
from torch import nn

from unclip.runtime import autocast, forked_random_state
from unclip.training.config import TrainConfig
from unclip.training.distributed import Cluster
from unclip.training.feed import Feed
from unclip.training.state import TrainState
from unclip.training.task import Batch, Task

__all__ = ["validate"]


@torch.no_grad()
def validate(task: Task, state: TrainState, config: TrainConfig, feed: Feed, cluster: Cluster) -> dict[str, float]:
    """`held_out_loss` of the average, `held_out_loss_online` of the network, and the average's figures of its stage.

    Always of the same samples and draws, so that two moments of a run differ by their weights alone. Empty without
    held-out samples. CLIP's loss compares the pictures of one process's share of a batch: it is lower where more
    processes share the batch.
    """
    average = state.averages.networks[0]
    figures: dict[str, float] = {}
    with forked_random_state(config.seed), autocast(cluster.device, getattr(torch, config.precision)):
        for name, network in (("held_out_loss", average), ("held_out_loss_online", state.network)):
            loss = _mean_loss(task, network, feed, cluster)
            if loss is not None:
                figures[name] = loss
        if figures:
            figures |= task.figures(average, _moved(feed, cluster))
    names = sorted(figures)
    means = cluster.mean(torch.tensor([figures[name] for name in names], dtype=torch.float64)).tolist()
    return dict(zip(names, means, strict=True))


def _mean_loss(task: Task, network: nn.Module, feed: Feed, cluster: Cluster) -> float | None:
    total, count, was_training = 0.0, 0, network.training
    network.eval()
    for batch in _moved(feed, cluster):
        for part in task.split(batch, feed.num_rows):
            total += len(part) * task.loss(network, part).loss.item()
            count += len(part)
    network.train(was_training)
    return total / count if count else None


def _moved(feed: Feed, cluster: Cluster) -> Iterator[Batch]:
    return (batch.to(cluster.device) for batch in feed.validation())
