"""Training of the decoder: image embeddings of a frozen CLIP to pictures. Knows no prior."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import Storage, save_module
from unclip.clip import TextFeatures, TextImageEncoder
from unclip.diffusion import add_noise, diffusion_loss, make_schedule
from unclip.images import from_uint8
from unclip.models import Decoder
from unclip.runtime import autocast, inference_dtype
from unclip.training.config import DecoderTaskConfig, TrainConfig
from unclip.training.task import Task, TaskLoss
from unclip.training.tasks.common import draw_captions, draw_times, embed_images, load_pictures, seeded_network
from unclip.training.tasks.preview import preview_grid

__all__ = ["DecoderTask"]

NUM_PREVIEWS = 24


class DecoderTask(Task):
    """The hybrid objective of Improved DDPM, with classifier-free dropout of the image embedding and the text."""

    def __init__(self, config: TrainConfig, task: DecoderTaskConfig, device: torch.device) -> None:
        self.task, self.device = task, device
        assert task.clip is not None
        self.encoder = TextImageEncoder.load(task.clip, device)
        self.pictures = load_pictures(config.data, task.model.image_size)
        self.num_items = len(self.pictures.keys)
        seen_by_clip = load_pictures(config.data, self.encoder.clip.config.image_size)
        self.embeddings = embed_images(self.encoder, seen_by_clip, device)
        self.embedding_std = self.embeddings.std(dim=0)
        self.network = seeded_network(lambda: Decoder(task.model), config.seed, device)
        self.network.embedding_mean.copy_(self.embeddings.mean(dim=0))
        self.network.embedding_std.copy_(self.embedding_std)
        self.schedule = make_schedule(task.model.schedule, task.model.num_timesteps)

    def loss(self, indices: np.ndarray, generator: torch.Generator) -> TaskLoss:
        model = self.task.model
        x0 = from_uint8(np.asarray(self.pictures.images[indices])).to(self.device)
        noise = torch.randn(x0.shape, generator=generator).to(self.device)
        t = draw_times(len(x0), model.num_timesteps, generator).to(self.device)
        x_t = add_noise(self.schedule, x0, noise, t)
        output = self.network(x_t, self.schedule.timestep(t).float(), **self._conditioning(indices, generator))
        losses = diffusion_loss(
            output, model.prediction_type, self.schedule, x0, noise, x_t, t, self.task.weighting, model.learned_variance
        )
        return TaskLoss(losses.mean(), {})

    def _conditioning(self, indices: np.ndarray, generator: torch.Generator) -> dict[str, Tensor]:
        embedding = self.embeddings[torch.from_numpy(indices)]
        jitter = torch.randn(embedding.shape, generator=generator).to(self.device)
        present = torch.rand(len(indices), generator=generator) >= self.task.image_drop_prob
        conditioning = {
            "image_embedding": embedding + self.task.embedding_noise * self.embedding_std * jitter,
            "image_present": present.to(self.device),
        }
        if not self.task.model.text_dim:
            return conditioning
        prompts = draw_captions(self.pictures.captions, indices, generator, self.task.text_drop_prob)
        return conditioning | text_conditioning(self._read(prompts))

    @torch.no_grad()
    def _read(self, prompts: list[str]) -> TextFeatures:
        return self.encoder.encode_text(prompts)

    @torch.inference_mode()
    def preview(self, network: nn.Module) -> Image.Image | None:
        """Real pictures in the odd rows, what the decoder makes of their embeddings below."""
        chosen = np.linspace(0, self.num_items - 1, min(NUM_PREVIEWS, self.num_items)).astype(int)
        conditioning = {"image_embedding": self.embeddings[torch.from_numpy(chosen)]}
        if self.task.model.text_dim:
            prompts = [self.pictures.captions[int(index)][0] for index in chosen]
            conditioning |= text_conditioning(self._read(prompts))
        with autocast(self.device, inference_dtype(self.device)):
            return preview_grid(network, self.task.model, conditioning, self.pictures.images[chosen], self.device)

    def export(self, network: nn.Module, folder: Path, storage: Storage) -> None:
        save_module(folder / "decoder.safetensors", network, self.task.model, "decoder", storage)


def text_conditioning(text: TextFeatures) -> dict[str, Tensor]:
    """The decoder's text arguments from CLIP's text features."""
    return {"text_embedding": text.embedding, "text_hidden": text.hidden, "text_mask": text.mask}
