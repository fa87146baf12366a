"""The name of a CLIP by its content, by which stored features are recognised. Knows weights and tokens; no files."""

import hashlib

import torch

from unclip.clip.encoder import TextImageEncoder

__all__ = ["clip_hash"]


def clip_hash(encoder: TextImageEncoder) -> str:
    """SHA-256, in hexadecimal, of configuration, tokenizer and weights: equal where features are to be equal.

    Weights count as the float32 numbers that are in memory; other storages of a model (bfloat16, int8) differ.
    """
    digest = hashlib.sha256(encoder.clip.config.model_dump_json().encode())
    digest.update(encoder.tokenizer.to_json().encode())
    for name, tensor in sorted(encoder.clip.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
