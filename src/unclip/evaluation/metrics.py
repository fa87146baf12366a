"""The table of metrics: what each needs, how it is computed, and how many pictures are enough. Knows no network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from torch import Tensor
from torch.nn.functional import normalize

from unclip.errors import InputError
from unclip.evaluation.clip_figures import clip_score, r_precision
from unclip.evaluation.estimates import Interval, bootstrap
from unclip.evaluation.frechet import frechet_distance
from unclip.evaluation.inception_score import inception_score
from unclip.evaluation.kernel_distance import kernel_distance
from unclip.evaluation.manifold import manifold_metrics
from unclip.evaluation.mmd import mmd
from unclip.evaluation.rows import Rows

__all__ = ["METRICS", "Feature", "Metric", "few_images_warning"]

Feature = Literal["inception", "inception_logits", "dinov2", "clip", "clip_pair"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure of a set of drawn pictures."""

    name: str
    """As it is asked for: "fid"."""
    title: str
    """As it is printed: "FID"."""
    feature: Feature
    """What its rows are; "clip_pair" is embeddings of pictures, and of their prompts as the other rows."""
    compares: bool
    """Whether the other rows are those of reference pictures."""
    lower_is_better: bool | None
    num_least: int
    """Pictures below which it is refused."""
    num_enough: int
    """Pictures below which a warning is due."""
    why: str
    """What fewer pictures do to it."""
    num_resamples: int
    """How many sets an interval redraws: more where one costs less."""
    function: Callable[[Tensor, Tensor | None], float]
    """Of checked arguments; callers use `compute`."""

    def compute(self, drawn: Rows, other: Rows | None = None) -> float:
        """The figure of the drawn rows; `other` is reference rows, the rows of the prompts, or None.

        Raises `InputError` where `other` is missing or not wanted, and for what the figure refuses.
        """
        wanted = self.compares or self.feature == "clip_pair"
        if wanted != (other is not None):
            what = "reference pictures" if self.compares else "the embeddings of the prompts"
            raise InputError(
                f"{self.name} needs {what} beside the drawn ones." if wanted else f"{self.name} takes no other rows."
            )
        return self.function(drawn, other)

    def interval(
        self,
        drawn: Rows,
        other: Rows | None = None,
        *,
        num_resamples: int | None = None,
        level: float = 0.95,
        seed: int = 0,
    ) -> Interval:
        """The interval of the figure over other draws of as many pictures; a reference stays as it is.

        Redraws `self.num_resamples` sets where no number is given. Raises like `compute` and `bootstrap`.
        """
        number = self.num_resamples if num_resamples is None else num_resamples
        if other is None or self.compares:
            return bootstrap(
                lambda rows: self.compute(rows, other), drawn, num_resamples=number, level=level, seed=seed
            )
        return bootstrap(self.compute, drawn, other, num_resamples=number, level=level, seed=seed)


def few_images_warning(metric: Metric, num_images: int) -> str | None:
    """One line where `num_images` are too few for `metric` to be compared with figures of others, else None."""
    if num_images >= metric.num_enough:
        return None
    return f"{metric.title} of {num_images:,} pictures ({metric.num_enough:,} are enough): {metric.why}."


def _frechet(drawn: Tensor, other: Tensor | None) -> float:
    return frechet_distance(drawn, _given(other))


def _given(other: Tensor | None) -> Tensor:
    assert other is not None, "compute checks"
    return other


FID_WHY = (
    "its covariance of 2048 features has full rank from 2,049 on, and its bias falls with 1 / pictures; "
    "compare only with figures of as many"
)
NEIGHBOURS_WHY = "reaches shrink as sets grow; compare only with figures of as many and of the same k = 5"

_TABLE = (
    Metric(
        name="fid", title="FID", feature="inception", compares=True, lower_is_better=True,
        num_least=2, num_enough=10_000, why=FID_WHY, num_resamples=100, function=_frechet,
    ),
    Metric(
        name="kid", title="KID", feature="inception", compares=True, lower_is_better=True,
        num_least=2, num_enough=1000, why="it has no bias, but scatters as widely as it is large",
        num_resamples=100, function=lambda drawn, other: kernel_distance(drawn, _given(other)),
    ),
    Metric(
        name="is", title="IS", feature="inception_logits", compares=False, lower_is_better=False,
        num_least=1, num_enough=5000, why="it rises with the number until each of 1008 classes was seen often",
        num_resamples=1000, function=lambda drawn, other: inception_score(drawn).value,
    ),
    *(
        Metric(
            name=name, title=name.capitalize(), feature="inception", compares=True, lower_is_better=False,
            num_least=6, num_enough=10_000, why=NEIGHBOURS_WHY, num_resamples=100,
            function=lambda drawn, other, name=name: getattr(manifold_metrics(_given(other), drawn), name),
        )
        for name in ("precision", "recall", "density", "coverage")
    ),
    Metric(
        name="cmmd", title="CMMD", feature="clip", compares=True, lower_is_better=True,
        num_least=1, num_enough=5000, why="a bias of about 1 / pictures counts pairs of a picture with itself",
        num_resamples=100,
        function=lambda drawn, other: mmd(normalize(drawn.double()), normalize(_given(other).double())),
    ),
    Metric(
        name="fd_dinov2", title="FD-DINOv2", feature="dinov2", compares=True, lower_is_better=True,
        num_least=2, num_enough=10_000, why=FID_WHY.replace("2048", "1024").replace("2,049", "1,025"),
        num_resamples=100, function=_frechet,
    ),
    Metric(
        name="fd_clip", title="FD-CLIP", feature="clip", compares=True, lower_is_better=True,
        num_least=2, num_enough=10_000, why=FID_WHY.replace("2048", "768").replace("2,049", "769"),
        num_resamples=100, function=_frechet,
    ),
    Metric(
        name="clip_score", title="CLIP score", feature="clip_pair", compares=False, lower_is_better=False,
        num_least=1, num_enough=1000, why="it has no bias, but prompts differ by more than models do",
        num_resamples=1000, function=lambda drawn, other: clip_score(drawn, _given(other)).mean().item(),
    ),
    Metric(
        name="r_precision", title="R-precision", feature="clip_pair", compares=False, lower_is_better=False,
        num_least=100, num_enough=1000, why="fewer texts are fewer near ones to mistake for the right one",
        num_resamples=1000, function=lambda drawn, other: r_precision(drawn, _given(other)).mean().item(),
    ),
)  # fmt: skip

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _TABLE})
"""By the name it is asked for; in the order in which tables have them."""
