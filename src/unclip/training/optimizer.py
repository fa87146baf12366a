"""AdamW and its learning rate as a function of images seen. Knows no task."""

import math

import torch
from torch import nn

from unclip.training.config import OptimizerConfig

__all__ = ["learning_rate", "make_optimizer"]

FINAL_SHARE = 0.01


def make_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Fused AdamW; biases, norms and other vectors are not decayed."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def learning_rate(config: OptimizerConfig, images_seen: int, num_images: int) -> float:
    """Linear warm-up over `warmup_images`, then constant or half a cosine down to a hundredth."""
    if images_seen < config.warmup_images:
        return config.learning_rate * (images_seen + 1) / (config.warmup_images + 1)
    if config.decay == "constant":
        return config.learning_rate
    progress = min(1.0, (images_seen - config.warmup_images) / max(1, num_images - config.warmup_images))
    share = FINAL_SHARE + (1.0 - FINAL_SHARE) * 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.learning_rate * share
