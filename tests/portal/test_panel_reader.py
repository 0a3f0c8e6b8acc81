"""What every page and export of the panel shares: an export that outlives its session, and the choice of another rule set."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import psycopg
import pytest

from services.common.postgres import connect
from services.portal.api import figures
from services.portal.api.figures import Rows
from tests.portal.leak_answers import OWN, session
from tests.support.panel_lab import ShownFigures
from tests.support.panel_world import seed_world
from tests.support.portal_in_process import ORIGIN, PortalInProcess, portal_in_process
from tests.support.portal_lab import portal_login

MAIN = "lt-main"


@dataclass
class Panel:
    """A company with two rule sets behind the application."""

    owner: psycopg.Connection
    portal: PortalInProcess

    def headers(self, purpose: str) -> dict[str, str]:
        """Of the requests of a new session of the main account, in a browser ("panel") or in a frame."""
        token = session(self.owner, MAIN, purpose)
        return (
            {"authorization": f"Bearer {token}"} if purpose == "frame" else {"cookie": f"replyrate-session={token}.00"}
        )

    def end_sessions(self) -> None:
        """End every session."""
        self.owner.execute("UPDATE registry.portal_sessions SET ended_at = now()")


@pytest.fixture
def panel(dsn: str) -> Iterator[Panel]:
    with connect(dsn, "tests") as owner, portal_login(dsn) as login, portal_in_process(login) as portal:
        seed_world(owner, 1, ("default", "etsy"), (OWN,))
        yield Panel(owner, portal)


@pytest.mark.parametrize("purpose", ["panel", "frame"])
def test_an_export_breaks_off_when_the_session_ends(
    panel: Panel, monkeypatch: pytest.MonkeyPatch, purpose: str
) -> None:
    monkeypatch.setattr(figures, "EXPORT_ROWS", 2)
    headers, pages = panel.headers(purpose), 0
    as_text = figures.TEXTS["ndjson"]

    def end_after_a_page(rows: Rows, is_first: bool) -> str:
        nonlocal pages
        pages += 1
        panel.end_sessions()
        return as_text(rows, is_first)

    async def export() -> httpx.Response:
        """The whole answer; RuntimeError when the application stops within it."""
        transport = httpx.ASGITransport(app=panel.portal.app)
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
            return await client.get("/panel/export/outcomes?format=ndjson", headers=headers)

    complete = asyncio.run(export()).text.splitlines()
    stored = panel.owner.execute(
        "SELECT count(*) FROM report_v1.inquiry_outcomes WHERE company_id = %s AND rule_set = 'default'", [OWN]
    ).fetchone()
    assert stored == (len({json.loads(line)["inquiry_id"] for line in complete}),) and len(complete) > 2
    monkeypatch.setitem(figures.TEXTS, "ndjson", end_after_a_page)
    with pytest.raises(RuntimeError, match="response already started"):
        asyncio.run(export())
    assert pages == 1, "nothing is written after the end of the session"
    assert asyncio.run(export()).status_code in (401, 410), "and a new request is refused"


def test_another_rule_set_is_chosen_on_the_page_that_is_shown(panel: Panel) -> None:
    headers = panel.headers("panel")

    def choices(path: str) -> list[str]:
        answer = panel.portal.request("GET", path, headers=headers)
        assert answer.status_code == 200, path
        scope = ShownFigures(answer.text.partition('class="rules"')[2].partition("</p>")[0])
        return [tag["href"] for tag in scope.attributes if tag["tag"] == "a"]

    inquiry = panel.owner.execute(
        "SELECT min(inquiry_id) FROM report_v1.inquiry_outcomes WHERE company_id = %s", [OWN]
    ).fetchone()
    assert inquiry is not None
    for path, chosen in {
        "/panel": "/panel?rules={}",
        "/panel/due?lang=zh": "/panel/due?rules={}",
        f"/panel/changes?account={MAIN}": f"/panel/changes?account={MAIN}&rules={{}}",
        "/panel/inquiries?outcome=timely&account=": "/panel/inquiries?rules={}&outcome=timely",
        f"/panel/why?inquiry={inquiry[0]}&rules=etsy": f"/panel/why?rules={{}}&inquiry={inquiry[0]}",
    }.items():
        assert choices(path) == [chosen.format(name) for name in ("default", "etsy")], path
    following = panel.portal.request("GET", "/panel/inquiries", headers=headers).text
    (next_page,) = (tag["href"] for tag in ShownFigures(following).attributes if tag.get("rel") == "next")
    assert all("after=" not in choice for choice in choices(next_page))
