"""What a quickstart did, for its user to read: losses, figures, pictures. Knows the folders of runs; trains nothing."""

import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from unclip.data import load_shards
from unclip.files import atomic_write
from unclip.metrics import COSINE_FIGURES
from unclip.models import count_parameters
from unclip.pipelines import UnClip
from unclip.recipes.choose import LEAST_STEPS, most_images
from unclip.recipes.own_data import Tell, read_check
from unclip.recipes.series import Progress, Stage
from unclip.report import Line, Report
from unclip.training.feed import held_out
from unclip.training.plan.cost import network_of

COLUMNS = ("stage", "parameters", "steps", "pictures seen", "minutes", "training loss", "held-out loss",
           "without average")  # fmt: skip
TITLES = {"clip": "CLIP", "prior": "prior", "decoder": "decoder"}
NUM_FINDINGS, NUM_DRAWN, NUM_BUCKETS = 20, 4, 200
LAST_SHARE = 0.1
"""Of a run's steps, over which its training loss is averaged."""
FEW = 2_000

Record = dict[str, Any]


def read_log(folder: Path) -> list[Record]:
    """The lines of a run's `log.jsonl`."""
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def stage_images(folder: Path) -> int:
    """Pictures that a run has seen."""
    log = read_log(folder)
    return int(log[-1]["images_seen"]) if log else 0


def stage_rows(stages: Sequence[Stage], out: Path) -> list[list[str | int | float]]:
    """A row of `COLUMNS` for each stage; the held-out losses are the last ones, of the averaged weights and of the
    others, and "none" where nothing was held out.
    """
    progress, rows = Progress.load(out), list[list[str | int | float]]()
    for stage in stages:
        log = read_log(out / stage.name)
        count = max(1, round(LAST_SHARE * len(log)))
        rows.append(
            [
                stage.name,
                count_parameters(network_of(stage.config.task)),
                len(log),
                stage_images(out / stage.name),
                round(progress.of(stage.name).seconds / 60.0, 2),
                fmean(line["loss"] for line in log[-count:]) if log else "none",
                _last(log, "held_out_loss"),
                _last(log, "held_out_loss_online"),
            ]
        )
    return rows


def too_few_steps(stages: Sequence[Stage], out: Path) -> str | None:
    """Which stages were trained for too few steps to draw anything, and the minutes that would do; None for none."""
    progress, short, factor = Progress.load(out), list[str](), 1.0
    for stage in stages:
        num_steps = len(read_log(out / stage.name))
        if num_steps < LEAST_STEPS:
            short.append(f"{stage.name} {num_steps:,}")
            factor = max(factor, LEAST_STEPS / max(1, num_steps))
    if not short:
        return None
    minutes = sum(progress.of(stage.name).seconds for stage in stages) / 60.0
    return (
        f"too few steps for more than blurs: {', '.join(short)}, where it takes {LEAST_STEPS} at least. At the pace of "
        f"this run about --minutes {math.ceil(factor * minutes)} would do (with another --out)."
    )


def write_report(
    stages: Sequence[Stage],
    out: Path,
    source: str,
    tell: Tell,
    *,
    device: str = "auto",
    seed: int = 0,
    is_smoke: bool = False,
) -> Path:
    """Write `out/report.html` and `out/report.md`; pictures are drawn by `out/model`."""
    report = Report(f"A model of {Path(source).name}")
    num_pictures = _introduce(report, stages, out, source, is_smoke)
    _draw(report, stages, out, tell, device, seed)
    report.heading("Stages")
    report.table(COLUMNS, stage_rows(stages, out))
    report.text(
        "The losses of CLIP and of the other stages measure different things. Where the held-out loss rises while the "
        "training loss falls, a stage learns its pictures by heart"
        + (", which is to be expected of so few." if num_pictures < FEW else ".")
    )
    _prior_figures(report, out)
    for stage in stages:
        _plot(report, stage, out / stage.name)
        _grid(report, stage, out / stage.name)
    _findings(report, out)
    return report.save(out)


def write_card(model: Path, stages: Sequence[Stage], out: Path, source: str, now: datetime) -> None:
    """Write the model folder's `MODEL_CARD.md`."""
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in stage_rows(stages, out)]
    lines = [
        f"- `{row['stage']}`: {row['parameters']:,} parameters, {row['pictures seen']:,} pictures seen, "
        f"{row['minutes']:.1f} minutes, training loss {_shown(row['training loss'])}, held-out loss "
        f"{_shown(row['held-out loss'])}"
        for row in rows
    ]
    data = load_shards(stages[0].config.data.folder, stages[0].config.data.source_size)
    given = [] if stages[0].name == "clip" else ["- `clip` was given and not trained."]
    text = f"""# {out.absolute().name}

Draws pictures like those it was trained on, from text, by `unclip`: an open DALL-E 2.

## Trained on

{len(data)} captioned pictures of `{Path(source).name}` ({read_check(out).description}), on {now:%Y-%m-%d}, by
`unclip train quickstart`. What the pictures and captions show, it draws; what they lack, it does not know.

## Stages

{chr(10).join([*given, *lines])}

Held-out losses are of pictures that no stage was trained on; without any, overfitting cannot be seen.

## Licence

Who may use this model depends on the rights to the pictures it was trained on; its maker says here which those are.
"""
    atomic_write(model / "MODEL_CARD.md", text)


def _introduce(report: Report, stages: Sequence[Stage], out: Path, source: str, is_smoke: bool) -> int:
    found = read_check(out)
    share = stages[0].config.data.validation_share
    keys = load_shards(stages[0].config.data.folder, stages[0].config.data.source_size).keys
    apart = int(held_out(keys, share).sum())
    minutes = sum(Progress.load(out).of(stage.name).seconds for stage in stages) / 60.0
    report.text(
        f"{source}: {found.description}. {len(keys)} pictures were used, {apart} of them held out for the figures; "
        f"{found.num_bad} left out. Training took {minutes:.1f} minutes."
    )
    report.text(_advice(stages, out, len(keys), is_smoke))
    report.text(f'Draw with: unclip generate "..." --model {out / "model"}')
    return len(keys)


def _advice(stages: Sequence[Stage], out: Path, num_pictures: int, is_smoke: bool) -> str:
    """What would make the model better, by what its stages had: time comes before pictures."""
    if is_smoke:
        return "A smoke run: its tiny networks draw noise, and show only that everything works."
    shortage = too_few_steps(stages, out)
    if shortage is not None:
        return f"{shortage[0].upper()}{shortage[1:]} More pictures would not help before that."
    is_full = all(stage_images(out / stage.name) >= 0.9 * most_images(stage.config, num_pictures) for stage in stages)
    few = (
        f"{num_pictures} pictures are few: expect the model to draw what it has seen, and to mix it a little. "
        if num_pictures < FEW
        else ""
    )
    if is_full:
        return f"{few}Every stage has seen its pictures as often as is of use: more pictures help, more time does not."
    return f"{few}More time and more pictures would both help."


def _draw(report: Report, stages: Sequence[Stage], out: Path, tell: Tell, device: str, seed: int) -> None:
    """Pictures of a few captions beside the real ones: of training, and of those that were held out."""
    pipe = UnClip.load(out / "model", device)
    data = load_shards(stages[0].config.data.folder, max(pipe.model.image_sizes))
    apart = held_out(data.keys, stages[0].config.data.validation_share)
    groups = {"captions that it was trained on": ~apart, "captions that were held out": apart}
    drawn = [(title, _spread(np.flatnonzero(chosen), NUM_DRAWN)) for title, chosen in groups.items()]
    total = sum(len(rows) for _, rows in drawn)
    done = 0
    for title, rows in drawn:
        if not len(rows):
            continue
        report.heading(f"Drawn: {title}")
        for row in rows:
            tell("report", done, total)
            caption, done = data.captions[row][0], done + 1
            image = pipe.text_to_image([caption or "a picture"], seed=seed).images[0]
            report.pictures([Image.fromarray(data.images[row]), image], [f"real: {caption}", "drawn"])
    tell("report", total, total)


def _prior_figures(report: Report, out: Path) -> None:
    lines = [line for line in read_log(out / "prior") if "recall_at_1" in line]
    if lines:
        report.heading("The prior on held-out pictures")
        report.text("Cosines of CLIP embeddings, and retrieval, at the last check.")
        rows = [(name, float(lines[-1][name]), meaning) for name, meaning in COSINE_FIGURES.items()]
        report.table(("figure", "value", "of"), rows)


def _plot(report: Report, stage: Stage, folder: Path) -> None:
    log = read_log(folder)
    report.heading(f"Losses of the {TITLES.get(stage.name, stage.name)}")
    lines = [_bucketed(log)]
    for name, key in (("held out", "held_out_loss"), ("held out, without average", "held_out_loss_online")):
        found = [line for line in log if key in line]
        if found:
            lines.append(Line(name, [line["images_seen"] for line in found], [line[key] for line in found]))
    report.plot(f"{stage.name}: loss", lines, "pictures seen", "loss")


def _bucketed(log: Sequence[Record]) -> Line:
    """The training loss, as the means of at most 200 stretches."""
    parts = np.array_split(np.arange(len(log)), min(NUM_BUCKETS, len(log))) if log else []
    xs = [float(log[int(part[-1])]["images_seen"]) for part in parts]
    ys = [fmean(log[int(index)]["loss"] for index in part) for part in parts]
    return Line("training", xs, ys)


def _grid(report: Report, stage: Stage, folder: Path) -> None:
    grids = sorted((folder / "samples").glob("*.png"))
    if grids:
        with Image.open(grids[-1]) as image:
            image.load()
        report.pictures([image], [f"{stage.name} after {int(grids[-1].stem):,} pictures: real above, drawn below"])


def _findings(report: Report, out: Path) -> None:
    found = read_check(out)
    report.heading("The pictures")
    captions = found.captions
    report.text(
        f"{found.num_samples} pictures, {captions.num_captions} captions, {captions.num_distinct} of them different. "
        + (f"Left out: {', '.join(_counts(found.counts))}." if found.counts else "No picture had a problem.")
    )
    if found.findings:
        rows = [(finding.name, str(finding.problem), finding.detail) for finding in found.findings[:NUM_FINDINGS]]
        report.table(("picture", "problem", "detail"), rows)
    if len(found.findings) > NUM_FINDINGS:
        report.text(f"{len(found.findings) - NUM_FINDINGS} more are in check.json.")


def _counts(counts: dict[Any, int]) -> Iterator[str]:
    return (f"{count} {problem}" for problem, count in sorted(counts.items()))


def _last(log: Sequence[Record], key: str) -> str | float:
    """The last value of a figure; "none" where the run has none."""
    values = [float(line[key]) for line in log if key in line]
    return values[-1] if values else "none"


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the numbers, evenly over them."""
    return indices[np.unique(np.linspace(0, len(indices) - 1, min(count, len(indices))).astype(int))]
