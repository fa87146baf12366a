"""The table of metrics: every entry is the public function of its rows, and every interval the bootstrap's."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from feature_sets import features
from unclip.errors import InputError
from unclip.metrics import (
    METRICS,
    Gaussian,
    bootstrap,
    clip_score,
    few_images_warning,
    frechet_distance,
    inception_score,
    kernel_distance,
    manifold_metrics,
    measure,
    mmd,
    r_precision,
)
from unclip.metrics.estimates import drawn_counts, interval_of

DRAWN, OTHER, PROMPTS = features(120, 1), features(150, 2), features(120, 3)
EXPECTED: dict[str, Callable[[Tensor], float]] = {
    "fid": lambda rows: frechet_distance(rows, OTHER),
    "kid": lambda rows: kernel_distance(rows, OTHER),
    "is": lambda rows: inception_score(rows).value,
    "precision": lambda rows: manifold_metrics(OTHER, rows).precision,
    "recall": lambda rows: manifold_metrics(OTHER, rows).recall,
    "density": lambda rows: manifold_metrics(OTHER, rows).density,
    "coverage": lambda rows: manifold_metrics(OTHER, rows).coverage,
    "cmmd": lambda rows: mmd(F.normalize(rows), F.normalize(OTHER)),
    "fd_dinov2": lambda rows: frechet_distance(rows, OTHER),
    "fd_clip": lambda rows: frechet_distance(rows, OTHER),
    "clip_score": lambda rows: clip_score(rows, PROMPTS).mean().item(),
    "r_precision": lambda rows: r_precision(rows, PROMPTS).mean().item(),
}
NAMES = list(EXPECTED)


def other(name: str) -> Tensor | None:
    metric = METRICS[name]
    return OTHER if metric.compares else PROMPTS if metric.feature == "clip_pair" else None


def test_the_table_is_complete() -> None:
    assert list(METRICS) == NAMES
    assert [name for name, metric in METRICS.items() if metric.name != name] == []
    assert [name for name, metric in METRICS.items() if metric.num_least > metric.num_enough] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_is_its_function_in_any_order_and_beside_any_resamples(name: str) -> None:
    expected = EXPECTED[name](DRAWN)
    assert METRICS[name].compute(DRAWN, other(name)) == pytest.approx(expected, rel=1e-12)
    assert measure([name], DRAWN, other(name), num_resamples=7)[name].value == pytest.approx(expected, rel=1e-12)
    given = other(name)
    turned = given if given is None else given.flip(0)
    assert METRICS[name].compute(DRAWN.flip(0), turned) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", ["fid", "kid", "is", "cmmd", "fd_clip"])
def test_an_interval_is_that_of_the_bootstrap(name: str) -> None:
    found = measure([name], DRAWN, other(name), num_resamples=30, seed=5)[name].interval
    expected = bootstrap(EXPECTED[name], DRAWN, num_resamples=30, seed=5)
    assert found == pytest.approx(expected, rel=1e-9)


def test_intervals_of_means_are_those_of_their_rows() -> None:
    found = measure(["clip_score", "r_precision"], DRAWN, PROMPTS, num_resamples=30)
    for name, values in {"clip_score": clip_score(DRAWN, PROMPTS), "r_precision": r_precision(DRAWN, PROMPTS)}.items():
        expected = bootstrap(lambda rows: rows.mean().item(), values[:, None], num_resamples=30)
        assert found[name].interval == pytest.approx(expected, rel=1e-9)


def test_intervals_of_shares_redraw_pictures_whose_reach_stays() -> None:
    found = measure(["precision", "recall", "density", "coverage"], DRAWN, OTHER, num_resamples=200)
    precise = torch.tensor([manifold_metrics(OTHER, row.repeat(6, 1)).precision for row in DRAWN])[:, None]
    expected = bootstrap(lambda rows: rows.mean().item(), precise, num_resamples=200)
    assert found["precision"].interval == pytest.approx(expected, rel=1e-6)
    # Of each redrawn set: which real pictures its own reach, and which it lies within the reach of.
    real_reach, reach = (torch.cdist(rows, rows).sort(dim=1).values[:, 5] for rows in (OTHER, DRAWN))
    distances = torch.cdist(OTHER, DRAWN)
    chosen = drawn_counts(len(DRAWN), 200, 0) > 0
    for name, pairs in {"recall": distances < reach, "coverage": distances < real_reach[:, None]}.items():
        shares = torch.stack([pairs[:, column].any(dim=1).double().mean() for column in chosen.T])
        assert found[name].interval == pytest.approx(interval_of(shares, 0.95), rel=1e-9)
    for measured in found.values():
        assert measured.interval is not None
        assert measured.interval.low < measured.value < measured.interval.high


def test_shared_work_gives_what_each_gives_alone() -> None:
    names = ["coverage", "fid", "precision", "kid"]
    together = measure(names, DRAWN, OTHER, num_resamples=3)
    assert list(together) == names
    assert together == {name: measure([name], DRAWN, OTHER, num_resamples=3)[name] for name in names}


def test_a_frechet_distance_takes_what_is_known_of_the_reference() -> None:
    known = Gaussian.of(OTHER)
    assert METRICS["fid"].compute(DRAWN, known) == pytest.approx(EXPECTED["fid"](DRAWN), rel=1e-9)
    with pytest.raises(InputError, match=r"kid takes rows of reference pictures beside the drawn rows, not Gaussian"):
        METRICS["kid"].compute(DRAWN, known)
    with pytest.raises(InputError, match=r"rows of 6 and of 5 features"):
        METRICS["fid"].compute(features(9, 1, 5), known)


@pytest.mark.parametrize("name", NAMES)
def test_bad_rows_are_refused_in_one_line(name: str) -> None:
    metric, given = METRICS[name], other(name)
    broken = DRAWN.clone()
    broken[3, 2] = torch.nan
    few = DRAWN[: metric.num_least - 1]
    attempts = [
        (broken, given, r"the (drawn features|\w+ embeddings) hold NaN or infinity in 1 of 120 rows"),
        (few, few if metric.feature == "clip_pair" else given, rf"have {len(few)} rows.*at least {metric.num_least}"),
    ]
    if given is None:
        attempts.append((DRAWN, OTHER, r"is takes nothing beside the drawn rows, not Tensor"))
    else:
        infinite = given.clone()
        infinite[5, 1] = torch.inf
        attempts.append((DRAWN, None, rf"{name} takes (rows of|embeddings of).*not NoneType"))
        attempts.append((DRAWN, infinite, r"hold NaN or infinity in 1 of \d+ rows \(the first is row 5\)"))
        attempts.append((features(120, 1, 4), given, r"rows of (6 and of 4|4 and of 6) features"))
    for drawn, beside, said in attempts:
        with pytest.raises(InputError, match=said) as caught:
            metric.compute(drawn, beside)
        assert "\n" not in str(caught.value)


def test_bad_questions_are_refused() -> None:
    with pytest.raises(InputError, match=r"there is no metric 'fidd'; did you mean 'fid'\?"):
        measure(["fidd"], DRAWN, OTHER)
    with pytest.raises(InputError, match=r"fid of inception, cmmd of clip; measure them apart"):
        measure(["fid", "cmmd"], DRAWN, OTHER)
    with pytest.raises(InputError, match=r"num_resamples=1 gives no interval"):
        measure(["fid"], DRAWN, OTHER, num_resamples=1)


@pytest.mark.parametrize("name", NAMES)
def test_too_few_pictures_are_said(name: str) -> None:
    metric = METRICS[name]
    said = few_images_warning(metric, metric.num_enough - 1)
    assert said is not None
    assert said.startswith(f"{metric.title} of {metric.num_enough - 1:,} pictures")
    assert metric.why in said
    assert few_images_warning(metric, metric.num_enough) is None


def test_a_frechet_distance_is_never_thought_enough_below_full_rank() -> None:
    assert few_images_warning(METRICS["fid"], 2048) is not None
    assert "2,048" in METRICS["fid"].why
