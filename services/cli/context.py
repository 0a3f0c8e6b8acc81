"""What every command shares: settings, connections, common options, and how an error ends the process.

A command stays thin: it calls the room that knows the subject and prints the result. With `--json`, exactly one JSON
document goes to standard output; everything for people (progress, warnings, errors) goes to standard error.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar, get_args

import click
import psycopg

from services.cli import remedies
from services.cli.output import errors
from services.common.display import printable, printable_lines
from services.common.errors import (
    EXIT_CONFIG,
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    ConfigError,
    ReplyrateError,
    TransientError,
)
from services.common.hashing import Hasher
from services.common.language import Language
from services.common.postgres import connect
from services.common.settings import Settings, load_settings
from services.registry.errors import RegistryError
from services.registry.hash_key import check_hash_key
from services.registry.registry import Registry
from services.registry.vault import Vault

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

as_json = click.option("--json", "json_", is_flag=True, help="Print exactly one JSON document.")
in_language = click.option(
    "--lang",
    "language",
    type=click.Choice(get_args(Language)),
    default="en",
    show_default=True,
    help="Language of the texts.",
)


def use_environment(settings: Mapping[str, str]) -> None:
    """Let every command of this invocation read `settings` instead of the process environment."""
    click.get_current_context().find_root().obj = dict(settings)


def environment() -> Mapping[str, str]:
    """The settings of the installation that `--data` names, otherwise those of the process environment."""
    context = click.get_current_context(silent=True)
    installation: Mapping[str, str] | None = None if context is None else context.find_root().obj
    return os.environ if installation is None else installation


def load_config() -> Settings:
    """Every setting, checked; unknown names are printed as warnings. Raises ConfigError."""
    config = load_settings(environment())
    for warning in config.warnings:
        errors.print(f"warning: {warning}", style="yellow")
    return config


@contextmanager
def database(config: Settings) -> Iterator[psycopg.Connection]:
    """A connection for one command."""
    with connect(config.postgres.dsn.get_secret_value(), "replyrate-cli") as connection:
        yield connection


@contextmanager
def open_registry(config: Settings) -> Iterator[Registry]:
    """The registry for one command."""
    with database(config) as connection:
        hasher = Hasher(config.hash_key())
        check_hash_key(connection, hasher)
        yield Registry(connection, hasher, Vault(config.vault_key(), config.old_vault_key()))


class PrintableErrors(click.Group):
    """A group whose usage errors repeat what was typed, or pasted, as visible escapes; click prints it as it is."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """The context of an invocation, from its own arguments."""
        with _printable_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        """Run the command, from its arguments on."""
        with _printable_errors():
            return super().invoke(context)


@contextmanager
def _printable_errors() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        error.message = printable_lines(error.message)
        if isinstance(error, click.FileError):
            error.ui_filename = printable(str(error.ui_filename))
        raise


def guarded(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Print an error of ours as a sentence on standard error and exit with the code that belongs to it."""

    @wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            for problem in error.problems:
                errors.print(f"configuration: {printable(problem)}", style="red", markup=False, soft_wrap=True)
            sys.exit(EXIT_CONFIG)
        except TransientError as error:
            errors.print(printable(str(error)), style="red", markup=False, soft_wrap=True)
            sys.exit(EXIT_UNAVAILABLE)
        except RegistryError as error:
            errors.print(printable(remedies.explain(error)), style="red", markup=False, soft_wrap=True)
            sys.exit(EXIT_FAILED)
        except ReplyrateError as error:
            errors.print(printable(str(error)), style="red", markup=False, soft_wrap=True)
            sys.exit(EXIT_FAILED)
        except psycopg.errors.InsufficientPrivilege as error:
            errors.print(
                f"configuration: the user of REPLYRATE_POSTGRES__DSN lacks a privilege ({error.diag.message_primary});"
                " docs/dashboards.md lists the role that each command needs", style="red", markup=False, soft_wrap=True,
            )  # fmt: skip
            sys.exit(EXIT_CONFIG)
        except UnicodeEncodeError:
            # The shell passed bytes that are not UTF-8; Python keeps them as lone surrogates.
            errors.print("an argument is not UTF-8; write it in UTF-8", style="red")
            sys.exit(EXIT_FAILED)
        except psycopg.errors.UndefinedTable:
            errors.print("configuration: the database has no schema yet; run `replyrate migrate`", style="red")
            sys.exit(EXIT_CONFIG)

    return run
