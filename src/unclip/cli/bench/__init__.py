"""`unclip bench …`: what sampling and training take. Knows the names of the commands; each is in its file."""

import typer

from unclip.cli.bench.sample import sample
from unclip.cli.bench.train import train

__all__ = ["bench_app"]

bench_app = typer.Typer(help="Measure seconds, memory and operations.", rich_markup_mode=None)


@bench_app.callback()
def bench() -> None:
    """Measure seconds, memory and operations."""


for command in (sample, train):
    bench_app.command()(command)
