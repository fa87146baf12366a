"""The principal components of image embeddings, and their file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.checkpoint import load_tensors, save_tensors
from unclip.errors import CheckpointError, InputError
from unclip.shapes import Embeddings

BASIS_FILE = "embedding_basis.safetensors"
KIND = "embedding_basis"
# Of orthonormal rows kept in float32, dot products (in float64) miss 0 and 1 by about 1e-6.
ROUNDING = 1e-4


@dataclass(frozen=True, eq=False)
class EmbeddingBasis:
    """A mean, and orthonormal directions around it, sorted by how much embeddings vary along them."""

    mean: Float[Tensor, " dim"]
    components: Float[Tensor, "dim dim"]
    """A direction in each row."""

    @property
    def embedding_dim(self) -> int:
        """Size of the embeddings, and number of components."""
        return len(self.mean)

    @classmethod
    def fit(cls, embeddings: Embeddings) -> Self:
        """Fit a basis to (count, dim) embeddings, of any count from 2 up; raises `InputError` for fewer."""
        if len(embeddings) < 2:
            raise InputError(f"a basis is fitted on 2 embeddings or more; found {len(embeddings)}.")
        exact = embeddings.double().cpu()
        mean = exact.mean(dim=0)
        components = torch.linalg.eigh((exact - mean).T @ (exact - mean)).eigenvectors.flip(1).T
        # A direction has two signs: the one taken has its largest number positive.
        largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
        return cls(mean.float(), (components * largest.sign()).float().contiguous())

    # Section 4 of unCLIP.
    def keep(self, embeddings: Embeddings, num_components: int) -> Embeddings:
        """Project embeddings on the first `num_components` components; the other components are those of the mean.

        With all of them the embeddings are the same to rounding. Raises `InputError` outside 1..embedding_dim.
        """
        self.check(num_components)
        mean = self.mean.to(embeddings.device, torch.float64)
        leading = self.components[:num_components].to(mean)
        return (mean + (embeddings.double() - mean) @ leading.T @ leading).to(embeddings.dtype)

    def check(self, num_components: int) -> None:
        """Raise `InputError` unless that many components can be kept."""
        is_whole = isinstance(num_components, int) and not isinstance(num_components, bool)
        if not is_whole or not 1 <= num_components <= self.embedding_dim:
            raise InputError(
                f"{num_components!r} components cannot be kept; give whole numbers from 1 to {self.embedding_dim}."
            )

    def save(self, path: Path | str) -> None:
        """Write the file atomically."""
        save_tensors(path, {"mean": self.mean, "components": self.components}, {"format": "unclip", "kind": KIND})

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote; raises `CheckpointError` for a file that is missing, cut short or of another kind."""
        tensors, metadata = load_tensors(path)
        if metadata.get("kind") != KIND or tensors.keys() != {"mean", "components"}:
            raise CheckpointError(f"{path} holds {metadata.get('kind', 'unknown tensors')!r}, not {KIND!r}.")
        mean, components = tensors["mean"], tensors["components"]
        size = mean.numel()
        if mean.shape != (size,) or components.shape != (size, size) or not mean.isfinite().all():
            raise CheckpointError(
                f"{path} is damaged: a mean {tuple(mean.shape)}, components {tuple(components.shape)}."
            )
        # In float64: a host process may have switched float32 products to bfloat16, which miss by 1e-3.
        exact = components.double()
        if not torch.allclose(exact @ exact.T, torch.eye(size, dtype=torch.float64), atol=ROUNDING):
            raise CheckpointError(f"{path} is damaged: its components are not orthonormal; fit it again.")
        return cls(mean, components)
