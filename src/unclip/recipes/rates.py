"""How fast a device trains, measured in seconds. Knows a loop's steps; saves nothing."""

import time

import torch

from unclip.models import Decoder
from unclip.recipes import emoji
from unclip.runtime import autocast, forked_random_state, resolve_device
from unclip.training import TrainConfig, Trainer, init_cluster
from unclip.training.config import DecoderTaskConfig, Precision
from unclip.training.plan.cost import count_flops_per_image

SECONDS = 3.0
BATCH = 32
MAX_STEPS = 30


def flops_per_second(device: str, precision: Precision) -> float:
    """Operations a second that the device sustains in training the emoji decoder, on random numbers."""
    config = emoji.decoder()
    assert isinstance(config.task, DecoderTaskConfig), config.task
    shape, place = config.task.model, resolve_device(device)
    flops = count_flops_per_image(config, emoji.CLIP)
    with forked_random_state(0), autocast(place, getattr(torch, precision)):
        network = Decoder(shape).to(place)
        x_t = torch.randn(BATCH, 3, shape.image_size, shape.image_size, device=place)
        embedding = torch.randn(BATCH, shape.embedding_dim, device=place)
        timestep = torch.full((BATCH,), 500.0, device=place)

        def step() -> float:
            loss: torch.Tensor = network(x_t, timestep, embedding).square().mean()
            loss.backward()
            # Reading the number waits for the device.
            return loss.item()

        step()
        started, count = time.monotonic(), 0
        while count < MAX_STEPS and time.monotonic() - started < SECONDS:
            step()
            count += 1
    return BATCH * count * flops / (time.monotonic() - started)


def images_per_second(config: TrainConfig, device: str, seconds: float = SECONDS) -> float:
    """Images a second of the run itself, with its data and its optimiser, in steps whose weights are thrown away.

    Steps are timed for `seconds`, 3 at most.
    """
    longest = min(seconds, SECONDS)
    with init_cluster(device) as cluster:
        trainer = Trainer.open(config, cluster)
        trainer.step()
        trainer.step()
        started, count = time.monotonic(), 0
        while count < 1 or (count < MAX_STEPS and time.monotonic() - started < longest):
            trainer.step()
            count += 1
        return config.batch_size * count / (time.monotonic() - started)
