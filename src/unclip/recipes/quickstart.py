"""From a folder of pictures to a model that draws, in one call that goes on where it was interrupted.

Knows the order of the work; each part of it is elsewhere.
"""

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from unclip.clip import ClipConfig, TextImageEncoder
from unclip.config import Config, load_config
from unclip.data import open_source
from unclip.errors import InputError, UnclipError
from unclip.files import atomic_write
from unclip.model import open_clip
from unclip.progress import say
from unclip.recipes.choose import (
    LEAST_STEPS,
    SHARDS,
    Circumstances,
    batch_for,
    choose,
    defaults_of,
    most_images,
    with_batch,
    with_length,
)
from unclip.recipes.own_data import CHECK_FILE, DATA_FILE, OwnData, Tell, make_shards, read_check
from unclip.recipes.rates import flops_per_second, images_per_second
from unclip.recipes.report import too_few_steps, write_card, write_report
from unclip.recipes.series import Fit, Stage, assemble, fit_basis, train_stages
from unclip.runtime import inference_dtype, resolve_device
from unclip.training import StopFlag, TrainConfig, stop_on_signal
from unclip.training.config import Precision
from unclip.training.state import sole_run

ASKED_FILE, CHOICE_FILE = "quickstart.json", "choice.json"
MODEL = "model"
CARD = "model/MODEL_CARD.md"
MARGIN = 0.95
"""Of the time that is planned for, so that the learning rate has come down before the time is over."""

LONGEST_SHARE = 0.1
"""Of a stage's time, that measuring its rate takes."""
SMOKE_RATE = 1e9
"""Operations a second; nothing depends on it then."""


class Quickstart(Config):
    """What is asked of a quickstart; a folder takes one of them."""

    source: str
    """A folder, a table, a .tar, a saved set, or a URL of shards, as `unclip.data.open_source` takes it."""
    captions: str | None = None
    """txt, table, folders or none; else it is found out."""
    clip: str | None = None
    """A model whose CLIP is used as it is; None = a CLIP is trained."""
    minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 25.0
    """Of training, all stages together; the check, the shards and the report come on top."""
    seed: int = 0
    smoke: bool = False
    """Tiny networks, trained for seconds, that draw noise."""


class _InterruptedError(UnclipError):
    """A signal came where no stage is trained."""


def quickstart(asked: Quickstart, out: Path | str, *, device: str = "auto", tell: Tell | None = None) -> Path | None:
    """Check the pictures, make shards, train every stage, join them to `out/model` (returned) and write `out/report.*`.

    The same call again goes on where this one was interrupted; None is returned after SIGINT or SIGTERM. `tell` hears
    of progress outside the stages: (what, done, of how many). Raises `InputError` where `out` was begun for something
    else or another run works in it, `DataError` for pictures that cannot be used.
    """
    out = Path(out)
    asked = _settled(asked)
    _check_asked(asked, out)
    resolve_device(device)
    with sole_run(out), stop_on_signal() as stopped:
        _keep_asked(asked, out)
        try:
            return _go_on(asked, out, device, stopped, tell or _tell_nobody)
        except _InterruptedError:
            _note(f"{stopped.name}: stopped; the same command goes on")
            return None
        finally:
            _leave_nothing(out)


def _go_on(asked: Quickstart, out: Path, device: str, stopped: StopFlag, tell: Tell) -> Path | None:
    tell = _watched(tell, stopped)
    clip = _given_clip(asked, out)
    data = make_shards(asked.source, asked.captions, out, tell, None if clip is None else clip.image_size)
    _note(_found(out, data))
    stages = choose(_circumstances(asked, data, out, device), out, clip)
    minutes, fit = (None, None) if asked.smoke else (asked.minutes, _fit(device, data.num_pictures))
    if not train_stages(stages, out, stopped, minutes=minutes, device=device, fit=fit):
        return None
    model = out / MODEL
    if not (out / CARD).exists():
        tell("join", 0, 2)
        names = ["clip", *(stage.name for stage in stages if stage.name != "clip")]
        assemble(out.resolve().name, names, defaults_of(stages), out, "bfloat16")
        fit_basis(model, stages[0].config.data)
        tell("join", 1, 2)
        write_card(model, stages, out, asked.source, datetime.now(UTC))
        tell("join", 2, 2)
    if not (out / "report.html").exists():
        write_report(stages, out, asked.source, tell, device=device, seed=asked.seed, is_smoke=asked.smoke)
    shortage = None if asked.smoke else too_few_steps(stages, out)
    if shortage is not None:
        _note(shortage)
    return model


def _settled(asked: Quickstart) -> Quickstart:
    """With the source by its full path, so that it is the same from everywhere."""
    is_path = "://" not in asked.source
    return asked.replace(source=os.path.abspath(asked.source)) if is_path else asked


def _check_asked(asked: Quickstart, out: Path) -> None:
    """Raise `InputError` where `out` holds something else, or what was made there was asked otherwise."""
    path = out / ASKED_FILE
    if not path.exists():
        if out.exists() and any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise InputError(f"{out} holds something else; name a new folder with --out.")
        # Before a folder is made for what is not there.
        open_source(asked.source, asked.captions)
        return
    changed = _changes(load_config(Quickstart, json.loads(path.read_text())), asked)
    if changed and (out / SHARDS).exists():
        raise InputError(f"{out} was begun with other settings ({'; '.join(changed)}); use another --out, or those.")


def _changes(before: Quickstart, asked: Quickstart) -> list[str]:
    pairs = zip(before, asked, strict=True)
    return [f"{name} was {old!r}, now {new!r}" for (name, old), (_, new) in pairs if old != new]


def _keep_asked(asked: Quickstart, out: Path) -> None:
    text = asked.model_dump_json(indent=2) + "\n"
    if (out / ASKED_FILE).exists() and (out / ASKED_FILE).read_text() == text:
        steps = [
            ("shards", CHECK_FILE),
            ("the choice of networks", DATA_FILE),
            ("training", CHOICE_FILE),
            ("the report", CARD),
        ]
        done = [what for what, file in steps if (out / file).exists()]
        _note(f"{out}: goes on with {done[-1]}" if done else f"{out}: begins again with the check")
        return
    # Nothing that depends on the old settings stays.
    (out / CHECK_FILE).unlink(missing_ok=True)
    shutil.rmtree(out / "clip", ignore_errors=True)
    atomic_write(out / ASKED_FILE, text)


def _leave_nothing(out: Path) -> None:
    """Where nothing was made yet, what was asked need not be kept; the empty folder then goes with its lock."""
    if all(path.name == ASKED_FILE or path.name.startswith(".") for path in out.iterdir()):
        (out / ASKED_FILE).unlink(missing_ok=True)


def _given_clip(asked: Quickstart, out: Path) -> ClipConfig | None:
    """The shape of the CLIP that was named, which is copied to `out/clip` first; None where one is to be trained."""
    if asked.clip is None:
        return None
    if not (out / "clip" / "tokenizer.json").exists():
        encoder = open_clip(asked.clip, "cpu")
        encoder.clip.need_vision()
        encoder.save(out / "clip")
    return TextImageEncoder.load(out / "clip").clip.config


def _circumstances(asked: Quickstart, data: OwnData, out: Path, device: str) -> Circumstances:
    """Measured once: another rate would be another choice, and the stages would not fit what is there."""
    path = out / CHOICE_FILE
    if path.exists():
        return load_config(Circumstances, json.loads(path.read_text()))
    is_fast = inference_dtype(resolve_device(device)) == torch.bfloat16
    precision: Precision = "bfloat16" if is_fast else "float32"
    rate = SMOKE_RATE if asked.smoke else flops_per_second(device, precision)
    given = Circumstances(
        num_pictures=data.num_pictures,
        image_size=data.image_size,
        vocab_size=data.vocab_size,
        longest_caption=data.longest_caption,
        flops_per_second=rate,
        minutes=asked.minutes,
        precision=precision,
        seed=asked.seed,
        smoke=asked.smoke,
    )
    atomic_write(path, given.model_dump_json(indent=2) + "\n")
    return given


def _fit(device: str, num_pictures: int) -> Fit:
    """Sets the length of a stage by its own measured rate when it begins; later calls find it in its folder."""

    def fit(stage: Stage, folder: Path, seconds: float | None) -> TrainConfig:
        begun = folder / "config.json"
        if begun.exists():
            return load_config(TrainConfig, json.loads(begun.read_text()))
        assert seconds is not None, stage
        config, most = stage.config, most_images(stage.config, num_pictures)
        rate = images_per_second(config, device, LONGEST_SHARE * seconds)
        batch_size = batch_for(config, min(MARGIN * rate * seconds, most))
        if batch_size < config.batch_size:
            config = with_batch(config, batch_size)
            rate = images_per_second(config, device, LONGEST_SHARE * seconds)
        config = with_length(config, min(MARGIN * rate * seconds, most))
        num_steps = config.num_images // config.batch_size
        _note(f"{stage.name}: {rate:.0f} pictures/s, {num_steps:,} steps of {config.batch_size} pictures in about "
              f"{config.num_images / rate / 60:.1f} minutes")  # fmt: skip
        if num_steps < LEAST_STEPS:
            _note(
                f"{stage.name}: {num_steps:,} steps give blurs, it takes {LEAST_STEPS} at least; more --minutes would "
                "do, or a machine that does nothing else (OMP_NUM_THREADS=1 on one that does)"
            )
        return config

    return fit


def _found(out: Path, data: OwnData) -> str:
    report = read_check(out)
    counts = ", ".join(f"{count} {problem}" for problem, count in sorted(report.counts.items()))
    left_out = f"; left out: {counts} ({out / 'check.json'} names them)" if counts else ""
    return f"{report.description}; {data.num_pictures} are used, drawn at {data.image_size} px{left_out}"


def _watched(tell: Tell, stopped: StopFlag) -> Tell:
    """`tell`, which ends the work it is told of once a signal has come."""

    def watched(what: str, done: int, total: int) -> None:
        if stopped:
            raise _InterruptedError("a signal came")
        tell(what, done, total)

    return watched


def _tell_nobody(what: str, done: int, total: int) -> None:
    del what, done, total


def _note(text: str) -> None:
    say(f"quickstart  {text}")
