"""Help texts: every command and option has one, and lists of commands are readable on a terminal of 80 columns."""

from collections.abc import Iterator

import click
import pytest

from services.cli.__main__ import main


def commands(command: click.Command, path: str = "replyrate") -> Iterator[tuple[str, click.Command]]:
    """Every command below `command`, with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        for name, subcommand in command.commands.items():
            yield from commands(subcommand, f"{path} {name}")


COMMANDS = dict(commands(main))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_has_a_help_text(path: str) -> None:
    command = COMMANDS[path]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize("path", [path for path, command in COMMANDS.items() if isinstance(command, click.Group)])
def test_lists_of_commands_fit_into_80_columns(path: str) -> None:
    context = click.Context(COMMANDS[path], info_name=path, terminal_width=78)
    assert "..." not in COMMANDS[path].get_help(context).replace("[ARGS]...", "")
