"""The small pictures of the guides: states as a phone shows them."""

from pathlib import Path
from typing import Final

from services.common.language import Language
from tests.portal.browser.states import IMAGES, LANGUAGES

QUALITY: Final = 60
"""Of WebP."""
STEPS: Final = (
    "link",
    "consent",
    "address",
    "login-authorization-code",
    "test-login",
    "connected",
    "test-failed",
    "mailboxes",
)
"""States that the guides show."""
WIDTH: Final = 390
HEIGHT: Final = 800
"""CSS pixels; what is below is cut off in the guides."""


def name(state: str, language: Language) -> str:
    """The file of a state."""
    return f"connect-{state}-{language}.webp"


def copy(pictures: Path) -> None:
    """Take the pictures of the guides from those of all states."""
    IMAGES.mkdir(exist_ok=True)
    for state in STEPS:
        for language in LANGUAGES:
            (IMAGES / name(state, language)).write_bytes((pictures / f"{state}-{language}-{WIDTH}.webp").read_bytes())
