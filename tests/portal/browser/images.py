"""The small pictures of the guides: states as a phone shows them, and the sign-in at the provider as a desktop does."""

import re
from pathlib import Path
from typing import Final

from services.common.language import Language
from tests.portal.browser.states import IMAGES, LANGUAGES, WIDTHS

QUALITY: Final = 60
"""Of WebP."""
PHONE, DESKTOP = WIDTHS
STEPS: Final = {
    "link": PHONE,
    "consent": PHONE,
    "address": PHONE,
    "login-authorization-code": PHONE,
    "login-sign-in": DESKTOP,
    "test-login": PHONE,
    "connected": PHONE,
    "test-failed": PHONE,
    "mailboxes": PHONE,
    "panel": DESKTOP,
    "panel-company": DESKTOP,
    "panel-missing-coverage": PHONE,
    "panel-diagnosis": PHONE,
    "panel-why-timely": PHONE,
    "panel-test-mail-filed": PHONE,
    "panel-inquiries": DESKTOP,
    "panel-due": PHONE,
    "panel-changes": PHONE,
    "panel-mailboxes": PHONE,
    "panel-questions": PHONE,
    "panel-providers": PHONE,
    "panel-frame": DESKTOP,
}
"""States that the guides show → width of the window."""
HEIGHT: Final = 800
"""CSS pixels; what is below is cut off in the guides."""


def name(state: str, language: Language) -> str:
    """The file of a state."""
    prefix = "" if state.startswith("panel") else "connect-"
    return f"{prefix}{state}-{language}.webp"


def copy(pictures: Path, only: str = ".*") -> None:
    """Take the pictures of the guides from those of all states; `only`: what the names of the states match."""
    IMAGES.mkdir(exist_ok=True)
    for state, width in STEPS.items():
        if not re.fullmatch(only, state):
            continue
        for language in LANGUAGES:
            (IMAGES / name(state, language)).write_bytes((pictures / f"{state}-{language}-{width}.webp").read_bytes())
