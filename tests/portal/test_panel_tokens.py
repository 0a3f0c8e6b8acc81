"""Tokens for frames and links by the API: what a platform's backend gets, what a token reads as JSON, and that it changes nothing."""

import json
from collections.abc import Iterator

import httpx
import psycopg
import pytest

from services.common.postgres import connect
from tests.support.api_lab import api_client, new_key, problem
from tests.support.connect_lab import Browser
from tests.support.panel_lab import ShownFigures
from tests.support.panel_world import seed_world
from tests.support.portal_lab import MakePortal, Portal, make_portal, portal_dsn
from tests.support.rates import edit_rates

__all__ = ["make_portal", "portal_dsn"]

ORIGIN = "https://market.example"
TEXTILE, MAIN, CHEN, WU = "lt-textile", "lt-main", "lt-sub-chen", "lt-sub-wu"
LISTS = (
    "rates", "rates/history", "timeline", "histogram", "daily", "outcomes", "diagnosis", "corrections", "due-soon",
)  # fmt: skip


@pytest.fixture
def owner(dsn: str) -> Iterator[psycopg.Connection]:
    with connect(dsn, "tests") as connection:
        seed_world(connection, 1, ("default",), companies=(TEXTILE, "hx-tools"))
        yield connection


@pytest.fixture
def portal(owner: psycopg.Connection, make_portal: MakePortal) -> Iterator[Portal]:
    with make_portal(PORTAL__FRAME_ORIGINS=ORIGIN, PORTAL__RETURN_ORIGINS=ORIGIN) as started:
        yield started


@pytest.fixture
def platform(portal: Portal, dsn: str) -> Iterator[httpx.Client]:
    """The backend of a platform."""
    with api_client(portal, new_key(dsn, "lt-").secret) as client:
        yield client


def token_of(platform: httpx.Client, account_id: str) -> str:
    created = platform.post("/v1/panel-tokens", json={"company_id": TEXTILE, "account_id": account_id})
    assert created.status_code == 201, created.text
    token: str = created.json()["token"]
    return token


def test_a_token_reads_the_figures_of_its_account_as_pages_and_as_json(
    owner: psycopg.Connection, portal: Portal, platform: httpx.Client
) -> None:
    with api_client(portal, token_of(platform, CHEN)) as sub, api_client(portal, token_of(platform, MAIN)) as main:
        rates = {rate["account_id"]: rate for rate in main.get(f"/v1/companies/{TEXTILE}/rates").json()["items"]}
        assert set(rates) == {None, MAIN, CHEN, WU}
        page = ShownFigures(main.get(f"/panel?account={CHEN}").text)
        assert float(page.values["rate"]) == rates[CHEN]["rate"]
        assert [rate["account_id"] for rate in sub.get(f"/v1/companies/{TEXTILE}/rates").json()["items"]] == [CHEN]
        for path in LISTS:
            for reader, accounts in ((sub, {CHEN}), (main, {None, *rates})):
                lines = reader.get(f"/v1/companies/{TEXTILE}/{path}", params={"format": "ndjson"})
                assert {json.loads(line)["account_id"] for line in lines.text.splitlines()} <= accounts, path
                problem(reader.get(f"/v1/companies/hx-tools/{path}"), 404, "company-unknown")
        assert [rate["company_id"] for rate in main.get("/v1/rates").json()["items"]] == [TEXTILE]

        edit_rates(owner, "rate = 0, rate_shown = 0", f"account_id IN ('', '{MAIN}')")
        owner.execute(
            "INSERT INTO ledger.diagnoses SELECT 'default', %s, account_id, 'login-failing-since', current_date, 'high', %s::jsonb,"
            " 'replyrate mailbox list', 'z', now() FROM unnest(ARRAY['', %s]) account_id",
            [TEXTILE, '{"units": 5, "failing_since_on": "2026-11-01", "mailboxes_failing": 1, "units_blind": 5}', MAIN],
        )
        (of_account, of_company) = sorted(
            main.get(f"/v1/companies/{TEXTILE}/diagnosis").json()["items"],
            key=lambda cause: cause["account_id"] is None,
        )
        assert of_company["facts"] == {"units": 5, "units_blind": 5}
        assert "2026-11-01" in of_account["advice_en"] and "2026-11-01" not in of_company["advice_en"]
        assert "replyrate " not in of_account["advice_en"] + of_company["advice_en"]

        outcomes = main.get(f"/v1/companies/{TEXTILE}/outcomes", params={"limit": 500}).json()["items"]
        answered = {entry["account_id"]: entry["inquiry_id"] for entry in outcomes if entry["reply_source"] == "mail"}
        explained = f"/v1/companies/{TEXTILE}/inquiries/{{}}/explanation"
        problem(sub.get(explained.format(answered[MAIN])), 404, "inquiry-unknown")
        key = f"{TEXTILE}/{CHEN}/registered"
        assert key in sub.get(explained.format(answered[CHEN])).text
        (of_main,) = main.get(explained.format(answered[CHEN])).json()["items"]
        assert key not in json.dumps(of_main) and of_main["coverage"] == []
        (of_sub,) = sub.get(explained.format(answered[CHEN])).json()["items"]
        assert of_main["sentences"] == of_sub["sentences"]


def test_the_mailbox_of_a_reply_is_shown_to_the_account_that_has_it(
    owner: psycopg.Connection, portal: Portal, platform: httpx.Client
) -> None:
    """The mailbox of the main account answers inquiries of a sub-account without a mailbox, and that of the other one an inquiry of the
    main account."""
    mailboxes = {account_id: f"{TEXTILE}/{account_id}/registered" for account_id in (MAIN, CHEN)}
    owner.execute(
        "UPDATE ledger.outcomes SET mailbox_id = %s WHERE (company_id, inquiry_id) IN (SELECT company_id, inquiry_id FROM ledger.outcomes"
        " WHERE company_id = %s AND account_id = %s AND mailbox_id IS NOT NULL LIMIT 1)",
        [mailboxes[CHEN], TEXTILE, MAIN],
    )

    def answered_from(client: httpx.Client) -> set[tuple[str, str | None]]:
        """Account of an inquiry that was answered by mail, and the mailbox that is shown."""
        outcomes = client.get(f"/v1/companies/{TEXTILE}/outcomes", params={"limit": 500}).json()["items"]
        return {(entry["account_id"], entry["mailbox_id"]) for entry in outcomes if entry["reply_source"] == "mail"}

    everything = {(MAIN, mailboxes[MAIN]), (MAIN, mailboxes[CHEN]), (WU, mailboxes[MAIN]), (CHEN, mailboxes[CHEN])}
    assert answered_from(platform) == everything
    expected: dict[str, set[tuple[str, str | None]]] = {
        MAIN: {(MAIN, mailboxes[MAIN]), (MAIN, None), (WU, mailboxes[MAIN]), (CHEN, None)},
        CHEN: {(CHEN, mailboxes[CHEN])},
        WU: {(WU, None)},
    }
    for account_id, shown in expected.items():
        with api_client(portal, token_of(platform, account_id)) as framed:
            assert answered_from(framed) == shown, account_id
            exported = framed.get("/panel/export/outcomes?format=ndjson").text
            lines = [json.loads(line) for line in exported.splitlines()]
            assert {line["mailbox_id"] for line in lines} - {None} == {name for _, name in shown if name}, account_id


def test_a_token_changes_nothing_and_ends(
    owner: psycopg.Connection, portal: Portal, platform: httpx.Client, dsn: str
) -> None:
    token = token_of(platform, MAIN)
    with api_client(portal, token) as framed:
        for path in ("/v1/mailboxes", "/v1/key", "/v1/changes", "/v1/providers", "/v1/companies"):
            problem(framed.get(path), 401, "not-authenticated")
        problem(
            framed.post("/v1/panel-tokens", json={"company_id": TEXTILE, "account_id": MAIN}), 401, "not-authenticated"
        )
        assert "/connect/" not in framed.get("/panel/mailboxes").text.replace("/connect/end", "")
        assert framed.get("/panel").status_code == 200
        assert "set-cookie" not in framed.get("/panel?lang=zh").headers
        browser = Browser(portal.origin)
        browser.client.cookies["replyrate-session"] = f"{token}.{'0' * 64}"
        for path in ("/panel", "/connect", "/connect/consent", "/connect/mailboxes/m/withdraw"):
            assert browser.get(path).status == 401, "a token of a frame opens no session in a browser"
        with connect(portal.dsn, "tests") as own, pytest.raises(psycopg.errors.InsufficientPrivilege):
            own.execute("SELECT set_config('replyrate.token', %s, false)", (token,))
            own.execute(
                "INSERT INTO registry.connect_requests (request_id, company_id, account_id, mailbox_id, purpose, key_id)"
                " VALUES ('r-' || repeat('0', 32), %s, %s, 'm', 'connect', 'k')",
                (TEXTILE, MAIN),
            )
        owner.execute("UPDATE registry.portal_sessions SET expires_at = clock_timestamp()")
        assert framed.get("/panel").status_code == 401
        problem(framed.get(f"/v1/companies/{TEXTILE}/rates"), 401, "not-authenticated")
    assert token not in portal.process.log.read_text("utf-8")
    with api_client(portal, new_key(dsn, "lt-", ("connect:write",)).secret) as other_key:
        wanted = {"company_id": TEXTILE, "account_id": MAIN}
        problem(other_key.post("/v1/panel-tokens", json=wanted), 403, "scope-missing")
        problem(other_key.post("/v1/panel-sessions", json=wanted), 403, "scope-missing")
    with api_client(portal, new_key(dsn, "lt-", ("numbers:read",)).secret) as figures_key:
        problem(figures_key.post("/v1/panel-tokens", json=wanted), 403, "scope-missing")


def test_a_link_by_the_api_opens_the_panel(portal: Portal, platform: httpx.Client) -> None:
    wanted = {"company_id": TEXTILE, "account_id": CHEN, "language": "zh", "return_url": f"{ORIGIN}/replies"}
    created = platform.post("/v1/panel-sessions", json=wanted)
    assert created.status_code == 201, created.text
    link = created.json()["url"].removeprefix(portal.origin)
    browser = Browser(portal.origin).get(link)
    assert browser.heading == "您的及时回复率"
    assert browser.fill_in("/link/.*").path == "/panel"
    assert browser.page.links["返回 market.example"] == f"{ORIGIN}/replies"
    assert Browser(portal.origin).get(link).fill_in("/link/.*").status == 410
    actions = [change["action"] for change in platform.get("/v1/changes").json()["items"]]
    assert actions == ["panel-session-created"]
    problem(
        platform.post("/v1/panel-sessions", json={**wanted, "return_url": "https://evil.example/"}),
        422,
        "invalid-request",
    )
    problem(platform.post("/v1/panel-sessions", json={**wanted, "account_id": "nobody"}), 404, "account-unknown")
    problem(
        platform.post("/v1/panel-tokens", json={"company_id": "hx-tools", "account_id": "hx-main"}),
        404,
        "account-unknown",
    )


def test_only_registered_origins_frame_the_page(portal: Portal, make_portal: MakePortal) -> None:
    with portal.client() as client:
        framed, page = client.get("/panel/frame"), client.get("/panel")
    assert f"frame-ancestors {ORIGIN}" in framed.headers["content-security-policy"]
    assert "x-frame-options" not in framed.headers
    assert "'unsafe-inline'" not in framed.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"
    with make_portal() as closed, closed.client() as client:
        answer = client.get("/panel/frame")
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"


def test_an_account_opens_as_many_pages_as_a_key_sends_requests(
    owner: psycopg.Connection, make_portal: MakePortal, dsn: str
) -> None:
    with make_portal(PORTAL__API_REQUESTS_PER_MINUTE="3") as limited:
        tokens = [
            api_client(limited, new_key(dsn).secret).post(
                "/v1/panel-tokens", json={"company_id": TEXTILE, "account_id": account_id}
            ).json()["token"]
            for account_id in (CHEN, CHEN, MAIN)
        ]  # fmt: skip
        status = [api_client(limited, token).get("/panel/due").status_code for token in (*tokens[:2] * 2, tokens[2])]
    assert status == [200, 200, 200, 429, 200]
