"""The states of the pages, as data, and the page of the documentation that lists what axe said about each."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from services.common.language import Language
from services.connect import texts
from services.connect.report import STAGES
from services.portal.pages import redirect_sign_in
from services.signin import authorization
from services.standalone.servers.paths import ROOT

Scripts = Literal["scripts", "no-scripts"]
PAGE: Final = ROOT / "docs" / "dev" / "portal-states.md"
IMAGES: Final = ROOT / "docs" / "images"
LANGUAGES: Final[tuple[Language, ...]] = ("en", "zh")
WIDTHS: Final[dict[int, int]] = {390: 844, 1280: 900}
"""Width of a window → its height, in CSS pixels: a phone and a desktop."""
SCRIPTS: Final[tuple[Scripts, ...]] = ("scripts", "no-scripts")
SIGN_IN_CODES: Final = sorted(
    {
        *authorization.ERRORS.values(),
        "sign-in-incomplete",
        "admin-consent-needed",
        "issuer-differs",
        *redirect_sign_in.OUTCOMES.values(),
        "sign-in-not-set-up",
    }
    - {"sign-in-used"}
)
"""Codes that the page of a refused sign-in shows; `sign-in-used` has a state with the way to its result."""


def _states() -> dict[str, str]:
    listed: dict[str, str] = tomllib.loads((Path(__file__).parent / "states.toml").read_text("utf-8"))["states"]
    running = {f"test-{stage}": f"the connection test, at the stage {stage}" for stage in STAGES}
    sentences = {
        code: entry["en"]["says"] for kind in ("code", "request") for code, entry in texts.load()[kind].items()
    }
    failures = {f"failed-{code}": says for code, says in sentences.items()}
    sign_ins = {f"refused-{code}": sentences[code] for code in SIGN_IN_CODES}
    return listed | running | failures | sign_ins


STATES: Final = _states()
"""State → what is shown: those of states.toml; `test-STAGE`; for each code of services/connect/texts.toml the page of a request
that failed with it, `failed-CODE`; for each code of a sign-in that ends without access its page, `refused-CODE`."""
FOLLOWS: Final = frozenset(
    {
        "look-up", "test-waiting", "withdrawing", *(f"test-{stage}" for stage in STAGES), "panel-test-mail-looking", "panel-frame",
    }
)  # fmt: skip
"""States whose page follows something with scripts, or is fetched by one; the pages of all others have no script at all."""

HEAD: Final = """\
# The states of the seller's pages

Each state of the connect page and the panel, in Debian's Chromium, in both languages and at two widths (390 and 1280 CSS pixels); where the page has a script,
also without JavaScript (the second figure). In none of them axe-core finds a violation, anything is wider than the window, anything is
requested from another origin, or anything is refused by the page's own policy.

The figures are the rules of axe that applied and found nothing. kB: the page and everything that it loads, compressed (gzip), in the language in
which it is larger.

`python -m tests.portal.browser` draws all of them and writes this page and the images of the guides; it takes some minutes. With `--only 'panel.*'` it
draws the states whose names match that, and the others stay as they are. `make test` draws each
state once, alternating between languages and widths, and of the failures, which share a template, those whose page differs.

"""


@dataclass(frozen=True, slots=True)
class SeenState:
    """What axe said about a state of a page."""

    state: str
    template: str
    language: Language
    width: int
    scripts: Scripts
    passed: int
    """Rules that applied and found nothing."""
    compressed: int
    """Bytes of the page and of what it loads, each compressed."""


def render(seen: Iterable[SeenState], earlier: Mapping[str, str] | None = None) -> str:
    """The page: a row for each state, a column for each language and width. `earlier`: lines of states that were not looked at now."""
    columns = [(language, width) for language in LANGUAGES for width in WIDTHS]
    by_state: dict[str, list[SeenState]] = {state: [] for state in STATES}
    for entry in seen:
        by_state[entry.state].append(entry)
    lines = [
        f"| State | What is shown | Template | {' | '.join(f'{language} {width}' for language, width in columns)} | kB |",
        f"| --- | --- | --- |{' --- |' * len(columns)} --- |",
    ]
    for state, entries in by_state.items():
        if not entries and earlier is not None and state in earlier:
            lines.append(earlier[state])
            continue
        passed = {(entry.language, entry.width, entry.scripts): entry.passed for entry in entries}
        cells = [
            ", ".join(str(passed[key, width, scripts]) for scripts in SCRIPTS if (key, width, scripts) in passed)
            for key, width in columns
        ]
        kilobytes = f"{max(entry.compressed for entry in entries) / 1000:.1f}"
        lines.append(f"| `{state}` | {STATES[state]} | {entries[0].template} | {' | '.join(cells)} | {kilobytes} |")
    return HEAD + "\n".join(lines) + "\n"


def lines() -> dict[str, str]:
    """The states on the rendered page, with their lines."""
    listed = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    return {line.partition(" | ")[0].strip("| `"): line for line in listed}


def rows() -> dict[str, str]:
    """The states on the rendered page, with their templates."""
    cells = [line.split(" | ") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    return {state.strip("| `"): template for state, _, template, *_ in cells}
