"""Each state of the console's pages in a real browser; and that the list of states and the pictures of the guide are complete."""

import os
import re
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Error

from services.common.language import Language
from services.standalone.servers.paths import ROOT
from tests.portal.browser import console_states
from tests.portal.browser.console_scenes import SCENES, ConsoleStates, lab, lead
from tests.portal.browser.console_states import CONSOLE, FOLLOWS, TEMPLATE
from tests.portal.browser.digests import OTHER_TEMPLATE, TEMPLATES
from tests.portal.browser.states import LANGUAGES, SCRIPTS, WIDTHS, Scripts, SeenState
from tests.portal.browser.test_states import LOOK, ONLY, PICTURES, RECORD
from tests.support.browser_lab import BrowserVisit, Visit
from tests.support.console_lab import console_dsn, make_console

__all__ = ["console_dsn", "lab", "make_console"]

PAGE_BYTES = 250 * 1024
PHONE, DESKTOP = WIDTHS
TURNS: tuple[tuple[tuple[Language, int], ...], ...] = (
    (("en", PHONE), ("zh", DESKTOP)),
    (("zh", PHONE), ("en", DESKTOP)),
)
Combination = tuple[str, Language, Scripts, tuple[int, ...]]


def combinations() -> list[Combination]:
    """What is looked at: everything if it is recorded; else each state once in each language and once at each width, where it has
    scripts once with and once without them."""
    chosen = [state for state in TEMPLATE if re.fullmatch(os.environ.get(ONLY, ".*"), state)]
    if RECORD in os.environ:
        return [
            (state, language, scripts, tuple(WIDTHS))
            for state in chosen
            for scripts in (SCRIPTS if state in FOLLOWS else SCRIPTS[:1])
            for language in LANGUAGES
        ]
    return [
        (state, language, scripts, (width,))
        for state, turn in zip(chosen, cycle(TURNS), strict=False)
        for (language, width), scripts in zip(turn, SCRIPTS if state in FOLLOWS else SCRIPTS[:1] * 2, strict=True)
    ]


@pytest.mark.timeout(1800)
def test_each_state_is_in_order(lab: ConsoleStates, visit: Visit) -> None:
    seen: list[SeenState] = []
    problems: list[str] = []
    with ExitStack() as stack:
        windows = {
            (language, scripts): stack.enter_context(visit(lab.room.console.origin, language, scripts))
            for language in LANGUAGES
            for scripts in SCRIPTS
        }
        stack.callback(lab.until_next.close)
        for state, language, scripts, widths in combinations():
            window = windows[language, scripts]
            try:
                lead(state, lab, window)
                seen += look(window, state, widths)
            except (AssertionError, Error) as error:
                problems.append(f"{state} ({language}, {scripts}): {error}")
                window.problems.clear()
    assert not problems, "\n\n".join(problems)
    if folder := os.environ.get(RECORD):
        (Path(folder) / "seen.json").write_bytes(msgspec.json.encode(seen))


def look(window: BrowserVisit, state: str, widths: tuple[int, ...]) -> list[SeenState]:
    """Check the page, that it has scripts where it follows something and nowhere else, and its size; draw it if it is recorded."""
    has_scripts = window.page.query_selector("script") is not None
    assert has_scripts == (state in FOLLOWS), "FOLLOWS names the states whose page has scripts"
    seen = []
    for width in widths:
        seen += window.look(state, (width,))
        assert seen[-1].template == TEMPLATE[state] and seen[-1].compressed < PAGE_BYTES, seen[-1]
        folder, draws_all = os.environ.get(RECORD), PICTURES in os.environ
        if folder is not None and (draws_all or (state in console_states.SHOWN and width == DESKTOP)):
            name = f"{state}-{window.language}-{width}{'' if window.scripts == 'scripts' else '-no-scripts'}"
            height = 20_000 if draws_all else console_states.HEIGHT
            window.picture(Path(folder) / f"{name}.webp", quality=console_states.QUALITY, most_height=height)
    return seen


def test_each_state_has_a_way_to_it() -> None:
    assert SCENES.keys() == TEMPLATE.keys(), "each state of console_states.toml has its scene in console_scenes.py"


def test_there_is_a_state_for_each_template_of_the_console() -> None:
    texts_of = {file.name: file.read_text() for file in TEMPLATES.glob("*.html")}
    parts = {name for text in texts_of.values() for name in OTHER_TEMPLATE.findall(text)}
    of_console = {name for name in texts_of if name.startswith("console")}
    assert of_console - parts == set(TEMPLATE.values())


def test_the_guide_shows_each_picture_in_both_languages() -> None:
    guide = (ROOT / "docs" / "console.md").read_text("utf-8")
    shown = set(re.findall(r"\(images/(console-[^)]+)\)", guide))
    assert shown == {
        console_states.picture(state, language) for state in console_states.SHOWN for language in LANGUAGES
    }


def test_each_state_was_looked_at_since_its_page_changed() -> None:
    assert CONSOLE.changed() == [], LOOK
