"""Training of the prior: text features to image embeddings of a frozen CLIP. Knows no pixels after start-up."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from unclip.checkpoint import Storage, save_module
from unclip.clip import TextImageEncoder
from unclip.diffusion import add_noise, diffusion_loss, make_schedule
from unclip.models import Prior
from unclip.training.config import PriorTaskConfig, TrainConfig
from unclip.training.task import Task, TaskLoss
from unclip.training.tasks.common import draw_captions, draw_times, embed_images, load_pictures, seeded_network

__all__ = ["PriorTask"]


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
        timestep = self.schedule.timestep(t).float()
        longest = int(text.mask.sum(dim=1).max())
        hidden, mask = text.hidden[:, :longest], text.mask[:, :longest]
        output = self.network(x_t, timestep, text.embedding, hidden, mask)
        losses = diffusion_loss(
            output, self.task.model.prediction_type, self.schedule, x0, noise, x_t, t, self.task.weighting
        )
        return TaskLoss(losses.mean(), {})

    def preview(self, network: nn.Module) -> Image.Image | None:
        return None

    def export(self, network: nn.Module, folder: Path, storage: Storage) -> None:
        save_module(folder / "prior.safetensors", network, self.task.model, "prior", storage)
