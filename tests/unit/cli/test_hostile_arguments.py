"""What was typed or pasted comes back in an error as visible escapes, from every command."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from services.cli.__main__ import main

HOSTILE = "a\x1b[2J\x9b31m\u202e[/b]\u2028\r\x07"


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))


@pytest.mark.parametrize("path", list(commands(main)), ids=" ".join)
@pytest.mark.parametrize(
    "arguments", [[f"--{HOSTILE}"], [f"-{HOSTILE}"], [HOSTILE] * 9], ids=["option", "letter", "words"]
)
def test_a_usage_error_repeats_an_argument_as_visible_escapes(path: tuple[str, ...], arguments: list[str]) -> None:
    done = CliRunner().invoke(main, [*path, *arguments], env={}, color=True)
    assert done.exit_code in (1, 2, 78) and isinstance(done.exception, SystemExit), done.exception
    assert done.output and all(line.isprintable() for line in done.output.split("\n")), repr(done.output)


@pytest.mark.parametrize("name", ["REPLYRATE_\x1b[2J\u202e", "REPLYRATE_[/red]\x9b"])
def test_a_setting_with_a_hostile_name_is_warned_about_visibly(name: str) -> None:
    done = CliRunner().invoke(main, ["config", "check"], env={name: "x"}, color=True)
    assert isinstance(done.exception, SystemExit)
    assert all(line.isprintable() for line in done.output.split("\n")), repr(done.output)
