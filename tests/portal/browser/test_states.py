"""Each state of the seller's pages in a real browser; and that the list of states, the page about them and the guides' images are complete."""

import os
import re
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Error

from services.common.language import Language
from services.connect import texts
from services.portal.pages.problems import LIMITS, STATUS
from services.registry.connect_requests import ConnectRequests
from services.registry.sealing import OpeningKeys
from tests.portal.browser import images
from tests.portal.browser.digests import OTHER_TEMPLATE, TEMPLATES
from tests.portal.browser.scenes import SCENES, lead
from tests.portal.browser.state_lab import StateLab
from tests.portal.browser.states import FOLLOWS, LANGUAGES, SCRIPTS, SELLERS, STATES, WIDTHS, Scripts, SeenState
from tests.support.browser_lab import BrowserVisit, Visit
from tests.support.fetcher_lab import VAULT_KEY
from tests.support.portal_lab import MakePortal, make_portal, portal_dsn

__all__ = ["make_portal", "portal_dsn"]

RECORD = "PORTAL_STATES_TO"
"""Environment variable with a folder for the results in all languages and widths, and for pictures (python -m tests.portal.browser)."""
ONLY = "PORTAL_STATES_ONLY"
"""Environment variable with a regular expression that the names of the states that are looked at match; all if it is not set."""
PICTURES = "PORTAL_PICTURES"
"""Environment variable that is set if all states are drawn, and not only those of the guides."""
LOOK = "run `python -m tests.portal.browser --changed`"
TURNS: tuple[tuple[Language, int], ...] = (("en", 390), ("zh", 1280), ("zh", 390), ("en", 1280))
DIFFERENT_FAILURES = ("no-sent-folder", "provider-unsupported", "login-connected", "identity-differs")
Combination = tuple[str, Language, Scripts, tuple[int, ...]]


def combinations() -> list[Combination]:
    """What is looked at: everything if it is recorded; else each state once, in turn in another language and at another width, and
    of the failures, which share a template, those whose page differs."""
    with_scripts = [
        (state, scripts)
        for state in STATES
        for scripts in SCRIPTS
        if (scripts == "scripts" or state in FOLLOWS) and re.fullmatch(os.environ.get(ONLY, ".*"), state)
    ]
    if RECORD in os.environ:
        return [(state, language, scripts, tuple(WIDTHS)) for state, scripts in with_scripts for language in LANGUAGES]
    looked_at = [
        (state, scripts)
        for state, scripts in with_scripts
        if not state.startswith("failed-") or state.removeprefix("failed-") in DIFFERENT_FAILURES
    ]
    return [
        (state, language, scripts, (width,))
        for (state, scripts), (language, width) in zip(looked_at, cycle(TURNS), strict=False)
    ]


@pytest.mark.timeout(1800)
def test_each_state_is_in_order(make_portal: MakePortal, dsn: str, visit: Visit) -> None:
    seen: list[SeenState] = []
    problems: list[str] = []
    settings = {f"OAUTH2__{name}__CLIENT_ID": "our-client" for name in ("MICROSOFT", "GOOGLE")}
    with ExitStack() as stack:
        lab = StateLab(stack.enter_context(make_portal(**settings)), dsn, OpeningKeys(VAULT_KEY).current)
        with lab.database() as connection:
            ConnectRequests(connection).publish_key(lab.key)
        windows = {
            (language, scripts): stack.enter_context(visit(lab.portal.origin, language, scripts))
            for language in LANGUAGES
            for scripts in SCRIPTS
        }
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
    """Check the page, and that it has scripts where it follows a request and nowhere else; draw it if it is recorded."""
    has_scripts = window.page.query_selector("script") is not None
    assert has_scripts == (state in FOLLOWS), "FOLLOWS names the states whose page has scripts"
    seen = []
    for width in widths:
        seen += window.look(state, (width,))
        folder, draws_all = os.environ.get(RECORD), PICTURES in os.environ
        if folder is not None and (state in images.STEPS or draws_all):
            name = f"{state}-{window.language}-{width}{'' if window.scripts == 'scripts' else '-no-scripts'}"
            height = 20_000 if draws_all else images.HEIGHT
            window.picture(Path(folder) / f"{name}.webp", quality=images.QUALITY, most_height=height)
    return seen


def test_each_state_has_a_way_to_it() -> None:
    assert SCENES.keys() == STATES.keys(), (
        "each state of states.toml has its scene in scenes.py, and the other way round"
    )


def test_there_is_a_state_for_each_template_and_each_code() -> None:
    rows = SELLERS.templates()
    assert list(rows) == list(STATES), LOOK
    texts_of = {file.name: file.read_text() for file in TEMPLATES.glob("*.html")}
    parts = {name for text in texts_of.values() for name in OTHER_TEMPLATE.findall(text)}
    of_sellers = {name for name in texts_of if not name.startswith("console")}
    assert of_sellers - parts == set(rows.values())
    codes = [code for kind in ("code", "request") for code in texts.load()[kind]]
    assert {f"failed-{code}" for code in codes} <= rows.keys()
    shown_as = {"link-unusable": "link-used"}
    assert {shown_as.get(code, code) for code in STATUS | LIMITS} <= rows.keys(), (
        "each page of services/portal/pages/problems.py"
    )


def test_each_state_was_looked_at_since_its_page_changed() -> None:
    assert SELLERS.changed() == [], LOOK
