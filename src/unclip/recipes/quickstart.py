"""From a folder of pictures to a model that draws, in one call that resumes where it was interrupted."""

import json
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
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
from unclip.models import Decoder, DecoderConfig
from unclip.pipelines.options import Progress
from unclip.progress import say
from unclip.recipes import emoji, pixels
from unclip.recipes.choose import (
    MIN_STEPS,
    SHARDS,
    Circumstances,
    batch_for,
    choose,
    defaults_of,
    most_images,
    space_of,
    with_batch,
    with_length,
)
from unclip.recipes.own_data import CHECK_FILE, DATA_FILE, make_shards, problems_of, read_check
from unclip.recipes.report import too_few_steps, write_card, write_report
from unclip.recipes.series import TrainingStage, assemble, fit_basis, train_stages
from unclip.runtime import autocast, forked_random_state, resolve_device
from unclip.training import StopFlag, TrainConfig, Trainer, init_cluster, stop_on_signal
from unclip.training.config import DecoderTaskConfig, Precision
from unclip.training.plan.cost import count_flops_per_image
from unclip.training.precision import fastest_precision
from unclip.training.state import sole_run

REQUEST_FILE, CHOICE_FILE = "quickstart.json", "choice.json"
CARD = "model/MODEL_CARD.md"
MARGIN = 0.95
"""Of the time that is planned for, so that the learning rate has come down before the time is over."""
LONGEST_SHARE = 0.1
"""Of a stage's time, that measuring its rate takes."""
MEASURE_SECONDS, MEASURE_STEPS, MEASURE_BATCH = 3.0, 30, 32
"""Most time and steps that a rate is measured for, and pictures of such a step of the emoji decoder."""
SMOKE_RATE = 1e9
"""Operations a second; nothing depends on it then."""


class Quickstart(Config):
    """The request of a quickstart; a folder takes one of them."""

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


def quickstart(
    request: Quickstart, out: Path | str, *, device: str = "auto", progress: Progress | None = None
) -> Path | None:
    """Check the pictures, make shards, train every stage, join them to `out/model` (returned) and write `out/report.*`.

    The same call again resumes where this one was interrupted; None is returned after SIGINT or SIGTERM. `progress` is
    called with the progress outside the stages: (what, done, of how many). Raises `InputError` if `out` holds something
    else or another run works in it, `DataError` for unusable pictures.
    """
    out = Path(out)
    if "://" not in request.source:
        # The full path is the same from everywhere.
        request = request.replace(source=os.path.abspath(request.source))
    _check_request(request, out)
    resolve_device(device)
    with sole_run(out), stop_on_signal() as stopped:
        _keep_request(request, out)

        def watched(what: str, done: int, total: int) -> None:
            if stopped:
                raise _InterruptedError("a signal came")
            if progress is not None:
                progress(what, done, total)

        try:
            return _run(request, out, device, stopped, watched)
        except _InterruptedError:
            _note(f"{stopped.name}: stopped; the same command goes on")
            return None
        finally:
            # Without any result the request need not be kept; the empty folder then goes with its lock.
            if all(path.name == REQUEST_FILE or path.name.startswith(".") for path in out.iterdir()):
                (out / REQUEST_FILE).unlink(missing_ok=True)


def _run(request: Quickstart, out: Path, device: str, stopped: StopFlag, progress: Progress) -> Path | None:
    clip = _existing_clip(request, out)
    data = make_shards(request.source, request.captions, out, progress, None if clip is None else clip.image_size)
    check = read_check(out)
    left_out = f"; left out: {problems_of(check)} ({out / CHECK_FILE} names them)" if check.counts else ""
    _note(f"{check.description}; {data.num_pictures} are used, drawn at {data.image_size} px{left_out}")
    if (out / CHOICE_FILE).exists():
        # With another measured rate another choice would be made, and trained stages would not fit it.
        circumstances = load_config(Circumstances, json.loads((out / CHOICE_FILE).read_text()))
    else:
        precision: Precision = "float32" if request.smoke else fastest_precision(resolve_device(device))
        circumstances = Circumstances(
            **data.model_dump(),
            flops_per_second=SMOKE_RATE if request.smoke else flops_per_second(device, precision),
            minutes=request.minutes,
            precision=precision,
            seed=request.seed,
            smoke=request.smoke,
        )
        atomic_write(out / CHOICE_FILE, circumstances.model_dump_json(indent=2) + "\n")
    stages, reason = choose(circumstances, out, clip), space_of(circumstances).reason
    _note(reason)
    minutes, fit = (None, None) if request.smoke else (request.minutes, partial(_fit, device, data.num_pictures))
    if not train_stages(stages, out, stopped, minutes=minutes, device=device, fit=fit):
        return None
    model = out / "model"
    if not (out / CARD).exists():
        progress("join", 0, 2)
        names = ["clip", *(stage.name for stage in stages if stage.name != "clip")]
        assemble(out.resolve().name, names, defaults_of(stages), out, "bfloat16")
        fit_basis(model, stages[0].config.data)
        progress("join", 1, 2)
        write_card(model, stages, out, request.source, datetime.now(UTC))
        progress("join", 2, 2)
    if not (out / "report.html").exists():
        write_report(
            stages,
            out,
            request.source,
            progress,
            device=device,
            seed=request.seed,
            is_smoke=request.smoke,
            reason=reason,
        )
    shortage = None if request.smoke else too_few_steps(stages, out)
    if shortage is not None:
        _note(shortage)
    return model


def _check_request(request: Quickstart, out: Path) -> None:
    """Raise `InputError` if `out` holds something else, or results of another request."""
    path = out / REQUEST_FILE
    if not path.exists():
        if out.exists() and any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise InputError(f"{out} holds something else; name a new folder with --out.")
        # Before a folder is made for pictures that do not exist.
        open_source(request.source, request.captions)
        return
    pairs = zip(load_config(Quickstart, json.loads(path.read_text())), request, strict=True)
    changes = [f"{name} was {old!r}, now {new!r}" for (name, old), (_, new) in pairs if old != new]
    if changes and (out / SHARDS).exists():
        raise InputError(f"{out} was begun with other settings ({'; '.join(changes)}); use another --out, or those.")


def _keep_request(request: Quickstart, out: Path) -> None:
    """Write the request; results of an earlier one, which has no shards yet, are removed."""
    text = request.model_dump_json(indent=2) + "\n"
    if not (out / REQUEST_FILE).exists() or (out / REQUEST_FILE).read_text() != text:
        (out / CHECK_FILE).unlink(missing_ok=True)
        shutil.rmtree(out / "clip", ignore_errors=True)
        atomic_write(out / REQUEST_FILE, text)
        return
    steps = {"shards": CHECK_FILE, "the choice of networks": DATA_FILE, "training": CHOICE_FILE, "the report": CARD}
    reached = [what for what, file in steps.items() if (out / file).exists()]
    _note(f"{out}: goes on with {reached[-1]}" if reached else f"{out}: begins again with the check")


def _existing_clip(request: Quickstart, out: Path) -> ClipConfig | None:
    """Copy the CLIP that was named to `out/clip` and return its shape; None where one is to be trained."""
    if request.clip is None:
        return None
    if not (out / "clip" / "tokenizer.json").exists():
        encoder = open_clip(request.clip, "cpu")
        encoder.clip.need_vision()
        encoder.save(out / "clip")
    return TextImageEncoder.load(out / "clip").clip.config


def _fit(device: str, num_pictures: int, stage: TrainingStage, folder: Path, seconds: float | None) -> TrainConfig:
    """Set the length of a stage by its own measured rate when it begins; later calls find it in its folder."""
    if (folder / "config.json").exists():
        return load_config(TrainConfig, json.loads((folder / "config.json").read_text()))
    assert seconds is not None, stage
    config, most = stage.config, most_images(stage.config, num_pictures)
    rate = images_per_second(config, device, LONGEST_SHARE * seconds)
    batch_size = batch_for(config, min(MARGIN * rate * seconds, most))
    if batch_size < config.batch_size:
        config = with_batch(config, batch_size)
        rate = images_per_second(config, device, LONGEST_SHARE * seconds)
    config = with_length(config, min(MARGIN * rate * seconds, most))
    num_steps = config.num_images // config.batch_size
    _note(
        f"{stage.name}: {rate:.0f} pictures/s, {num_steps:,} steps of {config.batch_size} pictures in about "
        f"{config.num_images / rate / 60:.1f} minutes"
    )
    if num_steps < MIN_STEPS:
        _note(
            f"{stage.name}: {num_steps:,} steps give blurs, it takes {MIN_STEPS} at least; more --minutes would "
            "do, or a machine that does nothing else (OMP_NUM_THREADS=1 on one that does)"
        )
    return config


def flops_per_second(device: str, precision: Precision) -> float:
    """Measure the operations a second that the device sustains in training the emoji decoder, on random numbers."""
    config, torch_device = pixels.decoder(), resolve_device(device)
    assert isinstance(config.task, DecoderTaskConfig), config.task
    shape, flops = config.task.model, count_flops_per_image(config, emoji.CLIP)
    assert isinstance(shape, DecoderConfig), shape
    with forked_random_state(0), autocast(torch_device, getattr(torch, precision)):
        network = Decoder(shape).to(torch_device)
        x_t = torch.randn(MEASURE_BATCH, 3, shape.image_size, shape.image_size, device=torch_device)
        embedding = torch.randn(MEASURE_BATCH, shape.embedding_dim, device=torch_device)
        timestep = torch.full((MEASURE_BATCH,), 500.0, device=torch_device)

        def step() -> None:
            loss: torch.Tensor = network(x_t, timestep, embedding).square().mean()
            loss.backward()
            loss.item()  # waits for the device

        step()
        return MEASURE_BATCH * flops * _steps_per_second(step, MEASURE_SECONDS)


def images_per_second(config: TrainConfig, device: str, seconds: float = MEASURE_SECONDS) -> float:
    """Measure the images a second of the run itself, with its data and optimiser, in steps whose weights are dropped.

    Steps are timed for `seconds`, 3 at most.
    """
    with init_cluster(device) as cluster:
        trainer = Trainer.open(config, cluster)
        trainer.step()
        trainer.step()
        return config.batch_size * _steps_per_second(trainer.step, min(seconds, MEASURE_SECONDS))


def _steps_per_second(step: Callable[[], object], seconds: float) -> float:
    started, count = time.monotonic(), 0
    while count < 1 or (count < MEASURE_STEPS and time.monotonic() - started < seconds):
        step()
        count += 1
    return count / (time.monotonic() - started)


def _note(text: str) -> None:
    say(f"quickstart  {text}")
