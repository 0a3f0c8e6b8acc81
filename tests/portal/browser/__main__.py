"""`python -m tests.portal.browser`: looks at every state of the seller's pages, and writes docs/dev/portal-states.md and docs/images.

With `--console` it looks at every state of the console's pages, and writes docs/dev/console-states.md and the pictures of docs/console.md. With
`--changed` it looks at the states of both whose templates, styles, scripts or texts have changed since they were looked at, and at nothing else. With
`--only PATTERN` it looks at the states whose names match a regular expression, and the others stay as they are. With a folder as argument it
draws every state, whole, and leaves the pictures there; the documentation stays as it is.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import msgspec
import pytest

from tests.portal.browser import console_states, images, states, test_console_states, test_states
from tests.portal.browser.console_states import CONSOLE
from tests.portal.browser.states import SELLERS, StatesPage


def sellers(pictures: Path) -> None:
    """The pages of sellers."""
    look(test_states, SELLERS, pictures)
    if test_states.PICTURES not in os.environ:
        images.copy(pictures, os.environ.get(test_states.ONLY, ".*"))


def console(pictures: Path) -> None:
    """The pages of the console."""
    look(test_console_states, CONSOLE, pictures)
    if test_states.PICTURES in os.environ:
        return
    for state in console_states.SHOWN:
        if re.fullmatch(os.environ.get(test_states.ONLY, ".*"), state):
            for language in states.LANGUAGES:
                drawn = pictures / f"{state}-{language}-{console_states.DESKTOP}.webp"
                (states.IMAGES / console_states.picture(state, language)).write_bytes(drawn.read_bytes())


def look(test: ModuleType, page: StatesPage, pictures: Path) -> None:
    """Look at states, draw them into a folder, and write the page that lists them."""
    os.environ[test_states.RECORD] = str(pictures)
    if pytest.main(["-q", f"{test.__file__}::test_each_state_is_in_order"]) != pytest.ExitCode.OK:
        sys.exit("a state is not in order; nothing was written")
    if test_states.PICTURES not in os.environ:
        seen = msgspec.json.decode((pictures / "seen.json").read_bytes(), type=list[states.SeenState])
        page.write(seen, is_part=test_states.ONLY in os.environ)


def into_documentation(write: Callable[[Path], None]) -> None:
    """Look at states, and take the pictures of the guides from a folder that is removed."""
    with TemporaryDirectory() as folder:
        write(Path(folder))


def look_at_changed() -> None:
    """Both kinds of pages."""
    for page, write in ((SELLERS, sellers), (CONSOLE, console)):
        changed = page.changed()
        print(f"{page.file.name}: {len(changed)} of {len(page.states)} states have changed", flush=True)
        if changed:
            os.environ[test_states.ONLY] = "|".join(map(re.escape, changed))
            into_documentation(write)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--console", action="store_true")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--only", metavar="PATTERN")
    chosen.add_argument("--changed", action="store_true")
    arguments = parser.parse_args()
    write = console if arguments.console else sellers
    if arguments.only:
        os.environ[test_states.ONLY] = arguments.only
    if arguments.changed:
        look_at_changed()
    elif arguments.folder:
        os.environ[test_states.PICTURES] = "all"
        write(arguments.folder)
    else:
        into_documentation(write)
