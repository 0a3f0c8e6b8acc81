"""Looks at a page of the console and, with CONSOLE_PICTURES=docs/images, draws it for docs/console.md."""

import os
from pathlib import Path
from typing import Final

from tests.portal.browser.states import SeenState
from tests.support.browser_lab import UNLISTED, BrowserVisit

PICTURES: Final = os.environ.get("CONSOLE_PICTURES", "")


def look(window: BrowserVisit, picture: str = "") -> list[SeenState]:
    """Check the page that is shown at each width, and draw it as a picture of the documentation."""
    seen = window.look(UNLISTED)
    if PICTURES and picture:
        file = Path(PICTURES) / f"console-{picture}-{window.language}.webp"
        window.picture(file, quality=34, most_height=800)
    return seen
