"""Define the shapes of tensors as annotations, which the tests check.

batch: pictures or prompts; dim: size of a CLIP embedding; length: tokens of a prompt; width: channels of a token;
channels, height, width: of a picture. Pixels are float32 in [-1, 1] unless a docstring says otherwise.
"""

from jaxtyping import Bool, Float, Int64
from torch import Tensor

Images = Float[Tensor, "batch channels height width"]
Latents = Float[Tensor, "batch latent_channels latent_height latent_width"]
Embeddings = Float[Tensor, "batch dim"]
Hidden = Float[Tensor, "batch length width"]
TokenMask = Bool[Tensor, "batch length"]
TokenIds = Int64[Tensor, "batch length"]
Timesteps = Float[Tensor, "batch"]
Sample = Float[Tensor, "batch *shape"]
