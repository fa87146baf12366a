"""One measurement, as a process is told of it and as it answers. Knows names and numbers; measures nothing."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from unclip.config import Config, load_config
from unclip.model import StageSettings
from unclip.model.families import FAMILIES, family_of
from unclip.training import TrainConfig

DType = Literal["float32", "bfloat16", "float16"]


class NetworkShape(Config):
    """A network by the name of its class."""

    network: str
    config: dict[str, Any]

    @classmethod
    def of(cls, config: Config) -> "NetworkShape":
        """The shape of the network that `config` describes."""
        return cls(network=family_of(config).network.__name__, config=config.model_dump(mode="json"))

    def load(self) -> Config:
        """The configuration."""
        return load_config(FAMILIES[self.network].config, self.config)


class StageJob(Config):
    """Sampling one stage at one batch size."""

    kind: Literal["stage"] = "stage"
    stage: str
    shape: NetworkShape
    last: NetworkShape | None = None
    """A second network for the last step."""
    settings: StageSettings | None = None
    """None: it is no sampler, and goes through its network once."""
    size: tuple[PositiveInt, PositiveInt] | None = None
    """(height, width) of what the network makes, in its own numbers: latents are smaller than pictures."""
    text_tokens: PositiveInt | None = None
    """Length of texts for networks that do not limit it; None is CLIP's."""
    batch: PositiveInt
    num_candidates: PositiveInt = 1
    dtype: DType
    device: str
    num_steps: PositiveInt = 1
    """Steps of a whole sampling."""
    repeats: PositiveInt
    """Steps that are timed at least."""
    model: str | None = None
    """Where weights are read; None: random ones."""


class TrainJob(Config):
    """Training steps of one stage on made-up samples."""

    kind: Literal["train"] = "train"
    config: TrainConfig
    device: str
    repeats: PositiveInt


AnyJob = Annotated[StageJob | TrainJob, Field(discriminator="kind")]


class Measured(Config):
    """What one process found."""

    setup_seconds: float = 0.0
    """Before the first step: text that is read once, noise, the enlarged small picture."""
    seconds: tuple[float, ...]
    """Of each step that was timed."""
    indices: tuple[int, ...]
    """Which step of a sampling each was."""
    peak_memory_bytes: int
    """Most memory above that before the network was built."""
