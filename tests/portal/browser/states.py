"""The states of the pages, as data, and the page of the documentation that lists what axe said about each."""

import json
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from services.common.language import Language
from services.standalone.servers.paths import ROOT

Scripts = Literal["scripts", "no-scripts"]
HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results.json"
PAGE: Final = ROOT / "docs" / "dev" / "portal-states.md"
IMAGES: Final = ROOT / "docs" / "images"
LANGUAGES: Final[tuple[Language, ...]] = ("en", "zh")
WIDTHS: Final[dict[int, int]] = {390: 844, 1280: 900}
"""Width of a window → its height, in CSS pixels: a phone and a desktop."""
STATES: Final[dict[str, str]] = tomllib.loads((HERE / "states.toml").read_text("utf-8"))["states"]
"""State → what is shown."""

HEAD: Final = """\
# The states of the seller's pages

`tests/portal/browser` shows each state in Debian's Chromium, with real mail servers behind it, in both languages, at two widths
(390 and 1280 CSS pixels), with and without JavaScript. In each of them axe-core finds no violation, nothing is wider than the
window, nothing is requested from another origin, and nothing is refused by the page's own policy; otherwise the test fails.

The figures are the rules of axe that applied and found nothing. Rendered by `python -m tests.portal.browser`.

"""


@dataclass(frozen=True, slots=True)
class SeenState:
    """What axe said about a state of a page."""

    state: str
    language: Language
    width: int
    scripts: Scripts
    passed: int
    """Rules that applied and found nothing."""


def store(seen: Iterable[SeenState], file: Path = RESULTS) -> None:
    """Write results, each once, in the order of the states."""
    order = list(STATES)
    unique = {(entry.state, entry.language, entry.width, entry.scripts): entry for entry in seen}
    entries = sorted(
        unique.values(), key=lambda entry: (order.index(entry.state), entry.language, entry.width, entry.scripts)
    )
    file.write_text("[\n" + ",\n".join(json.dumps(asdict(entry)) for entry in entries) + "\n]\n", "utf-8")


def load(file: Path = RESULTS) -> list[SeenState]:
    """The stored results."""
    return [SeenState(**entry) for entry in json.loads(file.read_text("utf-8"))]


def render(results: Iterable[SeenState]) -> str:
    """The page: a row for each state, a column for each language and width."""
    columns = [(language, width) for language in LANGUAGES for width in WIDTHS]
    passed: dict[tuple[str, Language, int], dict[Scripts, int]] = {}
    for entry in results:
        passed.setdefault((entry.state, entry.language, entry.width), {})[entry.scripts] = entry.passed
    lines = [
        f"| State | What is shown | {' | '.join(f'{language} {width}' for language, width in columns)} |",
        f"| --- | --- |{' --- |' * len(columns)}",
    ]
    for state, shown in STATES.items():
        cells = [_cell(passed.get((state, language, width), {})) for language, width in columns]
        lines.append(f"| `{state}` | {shown} | {' | '.join(cells)} |")
    return HEAD + "\n".join(lines) + "\n"


def _cell(passed: dict[Scripts, int]) -> str:
    names: dict[Scripts, str] = {"scripts": "with", "no-scripts": "without"}
    return ", ".join(f"{passed[scripts]} {name}" for scripts, name in names.items() if scripts in passed)
