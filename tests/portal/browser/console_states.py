"""The states of the console's pages, as data, and which of them docs/console.md shows."""

import tomllib
from pathlib import Path
from typing import Final

from services.common.language import Language
from services.standalone.servers.paths import ROOT
from tests.portal.browser.states import FIGURES, WIDTHS, StatesPage

TABLES: Final[dict[str, dict[str, str]]] = tomllib.loads(
    (Path(__file__).parent / "console_states.toml").read_text("utf-8")
)
TEMPLATE: Final = {state: f"{template}.html" for template, states in TABLES.items() for state in states}
"""State → template of its page."""
HEAD: Final = """\
# The states of the console's pages

Each state of the pages for staff, in Debian's Chromium, in both languages and at two widths (390 and 1280 CSS pixels); where the page has a script,
also without JavaScript (the second figure). In every state, axe-core finds no violation, nothing is wider than the window, nothing is
requested from another origin, and nothing is refused by the page's own policy.
"""
CONSOLE: Final = StatesPage(
    ROOT / "docs" / "dev" / "console-states.md",
    HEAD + FIGURES.format(other_name="sellers", other_file="portal-states.md", option=" --console", example="rules"),
    {state: shown for states in TABLES.values() for state, shown in states.items()},
)
FOLLOWS: Final = frozenset({"work-waiting", "work-running", "rules-progress", "rules-progress-changed"})
"""States whose page follows something with scripts; the pages of all others have no script."""
QUALITY: Final = 34
"""Of WebP."""
HEIGHT: Final = 800
"""CSS pixels; what is below is cut off in docs/console.md."""
DESKTOP: Final = max(WIDTHS)
SHOWN: Final = {
    "search-results": "search",
    "company": "company",
    "new-link": "new-link",
    "new-link-made": "new-link-made",
    "mailbox": "mailbox",
    "inquiry": "explanation",
    "mailboxes": "mailboxes",
    "mailbox-list": "mailbox-list",
    "audit": "audit",
    "sign-in": "sign-in",
    "overview": "overview",
    "letters": "dead-letters",
    "letter": "dead-letter",
    "replay-check": "replay-check",
    "replay-done": "replay-done",
    "rules": "rule-sets",
    "rule-set": "rule-set",
    "rules-diff": "rules-diff",
    "rules-progress": "rules-progress",
    "keys": "api-keys",
    "key": "api-key",
    "key-secret": "new-key",
}
"""State → name of its picture in docs/console.md."""


def picture(state: str, language: Language) -> str:
    """The file of a picture."""
    return f"console-{SHOWN[state]}-{language}.webp"
