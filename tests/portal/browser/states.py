"""The states of the pages, as data, and the pages of the documentation that list what axe said about each."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from services.common.language import Language
from services.connect import texts
from services.connect.report import STAGES
from services.portal.pages import redirect_sign_in
from services.signin import authorization
from services.standalone.servers.paths import ROOT
from tests.portal.browser.digests import TEMPLATES, digest

Scripts = Literal["scripts", "no-scripts"]
IMAGES: Final = ROOT / "docs" / "images"
LANGUAGES: Final[tuple[Language, ...]] = ("en", "zh")
WIDTHS: Final[dict[int, int]] = {390: 844, 1280: 900}
"""Width of a window → its height, in CSS pixels: a phone and a desktop."""
COLUMNS: Final = [(language, width) for language in LANGUAGES for width in WIDTHS]
"""Of the pages of the documentation: what is looked at of each state."""
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
        "look-up", "test-waiting", "folders-waiting", "folders-testing", "withdrawing", *(f"test-{stage}" for stage in STAGES), "panel-test-mail-looking", "panel-frame",
    }
)  # fmt: skip
"""States whose page follows something with scripts, or is fetched by one; the pages of all others have no script at all."""

HEAD: Final = """\
# The states of the seller's pages

Each state of the connect page and the panel, in Debian's Chromium, in both languages and at two widths (390 and 1280 CSS pixels); where the page has a script,
also without JavaScript (the second figure). In every state, axe-core finds no violation, nothing is wider than the window, nothing is
requested from another origin, and nothing is refused by the page's own policy.
"""
FIGURES: Final = """
The figures are the rules of axe that applied and found nothing. kB: the page and everything that it loads, compressed (gzip), in the language in
which it is larger. Digest: of the template, what it includes, its styles and scripts, and the texts of its pages, as they were when the state was looked at.

`python -m tests.portal.browser --changed` looks at the states whose digest is no longer that of the files, and brings this page, the one
of the [{other_name}]({other_file}) and the pictures of the guides up to date. `make test` fails while a digest is no longer that of the files. Without `--changed`, `python -m
tests.portal.browser{option}` looks at all states of this page, which takes some minutes; with `--only '{example}.*'` at those whose names match that.
"""
ALTERNATING: Final = """
`make test` draws each state once, alternating between languages and widths, and of the failures, which share a template, those whose page differs.
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


@dataclass(frozen=True, slots=True)
class StatesPage:
    """A page of the documentation that lists states. `states`: state → what is shown."""

    file: Path
    head: str
    states: Mapping[str, str]

    def write(self, seen: Iterable[SeenState], *, is_part: bool) -> None:
        """Render the page; `is_part`: what was not looked at now stays as it is on the page."""
        earlier = self._lines() if is_part else {}
        by_state: dict[str, list[SeenState]] = {state: [] for state in self.states}
        for entry in seen:
            by_state[entry.state].append(entry)
        lines = [
            f"| State | What is shown | Template | {' | '.join(f'{language} {width}' for language, width in COLUMNS)} | kB | Digest |",
            f"| --- | --- | --- |{' --- |' * len(COLUMNS)} --- | --- |",
            *(self._line(state, entries) if entries else earlier[state] for state, entries in by_state.items()),
        ]
        self.file.write_text(self.head + "\n" + "\n".join(lines) + "\n", "utf-8")

    def _line(self, state: str, entries: Sequence[SeenState]) -> str:
        """What was seen of a state in all languages, widths and scripts."""
        passed = {(entry.language, entry.width, entry.scripts): entry.passed for entry in entries}
        cells = [
            ", ".join(str(passed[key, width, scripts]) for scripts in SCRIPTS if (key, width, scripts) in passed)
            for key, width in COLUMNS
        ]
        kilobytes, template = f"{max(entry.compressed for entry in entries) / 1000:.1f}", entries[0].template
        return f"| `{state}` | {self.states[state]} | {template} | {' | '.join(cells)} | {kilobytes} | {digest(template)} |"

    def templates(self) -> dict[str, str]:
        """The states on the page, with their templates."""
        return {state: line.split(" | ")[2] for state, line in self._lines().items()}

    def changed(self) -> list[str]:
        """States that were looked at, but not since what they are made from, or the sentence that says what is shown, has changed; and new ones."""
        lines = self._lines()
        return [state for state in self.states if state not in lines or not self._is_current(state, lines[state])]

    def _is_current(self, state: str, line: str) -> bool:
        _, shown, template, *_, recorded = line.removesuffix(" |").split(" | ")
        return shown == self.states[state] and (TEMPLATES / template).exists() and recorded == digest(template)

    def _lines(self) -> dict[str, str]:
        """State → its line."""
        if not self.file.exists():
            return {}
        listed = [line for line in self.file.read_text("utf-8").splitlines() if line.startswith("| `")]
        return {line.partition(" | ")[0].strip("| `"): line for line in listed}


SELLERS: Final = StatesPage(
    ROOT / "docs" / "dev" / "portal-states.md",
    HEAD
    + FIGURES.format(other_name="console", other_file="console-states.md", option="", example="panel")
    + ALTERNATING,
    STATES,
)
