"""`python -m tests.portal.browser`: looks at every state of the seller's pages, and writes docs/dev/portal-states.md and docs/images.

With `--console` it looks at every state of the console's pages, and writes the pictures of docs/console.md. With a folder as argument it draws
every state, whole, and leaves the pictures there; docs/images stays as it is. With `--only PATTERN` it looks at the states whose names match a
regular expression, and the others stay as they are.
"""

import argparse
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from tests.portal.browser import console_states, images, states, test_console_states, test_states


def main(pictures: Path) -> None:
    """The pages of sellers."""
    look(f"{test_states.__file__}::{test_states.test_each_state_is_in_order.__name__}", pictures)
    seen = msgspec.json.decode((pictures / "seen.json").read_bytes(), type=list[states.SeenState])
    states.PAGE.write_text(states.render(seen, states.lines() if test_states.ONLY in os.environ else None), "utf-8")
    if test_states.PICTURES not in os.environ:
        images.copy(pictures, os.environ.get(test_states.ONLY, ".*"))


def console(pictures: Path) -> None:
    """The pages of the console."""
    look(f"{test_console_states.__file__}::{test_console_states.test_each_state_is_in_order.__name__}", pictures)
    if test_states.PICTURES in os.environ:
        return
    for state in console_states.SHOWN:
        if re.fullmatch(os.environ.get(test_states.ONLY, ".*"), state):
            for language in states.LANGUAGES:
                drawn = pictures / f"{state}-{language}-{console_states.DESKTOP}.webp"
                (states.IMAGES / console_states.picture(state, language)).write_bytes(drawn.read_bytes())


def look(test: str, pictures: Path) -> None:
    """Look at states, and draw them into a folder."""
    os.environ[test_states.RECORD] = str(pictures)
    if pytest.main(["-q", test]) != pytest.ExitCode.OK:
        sys.exit("a state is not in order; nothing was written")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--console", action="store_true")
    parser.add_argument("--only", metavar="PATTERN")
    arguments = parser.parse_args()
    write = console if arguments.console else main
    if arguments.only:
        os.environ[test_states.ONLY] = arguments.only
    if arguments.folder:
        os.environ[test_states.PICTURES] = "all"
        write(arguments.folder)
    else:
        with TemporaryDirectory() as folder:
            write(Path(folder))
