"""`unclip data …`: the commands for data sets. Knows their names; each is in its file."""

import typer

from unclip.cli.data.check import check
from unclip.cli.data.emoji import emoji
from unclip.cli.data.prepare import prepare
from unclip.cli.data.stats import stats

__all__ = ["data_app"]

data_app = typer.Typer(help="Make and examine data sets.", rich_markup_mode=None)


@data_app.callback()
def data() -> None:
    """Make and examine data sets."""


for command in (prepare, check, stats, emoji):
    data_app.command()(command)
