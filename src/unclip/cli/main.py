"""The program `unclip`: its commands, and the line that an error becomes."""

import codecs
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from unclip import __version__
from unclip.cli import tasks  # noqa: F401  # defines the commands that draw
from unclip.cli.bench import bench_app
from unclip.cli.data import data_app, embed
from unclip.cli.draw import COMMANDS
from unclip.cli.evaluate import compare, evaluate
from unclip.cli.memorisation import memorisation
from unclip.cli.models import assemble, basis, convert, ema, info
from unclip.cli.options import RENAMED
from unclip.cli.plan import plan
from unclip.cli.serve import serve
from unclip.cli.train import train
from unclip.cli.verify import verify
from unclip.errors import UnclipError
from unclip.files import expand_home
from unclip.progress import say

USAGE_EXIT = 2
INTERRUPT_EXIT = 130
EVALUATE_MEMORISATION = "evaluate memorisation"
"""A command of two words, since `evaluate` itself takes a model: a folder of that name is ./memorisation."""
CLOSED_PIPE_EXIT = 1  # as typer has it, which sees most of them first
# typer exports this one usage error; its base is private, and its home differs between versions.
UsageError: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
OTHERS: Sequence[Callable[..., None]] = (
    train, serve, assemble, plan, embed, evaluate, compare, ema, convert, info, basis,
    verify,
)  # fmt: skip
for command in (*COMMANDS, *OTHERS):
    app.command()(command)
app.command(EVALUATE_MEMORISATION)(memorisation)
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    """An open, self-hosted DALL-E 2: text to images on your own machine."""
    if version:
        print(__version__)


def main() -> None:
    """Run the program on the arguments of the process and exit."""
    # Spinning threads take the cores from whatever else runs: beside a busy process drawing takes 1.6 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # A path or a caption that the terminal's encoding lacks is escaped, and the bytes of a file's name stay.
    codecs.register_error("unclip", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="unclip")
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        _forget(stream)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code: 0, 2 after one line about a wrong input, or 130 after an interrupt.

    An error of the operating system is such a line too, wherever it arises; but when whoever reads stdout is gone, the
    program ends quietly with 1.
    """
    if " ".join(arguments[:2]) == EVALUATE_MEMORISATION:
        arguments = [EVALUATE_MEMORISATION, *arguments[2:]]
    try:
        words = [_expand_home(argument) for argument in arguments]
        code = app(args=words or ["--help"], prog_name="unclip", standalone_mode=False) or 0
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except UnclipError as error:
        return _fail(_as_typed(str(error), arguments))
    except UsageError as error:
        command = "unclip" if error.ctx is None else error.ctx.command_path
        return _fail(f"{error.format_message()} (see {command} --help)")
    except BrokenPipeError:
        return CLOSED_PIPE_EXIT
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        return _fail(f"{place}{error.strerror or error}, says the operating system; give what it can read or write.")
    except UnicodeError as error:
        return _fail(f"there is text that cannot be read or written: {error}; give UTF-8.")
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPT_EXIT


def _fail(message: str) -> int:
    say(f"unclip: {' '.join(message.split())}")
    return USAGE_EXIT


# Shells replace ~ at the start of a word alone, and not where no such user is.
def _expand_home(argument: str) -> str:
    """Write out the home folder that `~/…`, `--option=~…` or `key=~…` stands for."""
    match = re.fullmatch(r"((?:-*[\w.-]+=)?)(~[\w.-]*(?:/.*)?)", argument, flags=re.DOTALL)
    if match is None or not (match[1] or "/" in match[2]):
        return argument
    return match[1] + str(expand_home(match[2]))


def _as_typed(message: str, arguments: Sequence[str]) -> str:
    """Call settings in the message of a part below as the command's options are: `num_steps` is `--steps`."""
    command = typer.main.get_command(app)
    for word in arguments:
        if not isinstance(command, TyperGroup) or word not in command.commands:
            break
        command = command.commands[word]
    options = {str(one.name): max(one.opts, key=len) for one in command.params if one.param_type_name == "option"}
    options |= {name: options[option] for name, option in RENAMED.items() if option in options}
    for name, option in options.items():
        # A name without an underscore is also a word of English, unless a value follows.
        end = r"\b" if "_" in name else "(?==)"
        message = re.sub(rf"(?<![\w.'\"/-])(?<!- ){name}{end}", option, message)
    return message


def _forget(stream: TextIO | None) -> None:
    """Drop what a stream could not take, or Python would report it once more at its end, with an exit code of 120."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """Handle an error of codecs: with the bytes that a name came from, or an escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)
