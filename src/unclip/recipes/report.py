"""The report of a quickstart and the model's card: losses, figures and pictures from the folders of its runs."""

import json
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from unclip.data import load_shards
from unclip.files import atomic_write
from unclip.metrics import COSINE_FIGURES
from unclip.model import write_hashes
from unclip.model.families import build_on_meta
from unclip.models import count_parameters
from unclip.pipelines import UnClip
from unclip.pipelines.options import Progress
from unclip.recipes.choose import MIN_STEPS, most_images
from unclip.recipes.own_data import problems_of, read_check
from unclip.recipes.series import SeriesProgress, TrainingStage
from unclip.report import Line, Report
from unclip.training.feed import held_out

COLUMNS = ("stage", "parameters", "steps", "pictures seen", "minutes", "training loss", "held-out loss",
           "without average")  # fmt: skip
MAX_FINDINGS, MAX_DRAWN, MAX_POINTS = 20, 4, 200
LAST_SHARE = 0.1
"""Of a run's steps, over which its training loss is averaged."""
FEW = 2_000


def write_report(
    stages: Sequence[TrainingStage],
    out: Path,
    source: str,
    progress: Progress,
    *,
    device: str = "auto",
    seed: int = 0,
    is_smoke: bool = False,
    reason: str = "",
) -> Path:
    """Write `out/report.html` and `out/report.md`; pictures are drawn by `out/model`.

    `reason` says why the stages are these.
    """
    report, check, data = Report(f"A model of {Path(source).name}"), read_check(out), stages[0].config.data
    keys = load_shards(data.folder, data.source_size).keys
    minutes = sum(SeriesProgress.load(out).of(stage.name).seconds for stage in stages) / 60.0
    report.text(
        f"{source}: {check.description}. {len(keys)} pictures were used, "
        f"{int(held_out(keys, data.validation_share).sum())} of them held out for the figures; {check.num_bad} left "
        f"out. Training took {minutes:.1f} minutes."
    )
    report.text(_advice(stages, out, len(keys), is_smoke))
    report.text(f'Draw with: unclip generate "..." --model {out / "model"}')
    _draw(report, stages, out, progress, device, seed)
    report.heading("Stages")
    if reason:
        report.text(f"{reason[0].upper()}{reason[1:]}.")
    report.table(COLUMNS, [[*row.values()] for row in _stage_rows(stages, out)])
    report.text(
        "The losses of CLIP and of the other stages measure different things. Where the held-out loss rises while the "
        "training loss falls, a stage learns its pictures by heart"
        + (", which is to be expected of so few." if len(keys) < FEW else ".")
    )
    cosines = [line for line in _read_log(out / "prior") if "recall_at_1" in line]
    if cosines:
        report.heading("The prior on held-out pictures")
        report.text("Cosines of CLIP embeddings, and retrieval, at the last check.")
        rows = [(name, float(cosines[-1][name]), meaning) for name, meaning in COSINE_FIGURES.items()]
        report.table(("figure", "value", "of"), rows)
    for stage in stages:
        _add_losses(report, stage, out / stage.name)
    report.heading("The pictures")
    captions = check.captions
    report.text(
        f"{check.num_samples} pictures, {captions.num_captions} captions, {captions.num_distinct} of them different. "
        + (f"Left out: {problems_of(check)}." if check.counts else "No picture had a problem.")
    )
    if check.findings:
        findings = [(item.name, str(item.problem), item.detail) for item in check.findings[:MAX_FINDINGS]]
        report.table(("picture", "problem", "detail"), findings)
    if len(check.findings) > MAX_FINDINGS:
        report.text(f"{len(check.findings) - MAX_FINDINGS} more are in check.json.")
    return report.save(out)


def write_card(model: Path, stages: Sequence[TrainingStage], out: Path, source: str, now: datetime) -> None:
    """Write the model folder's `MODEL_CARD.md`."""

    def shown(value: str | float) -> str:
        return value if isinstance(value, str) else f"{value:.4g}"

    lines = [] if stages[0].name == "clip" else ["- `clip` was given and not trained."]
    lines += [
        f"- `{row['stage']}`: {row['parameters']:,} parameters, {row['pictures seen']:,} pictures seen, "
        f"{row['minutes']:.1f} minutes, training loss {shown(row['training loss'])}, held-out loss "
        f"{shown(row['held-out loss'])}"
        for row in _stage_rows(stages, out)
    ]
    data = load_shards(stages[0].config.data.folder, stages[0].config.data.source_size)
    text = f"""# {out.absolute().name}

Draws pictures like those it was trained on, from text, by `unclip`: an open DALL-E 2.

## Trained on

{len(data)} captioned pictures of `{Path(source).name}` ({read_check(out).description}), on {now:%Y-%m-%d}, by
`unclip train quickstart`. What the pictures and captions show, it draws; what they lack, it does not know.

## Stages

{chr(10).join(lines)}

Held-out losses are of pictures that no stage was trained on; without any, overfitting cannot be seen.

## Licence

Who may use this model depends on the rights to the pictures it was trained on; its maker says here which those are.
"""
    atomic_write(model / "MODEL_CARD.md", text)
    write_hashes(model)


def too_few_steps(stages: Sequence[TrainingStage], out: Path) -> str | None:
    """Name the stages that were trained for too few steps to draw, and the minutes that would do; None if none was."""
    num_steps = {stage.name: len(_read_log(out / stage.name)) for stage in stages}
    short = {name: count for name, count in num_steps.items() if count < MIN_STEPS}
    if not short:
        return None
    progress = SeriesProgress.load(out)
    minutes = sum(progress.of(stage.name).seconds for stage in stages) / 60.0
    factor = MIN_STEPS / max(1, min(short.values()))
    return (
        f"too few steps for more than blurs: {', '.join(f'{name} {count:,}' for name, count in short.items())}, where "
        f"it takes {MIN_STEPS} at least. At the pace of this run about --minutes {math.ceil(factor * minutes)} would "
        "do (with another --out)."
    )


def _read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `log.jsonl`."""
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _stage_rows(stages: Sequence[TrainingStage], out: Path) -> list[dict[str, Any]]:
    """Return a row by `COLUMNS` for each stage.

    The held-out losses are the last ones, with the averaged and with the other weights; "none" without held-out
    pictures.
    """
    progress, rows = SeriesProgress.load(out), list[dict[str, Any]]()
    for stage in stages:
        log = _read_log(out / stage.name)
        last = log[-max(1, round(LAST_SHARE * len(log))) :]
        row = (
            stage.name,
            count_parameters(build_on_meta(stage.config.task.model)),
            len(log),
            int(log[-1]["images_seen"]) if log else 0,
            round(progress.of(stage.name).seconds / 60.0, 2),
            fmean(line["loss"] for line in last) if log else "none",
            *(
                next((float(line[key]) for line in reversed(log) if key in line), "none")
                for key in ("held_out_loss", "held_out_loss_online")
            ),
        )
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    return rows


def _advice(stages: Sequence[TrainingStage], out: Path, num_pictures: int, is_smoke: bool) -> str:
    """Say what would make the model better: time comes before pictures."""
    if is_smoke:
        return "A smoke run: its tiny networks draw noise, and show only that everything works."
    shortage = too_few_steps(stages, out)
    if shortage is not None:
        return f"{shortage[0].upper()}{shortage[1:]} More pictures would not help before that."
    seen = {stage.name: _read_log(out / stage.name)[-1]["images_seen"] for stage in stages}
    is_full = all(seen[stage.name] >= 0.9 * most_images(stage.config, num_pictures) for stage in stages)
    few = f"{num_pictures} pictures are few: expect the model to draw what it has seen, and to mix it a little. "
    if is_full:
        advice = "Every stage has seen its pictures as often as is of use: more pictures help, more time does not."
    else:
        advice = "More time and more pictures would both help."
    return few + advice if num_pictures < FEW else advice


def _draw(
    report: Report, stages: Sequence[TrainingStage], out: Path, progress: Progress, device: str, seed: int
) -> None:
    """Add pictures of a few captions beside the real ones: of training, and of those that were held out."""
    pipe = UnClip.load(out / "model", device)
    data = load_shards(stages[0].config.data.folder, max(pipe.model.image_sizes))
    is_held_out = held_out(data.keys, stages[0].config.data.validation_share)
    masks = {"captions that it was trained on": ~is_held_out, "captions that were held out": is_held_out}
    groups = {}
    for title, chosen in masks.items():
        rows = np.flatnonzero(chosen)
        places = np.linspace(0, len(rows) - 1, min(MAX_DRAWN, len(rows))).astype(int)
        groups[title] = rows[np.unique(places)]
    done, total = 0, sum(map(len, groups.values()))
    for title, rows in groups.items():
        if len(rows):
            report.heading(f"Drawn: {title}")
        for row in rows:
            progress("report", done, total)
            caption, done = data.captions[row][0], done + 1
            image = pipe.text_to_image([caption or "a picture"], seed=seed).images[0]
            report.pictures([Image.fromarray(data.images[row]), image], [f"real: {caption}", "drawn"])
    progress("report", total, total)


def _add_losses(report: Report, stage: TrainingStage, folder: Path) -> None:
    """Add a run's losses, the training loss as the means of at most 200 stretches, and its last sample grid."""
    log = _read_log(folder)
    stretches = np.array_split(np.arange(len(log)), min(MAX_POINTS, len(log))) if log else []
    lines = [
        Line(
            "training",
            [float(log[int(part[-1])]["images_seen"]) for part in stretches],
            [fmean(log[int(index)]["loss"] for index in part) for part in stretches],
        )
    ]
    for name, key in (("held out", "held_out_loss"), ("held out, without average", "held_out_loss_online")):
        records = [line for line in log if key in line]
        if records:
            lines.append(Line(name, [line["images_seen"] for line in records], [line[key] for line in records]))
    report.heading(f"Losses of the {'CLIP' if stage.name == 'clip' else stage.name}")
    report.plot(f"{stage.name}: loss", lines, "pictures seen", "loss")
    grids = sorted((folder / "samples").glob("*.png"))
    if grids:
        with Image.open(grids[-1]) as image:
            image.load()
        report.pictures([image], [f"{stage.name} after {int(grids[-1].stem):,} pictures: real above, drawn below"])
