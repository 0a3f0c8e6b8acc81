"""How data are printed: JSON documents, CSV, tables, values as text, and the progress of long work.

Everything that a command prints goes through this module, because ids, keys, headers, folder names and texts of servers
come from outside: characters that a terminal would interpret are printed as visible escapes (services.common.display), no
text is read as markup, and no cell of a CSV file is a formula.
"""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from services.common.display import escaped_json, printable, printable_lines
from services.common.tabular import as_csv, plain

ReportProgress = Callable[[str, int, int], None]
"""Called with a stage of long work, how much of it is done, and how much there is."""

MAX_WIDTH: Final = 10_000
"""Columns of a table that is not printed on a terminal."""


class SafeConsole(Console):
    """A console for text from outside: no markup, no emoji codes, and no character that a terminal interprets.

    Styles come from arguments and from `Text` objects, whose text the caller passes through `printable`.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Rich turns every string into `Text` here: lines to print, cells, titles and headings of tables."""
        return super().render_str(printable_lines(text), **{**options, "markup": False, "emoji": False})


errors = SafeConsole(stderr=True)
"""Standard error, for everything that is not the data a command prints."""


def print_json(value: object) -> None:
    """One JSON document: numbers as numbers, instants with `Z`, days as text."""
    click.echo(escaped_json(json.dumps(plain(value), ensure_ascii=False)))


def echo(line: str = "") -> None:
    """Print text on standard output; line feeds in it stay."""
    click.echo(printable_lines(line))


def print_csv(rows: list[dict[str, Any]]) -> None:
    """Print rows as CSV on standard output."""
    click.echo(as_csv(rows), nl=False)


def print_table(rows: list[dict[str, Any]], columns: dict[str, str], title: str = "") -> None:
    """A table for people: `columns` maps names of `rows` to headings. Cells are folded on a terminal only."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for cells in rows:
        table.add_row(*(text(cells.get(name)) for name in columns))
    console = SafeConsole()
    if not console.is_terminal:
        console.width = max(
            console.width, console.measure(table, options=console.options.update(max_width=MAX_WIDTH)).maximum
        )
    console.print(table)


def text(value: Any) -> str:
    """One cell or value in one line: a dash for None, minutes for instants."""
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return printable(str(plain(value)))


class ProgressBars:
    """A progress bar for each stage on standard error; nothing when that is not a terminal."""

    def __enter__(self) -> ReportProgress:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), console=errors, transient=True,
            disable=not errors.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._bars.start()
        return self._report

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def _report(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(printable(stage), total=total)
        self._bars.update(self._tasks[stage], completed=done)


class StatusLine:
    """The current step of long work on standard error: one line that changes on a terminal, else each step once."""

    def __init__(self, console: Console = errors) -> None:
        self._console = console
        self._status = console.status("starting")
        self._printed = ""

    def __enter__(self) -> "StatusLine":
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the line off the terminal."""
        self._status.stop()

    def update(self, step: str) -> None:
        """Show `step`; a step that repeats the one before is not printed again."""
        self._status.update(Text(printable(step)))
        if not self._console.is_terminal and step != self._printed:
            self._console.print(Text(printable(step)))
            self._printed = step
