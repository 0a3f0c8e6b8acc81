"""The tables of daily work in docs/console.md and the routes of the console name the same addresses."""

import re
from datetime import UTC, datetime
from typing import cast

import pytest

from services.common.settings import ConsoleConfig, load_settings
from services.portal.console.app import create_console
from services.portal.console.long_work import LongWork
from services.portal.console.resources import ConsoleResources
from services.portal.database import TokenDatabase
from services.standalone.servers.paths import ROOT
from tests.portal.leak_matrix import served

SECTIONS = ("## Daily work of support", "## Daily work of operators")
ADDRESS = re.compile(r"`(/[^`]*)`")
NOT_DAILY = {
    "/sign-in": "before the work: it is in the section about sign-in",
    "/sign-in/start": "a step of the sign-in at the provider",
    "/sign-in/callback": "a step of the sign-in at the provider",
    "/link/{}": "before the work: `replyrate console-link` prints it",
    "/sign-out": "after the work: a button of every page",
    "/companies/{}/inquiry": "the form on the page of a company; it leads to the page of the inquiry",
    "/rule-sets/{}/result": "waits for the end of a computation and leads to its page",
    "/rule-sets/{}/events": "the events that the page of a computation follows",
    "/jobs/{}": "how far a check, replay, purge or comparison is, and its result: forms lead to it",
    "/jobs/{}/result": "waits for the end of the work and leads to its page",
    "/jobs/{}/events": "the events that the page of the work follows",
}
"""Path of a route → why no table of daily work names it."""


@pytest.fixture
def routes() -> set[str]:
    """The paths of the console where staff sign in at a provider, without the names of their parameters."""
    environ = {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9", "REPLYRATE_POSTGRES__DSN": "dbname=none",
        "REPLYRATE_CONSOLE__PUBLIC_URL": "https://console.example", "REPLYRATE_CONSOLE__ISSUER": "https://login.example",
        "REPLYRATE_CONSOLE__CLIENT_ID": "x", "REPLYRATE_CONSOLE__CLIENT_SECRET": "x",
    }  # fmt: skip
    settings = load_settings(environ, ConsoleConfig)
    work = LongWork()
    app = create_console(ConsoleResources(settings, cast(TokenDatabase, None), lambda: datetime.now(UTC), work))
    work.close()
    return {re.sub(r"\{[^}]*\}", "{}", route.partition(" ")[2]) for route in served(app)}


def named() -> set[str]:
    """The addresses in the last column of the tables of daily work; what is in capitals stands for any value."""
    guide = (ROOT / "docs" / "console.md").read_text("utf-8")
    parts = [guide.partition(f"\n{heading}\n")[2].partition("\n## ")[0] for heading in SECTIONS]
    lines = [line for part in parts for line in part.splitlines() if line.startswith("|")]
    columns = [line.split("|")[-2] for line in lines]
    return {re.sub(r"[A-Z]+", "{}", address) for column in columns for address in ADDRESS.findall(column)}


def test_the_tables_of_daily_work_name_every_route_of_daily_work_and_no_other(routes: set[str]) -> None:
    assert named() == routes - NOT_DAILY.keys()


def test_what_is_not_daily_work_exists(routes: set[str]) -> None:
    assert NOT_DAILY.keys() <= routes
