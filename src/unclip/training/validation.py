"""Held-out figures of a run: losses of the network and of its average, what the stage measures. Knows no files."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from unclip.runtime import autocast, forked_random_state
from unclip.training.config import TrainConfig
from unclip.training.distributed import Cluster
from unclip.training.feed import PLACE, Feed
from unclip.training.state import TrainState
from unclip.training.task import Batch, Task


@torch.no_grad()
def validate(task: Task, state: TrainState, config: TrainConfig, feed: Feed, cluster: Cluster) -> dict[str, float]:
    """`held_out_loss` of the average, `held_out_loss_online` of the network, and the average's figures of its stage.

    Always of the same samples and draws, so that two moments of a run differ by their weights alone, and of the rows of
    all processes together, so that their number changes nothing. Empty without held-out samples.
    """
    average = state.averages.networks[0]
    figures: dict[str, float] = {}
    with forked_random_state(config.seed), autocast(cluster.device, getattr(torch, config.precision)):
        for name, network in (("held_out_loss", average), ("held_out_loss_online", state.network)):
            loss = _loss(task, network, feed, cluster)
            if loss is not None:
                figures[name] = loss
        batches = list(_rows(task.draw, average, task, feed, cluster, task.num_compared))
    if batches:
        # In float64, which not every device has.
        figures |= task.figures({name: torch.cat([rows[name].cpu() for rows in batches]) for name in batches[0]})
    # The same everywhere to the bit: what is the best loss decides what all processes save together.
    return dict(cluster.tell(figures))


def _loss(task: Task, network: nn.Module, feed: Feed, cluster: Cluster) -> float | None:
    total, count, was_training = 0.0, 0, network.training
    network.eval()
    for rows in _rows(task.held_out, network, task, feed, cluster):
        size = len(next(iter(rows.values())))
        total += size * task.held_out_loss(network, rows).item()
        count += size
    network.train(was_training)
    return total / count if count else None


def _rows(
    measure: Callable[[nn.Module, Batch], dict[str, Tensor]],
    network: nn.Module,
    task: Task,
    feed: Feed,
    cluster: Cluster,
    count: int | None = None,
) -> Iterator[dict[str, Tensor]]:
    """What `measure` makes of each batch of held-out samples, gathered over the processes, in the samples' order."""
    for batch in feed.validation(count):
        parts = [
            {**measure(network, part), PLACE: part[PLACE]}
            for part in task.split(batch.to(cluster.device), feed.num_rows)
        ]
        rows = {name: cluster.gather(torch.cat([part[name] for part in parts])) for name in parts[0]}
        places = rows.pop(PLACE)
        order = places.argsort()[(places < 0).sum() :]
        yield {name: tensor[order] for name, tensor in rows.items()}
