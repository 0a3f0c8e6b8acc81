"""What the commands share: settings, connections, how data are printed, how a refusal ends.

Every command is thin: it asks the room that knows, and prints. With `--json` exactly one JSON document goes to
standard output; everything for people (progress, warnings, refusals) goes to standard error.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import click
import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from services.common.errors import (
    EXIT_CONFIG,
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    ConfigError,
    ReplyrateError,
    TransientError,
)
from services.common.hashing import Hasher
from services.common.postgres import connect
from services.common.settings import Settings, load_settings
from services.registry.registry import Registry
from services.registry.vault import Vault

P = ParamSpec("P")
T = TypeVar("T")
Tell = Callable[[str, int, int], None]
"""Told a stage of long work, how much of it is done, and how much there is."""

errors = Console(stderr=True, highlight=False)
as_json = click.option("--json", "json_", is_flag=True, help="Print exactly one JSON document.")


WORLD: dict[str, str] = {}
"""Settings of the own world that `--data` names; they stand for those of the environment."""


def load_config() -> Settings:
    """The settings of this environment; unknown names are told."""
    found = load_settings(WORLD or os.environ)
    for warning in found.warnings:
        errors.print(f"warning: {warning}", style="yellow")
    return found


@contextmanager
def database(found: Settings) -> Iterator[psycopg.Connection]:
    """A connection for one command."""
    with connect(found.postgres.dsn.get_secret_value(), "replyrate-cli") as connection:
        yield connection


@contextmanager
def registry(found: Settings) -> Iterator[Registry]:
    """The registry for one command."""
    with database(found) as connection:
        yield Registry(connection, Hasher(found.hash_key()), Vault(found.vault_key(), found.old_vault_key()))


def guarded(command: Callable[P, T]) -> Callable[P, T]:
    """Turn our errors into a sentence on standard error and the exit code of the contract."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            for problem in error.problems:
                errors.print(f"configuration: {problem}", style="red", markup=False, soft_wrap=True)
            sys.exit(EXIT_CONFIG)
        except TransientError as error:
            errors.print(str(error), style="red", markup=False, soft_wrap=True)
            sys.exit(EXIT_UNAVAILABLE)
        except ReplyrateError as error:
            errors.print(str(error), style="red", markup=False, soft_wrap=True)
            sys.exit(EXIT_FAILED)
        except psycopg.errors.InsufficientPrivilege as error:
            errors.print(
                f"configuration: the user of REPLYRATE_POSTGRES__DSN may not do this ({error.diag.message_primary});"
                " docs/dashboards.md lists the role that each command needs", style="red", markup=False, soft_wrap=True,
            )  # fmt: skip
            sys.exit(EXIT_CONFIG)
        except psycopg.errors.UndefinedTable:
            errors.print("configuration: the database has no schema yet; run `replyrate migrate`", style="red")
            sys.exit(EXIT_CONFIG)

    return run


def print_json(value: object) -> None:
    """One JSON document: numbers as numbers, instants with `Z`, days as text."""
    click.echo(json.dumps(plain(value), ensure_ascii=False))


def plain(value: Any) -> Any:
    """`value` as JSON knows it."""
    match value:
        case dict():
            return {str(name): plain(part) for name, part in value.items()}
        case list() | tuple():
            return [plain(part) for part in value]
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Decimal():
            return int(value) if value == value.to_integral_value() and abs(value) >= 1 else float(value)
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case _:
            return value


def print_table(rows: list[dict[str, Any]], columns: dict[str, str], title: str = "") -> None:
    """A table for people: `columns` maps names of `rows` to headings."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(text(row.get(name)) for name in columns))
    Console(highlight=False).print(table)


def text(value: Any) -> str:
    """One cell: nothing for None, minutes for instants."""
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return str(plain(value))


def percent(value: Any) -> str:
    """`94.7 %`, or a dash for "not measured": never a 0 that is none."""
    return "–" if value is None else f"{float(value) * 100:.1f} %"


def duration(seconds: Any) -> str:
    """`3:20 h`."""
    if seconds is None:
        return "–"
    minutes = round(float(seconds) / 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02} h" if hours else f"{minutes} min"


def bar(share: float, width: int = 24) -> str:
    """A bar of at most `width` cells, in eighths."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")


class ProgressBars:
    """A progress bar for each stage on standard error, when somebody looks."""

    def __enter__(self) -> Tell:
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=errors, transient=True,
            disable=not errors.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._bars.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def _tell(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done)
