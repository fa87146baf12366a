"""Where the numbers and sample grids of a run go besides its own files. Knows no task and no loop."""

import abc
import uuid
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from unclip.errors import DependencyError, TrainingError
from unclip.files import atomic_write

__all__ = ["Tracker", "TrackerName", "Trackers", "open_trackers", "require_trackers"]

TrackerName = Literal["tensorboard", "wandb"]
PROJECT, ID_FILE = "unclip", "wandb-run-id"


class Tracker(abc.ABC):
    """One service that mirrors a run."""

    @abc.abstractmethod
    def scalars(self, values: Mapping[str, float], step: int, images_seen: int) -> None:
        """Take numbers by name, which stand at `images_seen`; steps never fall, but one may have several calls."""

    @abc.abstractmethod
    def picture(self, image: Image.Image, step: int, images_seen: int) -> None:
        """Take a grid of samples."""

    @abc.abstractmethod
    def close(self) -> None:
        """Flush and close."""


class Trackers(NamedTuple):
    """What could be opened, and a note for each that could not."""

    opened: list[Tracker]
    notes: list[str]


def require_trackers(names: Sequence[TrackerName]) -> None:
    """Raise `DependencyError` for Weights & Biases that is not installed, before a run writes anything."""
    if "wandb" in names and find_spec("wandb") is None:
        raise DependencyError("trackers has wandb, which is not installed; pip install 'unclip[train]'.")


def open_trackers(
    names: Sequence[TrackerName], folder: Path, images_seen: int, settings: Mapping[str, Any] | None = None
) -> Trackers:
    """The trackers called `names` for the run in `folder`, which goes on after `images_seen` images.

    `settings` is what Weights & Biases shows as the run's configuration; its `name` is the run's. TensorBoard may be
    missing, which is a note; raises `DependencyError` where Weights & Biases is, and `TrainingError` where it does not
    start.
    """
    opened: list[Tracker] = []
    notes: list[str] = []
    for name in dict.fromkeys(names):
        if name == "wandb":
            opened.append(WandbTracker(folder, settings or {}))
            continue
        try:
            opened.append(TensorboardTracker(folder, images_seen))
        except ImportError:
            notes.append("tensorboard is not installed, so log.jsonl is all there is; pip install 'unclip[train]'.")
    return Trackers(opened, notes)


class TensorboardTracker(Tracker):
    """Event files in `folder/tensorboard`; on resuming, what lies after the checkpoint is hidden."""

    def __init__(self, folder: Path, images_seen: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=images_seen + 1)

    def scalars(self, values: Mapping[str, float], step: int, images_seen: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, images_seen)

    def picture(self, image: Image.Image, step: int, images_seen: int) -> None:
        self.writer.add_image("samples", np.asarray(image.convert("RGB")), images_seen, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class WandbTracker(Tracker):
    """A run of Weights & Biases, files in `folder/wandb`; the id in `folder` makes a resumed run the same run.

    WANDB_MODE and the other variables of wandb hold. Steps that a resumed run makes again are dropped there, being
    equal.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        require_trackers(["wandb"])
        import wandb

        self.wandb = wandb
        try:
            self.run = wandb.init(
                project=PROJECT,
                name=str(settings.get("name", folder.name)),
                id=_run_id(folder),
                resume="allow",
                dir=str(folder),
                config=dict(settings),
                settings=wandb.Settings(silent=True, console="off"),
            )
        except wandb.Error as error:
            raise TrainingError(
                f"Weights & Biases does not start ({error}); log in with `wandb login`, set WANDB_MODE=offline, or "
                "leave wandb out of trackers."
            ) from None
        self.run.define_metric("images_seen")
        self.run.define_metric("*", step_metric="images_seen")

    def scalars(self, values: Mapping[str, float], step: int, images_seen: int) -> None:
        self.run.log({**values, "images_seen": images_seen}, step=step)

    def picture(self, image: Image.Image, step: int, images_seen: int) -> None:
        self.run.log({"samples": self.wandb.Image(image), "images_seen": images_seen}, step=step)

    def close(self) -> None:
        self.run.finish()


def _run_id(folder: Path) -> str:
    path = folder / ID_FILE
    if not path.exists():
        atomic_write(path, uuid.uuid4().hex)
    return path.read_text().strip()
