"""The record that says all there is to say about a class of networks, and what passes between networks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unclip.clip import TextFeatures
from unclip.config import Config
from unclip.models import PredictionType, ScheduleName
from unclip.shapes import Embeddings

StageKind = Literal["clip", "text_encoder", "prior", "decoder", "autoencoder", "upsampler"]
Conditioning: TypeAlias = Mapping[str, Tensor | None]
"""Keyword inputs of a network besides x_t and the timestep."""
# Text tokens of a network whose own shape does not limit them.
CLIP_TOKENS = 77
# Side of the latents that an autoencoder's step is counted for: pictures of 512 px, as Kandinsky draws them.
LATENT_SIZE = 64


class ExampleShape(NamedTuple):
    """How large the example inputs of a network are."""

    batch: int = 1
    size: tuple[int, int] | None = None
    """(height, width) of what the network makes; None is the size it was trained at."""
    num_tokens: int = CLIP_TOKENS
    """Length of texts that the network's own shape does not limit."""


class Size(NamedTuple):
    """A size of something that passes between parts."""

    what: str
    number: int
    field: str
    """The setting of the part that says it."""


class Condition(NamedTuple):
    """What a decoder is conditioned on besides the image embedding, and what stands for the absence of both."""

    text: TextFeatures
    """Features of the prompts, a row each."""
    null: TextFeatures
    """Features of the empty or the negative prompt."""
    null_image: Embeddings | None = None
    """The embedding of an empty image, for decoders that learned no null of their own."""
    is_conditional: bool = True
    """False for unconditional sampling: the nulls stand in the guided pass too."""

    def select(self, rows: list[int]) -> "Condition":
        """Return the condition of the prompts numbered `rows`."""
        return self._replace(text=select_text(self.text, rows))

    def without_text(self, rows: int) -> "Condition":
        """Return the condition of `rows` pictures that have no text: the empty prompt's features in each row."""
        return self._replace(text=expand_text(self.null, rows))


class DecoderInputs(NamedTuple):
    """What a decoder may be conditioned on in a batch of training."""

    image_embedding: Embeddings
    image_present: Bool[Tensor, " batch"]
    """False where the embedding is dropped, for guidance."""
    level: Float[Tensor, " batch"]
    """Deviation of the noise on the embeddings."""
    null_image: Float[Tensor, "1 dim"]
    """The embedding of an empty image, for decoders that learn no null of their own."""
    text: TextFeatures
    """Features of the captions; empty where the decoder reads no text."""


@runtime_checkable
class DecoderShape(Protocol):
    """What the configuration of every decoder says, in fields, properties or constants of its class."""

    image_size: int
    """Side of the training pictures, or latents."""
    size_multiple: int
    """Divisor of the height and width."""
    in_channels: int
    embedding_dim: int
    """Size of the image embedding; 0 = none."""
    text_dim: int
    """Width of the text tokens; 0 = no text."""
    learned_variance: bool
    prediction_type: PredictionType
    schedule: ScheduleName
    num_timesteps: int


@dataclass(frozen=True, kw_only=True)
class Family:
    """A class of networks: what it is built from, what it reads, and how it is conditioned."""

    network: type[nn.Module]
    config: type[Config]
    """A decoder's says what `DecoderShape` lists."""
    stage: StageKind
    """What its networks do in a model."""
    sizes: Callable[[Any], Sequence[Size]]
    """What a configuration reads and makes, by size; 0 stands for what it does not read."""
    example: Callable[[Any, ExampleShape], Conditioning]
    """Keyword inputs of one step of a configuration, as empty tensors; see `example_inputs`."""
    method: Literal["forward", "encode_tokens", "decode"] = "forward"
    """The method that makes a step."""
    condition_prior: Callable[[Any, TextFeatures, TextFeatures, int], Sequence[Conditioning]] | None = None
    """Of a prior: conditioning of the guided and the unguided pass, from features of prompts and of the empty prompt.
    It has the given number of rows; each prompt stands for as many neighbouring ones."""
    condition_decoder: Callable[[Any, Embeddings, Condition], Sequence[Conditioning]] | None = None
    """Of a decoder: conditioning of the guided and the unguided pass; texts have a row for each image embedding."""
    train_decoder: Callable[[Any, DecoderInputs], Conditioning] | None = None
    """Of a decoder that can be trained here: conditioning of a configuration's network for a batch."""
    null_is_text: bool = False
    """Whether guidance leads away from the features of an empty prompt, which may be a negative one; False: the network
    learned what stands for the absence of text."""
    null_is_empty_image: bool = False
    """Whether guidance leads away from CLIP's embedding of an empty image; False: from a null that was learned."""
    unit_embeddings: bool = False
    """Whether image embeddings are unit vectors; False: at CLIP's own scale."""
    draws_latents: bool = False
    """Whether a decoder draws latents whatever model it is in; False: latents with an autoencoder, else pixels."""
    reads_noise_level: bool = False
    """Whether its configuration has `noise_conditioning`: then a network may read how noisy its condition is."""
    can_self_condition: bool = False
    """Whether its configuration has `self_conditioning`: then a network may read its own last x0."""

    def example_inputs(
        self, config: Config, batch: int = 1, size: tuple[int, int] | None = None, num_tokens: int = CLIP_TOKENS
    ) -> Conditioning:
        """Make the keyword inputs of one step on the meta device; arguments are as in `ExampleShape`."""
        with torch.device("meta"):
            return self.example(config, ExampleShape(batch, size, num_tokens))

    def leads_from_text(self, config: Any) -> bool:
        """Tell whether guidance leads away from a text, so that a negative prompt has an effect."""
        return self.null_is_text and (self.stage == "prior" or config.text_dim > 0)


def expand_text(text: TextFeatures, rows: int) -> TextFeatures:
    """Return the features of one text as a view for `rows` rows."""
    return TextFeatures(*(value.expand(rows, *value.shape[1:]) for value in text))


def select_text(text: TextFeatures, rows: list[int]) -> TextFeatures:
    """Return the features of the texts numbered `rows`."""
    return TextFeatures(*(value[rows] for value in text))


def trim_texts(*texts: TextFeatures) -> list[TextFeatures]:
    """Cut the padding that all the texts share; networks mask the rest, so this saves time and changes nothing."""
    # Costs are counted on meta, where no value can be read: texts are taken to be as long as they may be.
    if any(text.mask.is_meta for text in texts):
        return list(texts)
    length = max(int(text.mask.sum(dim=1).max()) for text in texts)
    return [TextFeatures(text.embedding, text.hidden[:, :length], text.mask[:, :length]) for text in texts]


def text_conditioning(text: TextFeatures, rows: int) -> dict[str, Tensor | None]:
    """Return the keyword inputs of a decoder that reads text, broadcast to `rows` rows."""
    text = text if len(text.embedding) == rows else expand_text(text, rows)
    return {"text_embedding": text.embedding, "text_hidden": text.hidden, "text_mask": text.mask}


def example_text(batch: int, length: int, width: int) -> dict[str, Tensor]:
    """Make the text tokens of an example; empty for networks that read none."""
    if not (length and width):
        return {}
    return {"text_hidden": torch.empty(batch, length, width), "text_mask": torch.empty(batch, length, dtype=torch.bool)}


def example_step(config: Any, shape: ExampleShape) -> dict[str, Tensor]:
    """Make the noisy pictures and the time of an example."""
    size = shape.size or (config.image_size, config.image_size)
    return {"x_t": torch.empty(shape.batch, config.in_channels, *size), "timestep": torch.empty(shape.batch)}
