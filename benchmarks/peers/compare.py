"""Claim: ours against the peers, same parameters, batch and steps: the ratio of seconds, with its spread.

    python benchmarks/peers/compare.py all [--repeats 5] [--minutes 60]
    python benchmarks/peers/compare.py prior_train decoder_train --repeats 3
    python benchmarks/peers/compare.py --list

Both sides are processes that have built their networks and wait. Each round asks one after the other for one unit of
work, in the opposite order of the round before, so that whatever slows the machine slows both. Results are kept after
every job: the same command again measures only what is missing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from install import REQUIREMENTS, is_installed, python  # noqa: E402
from jobs import JOBS, PEERS, SELF_CHECK, Job  # noqa: E402
from record import write_result  # noqa: E402

from unclip.errors import InputError, UnclipError, did_you_mean  # noqa: E402
from unclip.machine import describe_machine  # noqa: E402

KNOWN = {**JOBS, "self_check": SELF_CHECK}
LARGEST_DIFFERENCE = 0.05
"""Share by which the parameters of two sides may differ."""
ROWS = ("float32", "default")


class PeerError(UnclipError):
    """One side could not be measured."""


def main() -> int:
    """Measure the jobs asked for; the exit code is 2 for a wrong call, 1 where a job failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jobs", nargs="*", metavar="JOB", help="a name of --list, or all")
    parser.add_argument("--list", action="store_true", help="say what can be compared")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each job")
    parser.add_argument("--minutes", type=float, help="begin no round after so long")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each side")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--again", action="store_true", help="measure also what is finished")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results/peers.json")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:31} {PEERS[job.peer]:28} {job.about}" for name, job in KNOWN.items()))
        return 0
    try:
        names = job_names(options.jobs, options.repeats)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return measure_all(names, options)


def job_names(asked: Sequence[str], repeats: int) -> list[str]:
    """The jobs to measure; raises `InputError` for names that are not there and for less than one round."""
    for name in asked:
        if name != "all" and name not in KNOWN:
            raise InputError(f"no job is called {name!r}; {did_you_mean(name, KNOWN)}")
    if not asked:
        raise InputError("no job was named; give all, or names of --list.")
    if repeats < 1:
        raise InputError(f"repeats={repeats} measures nothing; give 1 or more.")
    return list(dict.fromkeys(name for entry in asked for name in (JOBS if entry == "all" else (entry,))))


def measure_all(names: Sequence[str], options: argparse.Namespace) -> int:
    """Measure one job after the other and keep each; what failed is said and left out."""
    deadline = None if options.minutes is None else time.monotonic() + 60.0 * options.minutes
    results: dict[str, Any] = json.loads(options.out.read_text())["jobs"] if options.out.exists() else {}
    failed, left = [], []
    for name in names:
        if not options.again and is_finished(results.get(name), name, options):
            print(f"{name}: kept, {len(results[name]['theirs']['seconds'])} rounds")
            continue
        if is_late(deadline):
            left.append(name)
            continue
        try:
            results[name] = compare(name, options, deadline)
        except PeerError as error:
            failed.append(name)
            print(f"error: {name}: {error}", file=sys.stderr)
            continue
        print("\n".join(lines_of(name, results[name])), flush=True)
        write_result(options.out, {"jobs": results}, options.device)
    if left:
        print(f"no time was left for {', '.join(left)}; the same command goes on.")
    return 1 if failed else 0


def is_finished(result: Mapping[str, Any] | None, name: str, options: argparse.Namespace) -> bool:
    """Whether a job was measured as it would be now, in as many rounds."""
    if result is None or len(result["theirs"]["seconds"]) < options.repeats:
        return False
    return bool(result["settings"] == settings_of(KNOWN[name], options))


def settings_of(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """All that decides what is measured."""
    sides = {"common": dict(job.common), "theirs": dict(job.theirs), "ours": dict(job.ours)}
    told = {"kind": job.kind, **sides, "device": options.device, "threads": options.threads}
    # As it comes back from the file.
    whole: dict[str, Any] = json.loads(json.dumps(told))
    return whole


def compare(name: str, options: argparse.Namespace, deadline: float | None) -> dict[str, Any]:
    """Measure one job; raises `PeerError` where a side fails or the sides are not of one size."""
    job = KNOWN[name]
    with ExitStack() as stack:
        theirs = stack.enter_context(Worker.start(job.peer, task_of(job, job.theirs, "float32", options)))
        ours = {row: Worker.start("ours", task_of(job, job.ours, row, options)) for row in ROWS}
        sides = {"theirs": theirs} | {row: stack.enter_context(worker) for row, worker in ours.items()}
        # Where the default is float32 already, it is not measured twice.
        if sides["default"].ready["dtype"] == "float32":
            sides.pop("default").close()
        check_sizes(sides["theirs"].ready["parameters"], sides["float32"].ready["parameters"])
        # The first unit also warms up: memory is taken from the system, kernels are chosen.
        flops = {side: worker.ask("count")["flops"] for side, worker in sides.items()}
        rounds = alternate(sides, options.repeats, deadline)
    measured = {side: summary(worker.ready, flops[side], rounds[side]) for side, worker in sides.items()}
    theirs_seconds = measured["theirs"]["seconds"]
    for row in ROWS:
        if row in measured:
            measured[row]["ratio"] = ratios(theirs_seconds, measured[row]["seconds"])
    machine = describe_machine(options.device)
    about = {"peer": PEERS[job.peer], "about": job.about, "settings": settings_of(job, options)}
    return {**about, **measured, "commit": machine.commit, "date": machine.date}


def alternate(sides: Mapping[str, "Worker"], repeats: int, deadline: float | None) -> dict[str, list[dict[str, float]]]:
    """Units of each side in turn, at least one; the order is turned around in every round."""
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(repeats):
        if number and is_late(deadline):
            break
        for side in list(sides) if number % 2 == 0 else list(reversed(sides)):
            rounds[side].append(sides[side].ask("go"))
    return rounds


def summary(ready: Mapping[str, Any], flops: int, rounds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """What is kept of one side."""
    seconds = [round(unit["seconds"], 5) for unit in rounds]
    return {
        **ready,
        "flops": flops,
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
        "peak_bytes": max(int(unit["peak_bytes"]) for unit in rounds),
    }


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """How many times our seconds theirs are, round by round: the median, the least and the most."""
    found = [their / our for their, our in zip(theirs, ours, strict=True)]
    return {"median": round(statistics.median(found), 3), "low": round(min(found), 3), "high": round(max(found), 3)}


def check_sizes(theirs: int, ours: int) -> None:
    """Raise `PeerError` for two sides that are not of one size."""
    if abs(ours / theirs - 1) > LARGEST_DIFFERENCE:
        raise PeerError(
            f"theirs has {theirs:,} parameters, ours {ours:,}; they may differ by {LARGEST_DIFFERENCE:.0%}."
        )


def lines_of(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    """What is printed of a job."""
    theirs = result["theirs"]
    package = result["peer"]
    yield f"{name}: {result['about']}"
    yield f"  {package + ' ' + theirs['versions'][package]:36} {side_line(theirs)}"
    for row in ROWS:
        if row in result:
            ratio = result[row]["ratio"]
            spread = f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
            times = f"their seconds / ours {spread}, rounds: {len(theirs['seconds'])}"
            yield f"  {'ours, ' + result[row]['dtype']:36} {side_line(result[row])}   {times}"


def side_line(side: Mapping[str, Any]) -> str:
    """The figures of one side."""
    memory, size = side["peak_bytes"] / 1e9, side["parameters"] / 1e6
    return (
        f"{side['median_seconds']:9.3f} s {memory:6.2f} GB {size:8.2f} M parameters {side['flops'] / 1e9:10.1f} GFLOP"
    )


def is_late(deadline: float | None) -> bool:
    """Whether the time is over."""
    return deadline is not None and time.monotonic() >= deadline


def task_of(job: Job, own: Mapping[str, Any], precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """What a worker is told."""
    told = {"kind": job.kind, "settings": {**job.common, **own}, "precision": precision}
    return {**told, "device": options.device, "threads": options.threads}


class Worker:
    """A process that has built its side and waits."""

    def __init__(self, process: subprocess.Popen[str], errors: Any) -> None:
        self.process, self.errors = process, errors
        self.ready: dict[str, Any] = {}

    @classmethod
    @contextmanager
    def start(cls, peer: str, task: Mapping[str, Any]) -> Iterator["Worker"]:
        """Start the worker of a peer and wait until it is ready; it is gone when the block ends."""
        threads = str(task["threads"])
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        command = [interpreter(peer), "-W", "ignore", str(HERE / f"run_{peer}.py")]
        with tempfile.TemporaryFile("w+") as errors:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
            worker = cls(subprocess.Popen(command, text=True, env=environment, **pipes), errors)
            try:
                worker.ready = worker.ask(json.dumps(task))
                yield worker
            finally:
                worker.close()

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line and wait for the answer; raises `PeerError` with the last line that a dead worker wrote."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.process.wait()
            self.errors.seek(0)
            said = [line for line in self.errors.read().splitlines() if line.strip()]
            raise PeerError(f"its worker ended with {self.process.returncode}: {said[-1] if said else 'no message'}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def close(self) -> None:
        """End the process; a second call does nothing."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def interpreter(peer: str) -> str:
    """The Python of a peer's environment, or this one where it has the pinned version; `PeerError` without either."""
    if peer == "ours":
        return sys.executable
    if is_installed(peer):
        return str(python(peer))
    package = PEERS[peer]
    try:
        found = version(package)
    except PackageNotFoundError:
        found = ""
    if found and f"{package}=={found}" in (REQUIREMENTS / f"{peer}.txt").read_text().splitlines():
        return sys.executable
    raise PeerError(f"{package} is not installed; run python benchmarks/peers/install.py {peer}.")


if __name__ == "__main__":
    sys.exit(main())
