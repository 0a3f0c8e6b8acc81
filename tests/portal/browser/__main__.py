"""`python -m tests.portal.browser`: looks at every state of the seller's pages, and writes docs/dev/portal-states.md and docs/images.

With a folder as argument it draws every state, whole, and leaves the pictures there; docs/images stays as it is. With `--only PATTERN` it looks at
the states whose names match a regular expression, and the others stay as they are.
"""

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from tests.portal.browser import images, states, test_states


def main(pictures: Path) -> None:
    os.environ[test_states.RECORD] = str(pictures)
    test = f"{test_states.__file__}::{test_states.test_each_state_is_in_order.__name__}"
    if pytest.main(["-q", test]) != pytest.ExitCode.OK:
        sys.exit("a state is not in order; nothing was written")
    seen = msgspec.json.decode((pictures / "seen.json").read_bytes(), type=list[states.SeenState])
    states.PAGE.write_text(states.render(seen, states.lines() if test_states.ONLY in os.environ else None), "utf-8")
    if test_states.PICTURES not in os.environ:
        images.copy(pictures, os.environ.get(test_states.ONLY, ".*"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--only", metavar="PATTERN")
    arguments = parser.parse_args()
    if arguments.only:
        os.environ[test_states.ONLY] = arguments.only
    if arguments.folder:
        os.environ[test_states.PICTURES] = "all"
        main(arguments.folder)
    else:
        with TemporaryDirectory() as folder:
            main(Path(folder))
