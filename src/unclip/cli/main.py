"""The program `unclip`: its commands, and what a failure looks like. Knows no command's work."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from unclip import __version__
from unclip.cli.assemble import assemble
from unclip.cli.basis import basis
from unclip.cli.bench import bench_app
from unclip.cli.compare import compare
from unclip.cli.convert import convert
from unclip.cli.data import data_app
from unclip.cli.edit import edit
from unclip.cli.ema import ema
from unclip.cli.embed import embed
from unclip.cli.evaluate import evaluate
from unclip.cli.finish import finish
from unclip.cli.generate import generate
from unclip.cli.image_to_image import image_to_image
from unclip.cli.info import info
from unclip.cli.inpaint import inpaint
from unclip.cli.interpolate import interpolate
from unclip.cli.mix import mix
from unclip.cli.outpaint import outpaint
from unclip.cli.plan import plan
from unclip.cli.probe import probe
from unclip.cli.train import train
from unclip.cli.upscale import upscale
from unclip.cli.variations import variations
from unclip.errors import UnclipError

__all__ = ["main", "run"]

USAGE_EXIT = 2
INTERRUPT_EXIT = 130
# typer exports this one usage error; its base is private, and its home differs between versions.
UsageError: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
COMMANDS = (
    generate, variations, image_to_image, mix, interpolate, edit, inpaint, outpaint, upscale, probe, finish, train,
    assemble, plan, embed, evaluate, compare, ema, convert, info, basis,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    """An open, self-hosted DALL-E 2: text to images on your own machine."""
    if version:
        print(__version__)


def main() -> None:
    """Run the program on the arguments of the process and exit."""
    # Spinning threads take the cores from whatever else runs: drawing beside one busy process takes 5 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code: 0, 2 after one line about a wrong input, or 130 after an interrupt."""
    try:
        return app(args=list(arguments) or ["--help"], prog_name="unclip", standalone_mode=False) or 0
    except UnclipError as error:
        return _fail(str(error))
    except UsageError as error:
        return _fail(f"{error.format_message()} (see unclip --help)")
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPT_EXIT


def _fail(message: str) -> int:
    print(f"unclip: {' '.join(message.split())}", file=sys.stderr)
    return USAGE_EXIT
