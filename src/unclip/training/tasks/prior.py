"""Training of the prior: text features to image embeddings of a frozen CLIP. Knows no pixels after start-up."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import Storage, save_module
from unclip.clip import TextFeatures, TextImageEncoder
from unclip.diffusion import add_noise, diffusion_loss, make_schedule
from unclip.models import Prior
from unclip.training.config import PriorTaskConfig, TrainConfig
from unclip.training.task import Task, TaskLoss
from unclip.training.tasks.common import draw_captions, draw_times, embed_images, load_pictures, seeded_network

__all__ = ["PriorTask"]

NUM_GROUPS = 4


class PriorTask(Task):
    """Mean-squared error in the space of standardised embeddings (DALL-E 2, eq. 2)."""

    def __init__(self, config: TrainConfig, task: PriorTaskConfig, device: torch.device) -> None:
        self.task, self.device = task, device
        self.encoder = TextImageEncoder.load(task.clip, device)
        pictures = load_pictures(config.data, self.encoder.clip.config.image_size)
        self.captions = pictures.captions
        self.num_items = len(pictures.keys)
        embeddings = embed_images(self.encoder, pictures, device)
        self.network = seeded_network(lambda: Prior(task.model), config.seed, device)
        self.network.embedding_mean.copy_(embeddings.mean(dim=0))
        self.network.embedding_std.copy_(embeddings.std(dim=0))
        self.x0 = self.network.standardize(embeddings)
        self.schedule = make_schedule(task.model.schedule, task.model.num_timesteps)

    def loss(self, indices: np.ndarray, generator: torch.Generator) -> TaskLoss:
        x0 = self.x0[torch.from_numpy(indices)]
        prompts = draw_captions(self.captions, indices, generator, self.task.text_drop_prob)
        with torch.no_grad():
            text = self.encoder.encode_text(prompts)
        noise = torch.randn(x0.shape, generator=generator).to(self.device)
        t = draw_times(len(x0), self.task.model.num_timesteps, generator).to(self.device)
        x_t = add_noise(self.schedule, x0, noise, t)
        output = self._predict(x_t, self.schedule.timestep(t).float(), text)
        losses = diffusion_loss(
            output, self.task.model.prediction_type, self.schedule, x0, noise, x_t, t, self.task.weighting
        )
        return TaskLoss(losses.mean(), {})

    def _predict(self, x_t: Tensor, timestep: Tensor, text: TextFeatures) -> Tensor:
        """The network's output, computed in groups of similar length: captions vary from 3 tokens to the context."""
        lengths = text.mask.sum(dim=1)
        order = lengths.argsort(stable=True)
        outputs = []
        for rows in order.chunk(NUM_GROUPS):
            longest = int(lengths[rows].max())
            hidden, mask = text.hidden[rows, :longest], text.mask[rows, :longest]
            outputs.append(self.network(x_t[rows], timestep[rows], text.embedding[rows], hidden, mask))
        return torch.cat(outputs)[order.argsort()]

    def preview(self, network: nn.Module) -> Image.Image | None:
        return None

    def export(self, network: nn.Module, folder: Path, storage: Storage) -> None:
        save_module(folder / "prior.safetensors", network, self.task.model, "prior", storage)
