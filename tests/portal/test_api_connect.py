"""Links, tests of logins, removal and platform sync through fetchers, the provider directory, and bulk import."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from services.common.postgres import connect
from services.connect.consent import load as consent_texts
from services.portal.api.bulk_import import LINE_BYTES, MOST_ERRORS, MOST_LINES, MOST_MAILBOXES
from services.providers import catalog
from services.registry.connect_requests import ConnectRequests
from services.registry.portal_sessions import PortalSessions, address_hash, address_key
from services.registry.sealing import OpeningKeys
from tests.support.api_lab import add_account, api_client, new_key, problem
from tests.support.fetcher_lab import USER, VAULT_KEY, Lab, lab, letter, make_lab
from tests.support.portal_lab import MakePortal, Portal, make_portal, portal, portal_dsn
from tests.support.processes import until
from tests.support.servers import USERS

__all__ = ["lab", "make_lab", "make_portal", "portal", "portal_dsn"]

NDJSON = {"content-type": "application/x-ndjson"}
PASSWORD = "Canary-password-1"


@pytest.fixture
def client(portal: Portal, dsn: str) -> Iterator[httpx.Client]:
    """A client whose key is for the companies that begin with shop-; shop-1 has the account main."""
    add_account(dsn, "shop-1")
    with api_client(portal, new_key(dsn, "shop-").secret) as client:
        yield client


@pytest.fixture
def keys_published(dsn: str) -> None:
    with connect(dsn, "tests") as connection:
        ConnectRequests(connection).publish_key(OpeningKeys(VAULT_KEY).current)


def finished(client: httpx.Client, response: httpx.Response) -> dict[str, Any]:
    """The status of a request once a fetcher has finished it."""
    assert response.status_code == 202, response.text
    status: dict[str, Any] = {}

    def is_finished() -> bool:
        status.update(client.get(response.headers["location"]).json())
        return status["state"] not in ("waiting", "running")

    until(is_finished, 60, "the request ends")
    return status


def test_a_link_is_made_for_one_account_and_address(make_portal: MakePortal, dsn: str) -> None:
    add_account(dsn, "shop-1")
    wanted = {
        "company_id": "shop-1", "account_id": "main", "language": "zh", "expected_address": "Seller@mail.test",
        "return_url": "https://market.example/back?x=1", "minutes": 5,
    }  # fmt: skip
    with (
        make_portal(PORTAL__RETURN_ORIGINS="https://market.example") as portal,
        api_client(portal, new_key(dsn, "shop-").secret) as client,
    ):
        name = {"idempotency-key": "link-1"}
        created = client.post("/v1/connect-sessions", json=wanted, headers=name)
        assert created.status_code == 201
        again = client.post("/v1/connect-sessions", json=wanted, headers=name)
        assert again.json() == created.json(), "the same request gives the same link"
        token = created.json()["url"].removeprefix(f"{portal.origin}/link/").removesuffix("?lang=zh")
        status = client.get(created.headers["location"]).json()
        assert (status["account_id"], status["opened_at"]) == ("main", None)
        assert token not in json.dumps(status)
        for url in ("https://evil.example/", "https://market.example.evil.example/", "https://market.example:8443/"):
            response = client.post("/v1/connect-sessions", json={**wanted, "return_url": url})
            (error,) = problem(response, 422, "invalid-request")["errors"]
            assert (error["field"], error["code"]) == ("return_url", "origin-not-allowed")
        for url in ("http://market.example/", "javascript:alert(1)", "https://a@market.example/", "//market.example"):
            response = client.post("/v1/connect-sessions", json={**wanted, "return_url": url})
            assert problem(response, 422, "invalid-request")["errors"][0]["field"] == "return_url"
    with connect(dsn, "tests") as connection:
        stored = connection.execute("SELECT expected_address_hash FROM registry.portal_sessions").fetchall()
        assert stored == [(address_hash(address_key(token), "seller@mail.test"),)]
        assert PortalSessions(connection).open_link(token, "rrs_session", 5)


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"account_id": "none"}, 404, "account-unknown"),
        ({"company_id": "shop-9"}, 404, "account-unknown"),
        ({"company_id": "mall-1"}, 404, "account-unknown"),
        ({"mailbox_id": "m-000000000000"}, 404, "mailbox-unknown"),
        ({"expected_address": "seller"}, 422, "invalid-request"),
        ({"role": "other"}, 422, "invalid-request"),
        ({"minutes": 0}, 422, "invalid-request"),
        ({"return_url": "https://market.example/"}, 422, "invalid-request"),
    ],
)
def test_a_link_that_leads_nowhere_is_not_made(
    client: httpx.Client, dsn: str, changes: dict[str, Any], status: int, code: str
) -> None:
    add_account(dsn, "mall-1")
    wanted = {"company_id": "shop-1", "account_id": "main", **changes}
    problem(client.post("/v1/connect-sessions", json=wanted), status, code)
    with connect(dsn, "tests") as connection:
        assert connection.execute("SELECT count(*) FROM registry.portal_sessions").fetchone() == (0,)


def test_fetchers_test_logins_remove_mailboxes_and_change_the_sync(
    lab: Lab, client: httpx.Client, portal: Portal
) -> None:
    login = {"address": USER, "password": USERS[USER], "host": "localhost", "port": lab.server.port}
    wanted = {"company_id": "shop-1", "account_id": "main", "login": login}
    sent_at = datetime.now(UTC)
    lab.server.append(USER, "Sent", letter(1, sent_at), sent_at)
    response = client.post("/v1/connection-tests", json=wanted)
    problem(response, 503, "no-fetcher")
    with lab.fetcher():
        until(lambda: client.post("/v1/connection-tests", json=wanted).status_code == 202, 60, "a key is published")
        refused = finished(
            client, client.post("/v1/connection-tests", json={**wanted, "login": {**login, "password": PASSWORD}})
        )
        assert (refused["state"], refused["code"]) == ("failed", "login-refused")
        assert refused["code_text"]["zh"] and refused["report"]["next"]["en"]
        tested = finished(client, client.post("/v1/connection-tests", json=wanted))
        assert (tested["state"], tested["code"], tested["mailbox_id"]) == ("passed", "passed", "")
        assert client.get("/v1/mailboxes").json()["items"] == [], "a test stores nothing"
        line = {
            "type": "mailbox", "company_id": "shop-1", "account_id": "main", "login": login, "consent_by": "Li Wei",
            "consent_text": consent_texts().current.version,
        }  # fmt: skip
        imported = client.post("/v1/import", content=json.dumps(line), headers=NDJSON).json()
        (entry,) = imported["mailboxes"]
        until(
            lambda: client.get(f"/v1/requests/{entry['request_id']}").json()["state"] == "passed", 60, "it is connected"
        )
        path = f"/v1/companies/shop-1/mailboxes/{entry['mailbox_id']}"
        assert client.get(path).json()["state"] == "active"
        assert client.get(f"{path}/history").json()["consents"][0]["consented_by"] == "Li Wei"
        addresses = "/v1/companies/shop-1/accounts/main/addresses"
        changed = finished(client, client.put(f"{addresses}/registered", json={"address": "canary@mail.test"}))
        assert (changed["state"], changed["report"]) == ("passed", {"reconnect": [entry["mailbox_id"]]}), changed
        assert client.get(path).json()["reason"] == "address-changed"
        assert finished(client, client.delete(f"{addresses}/registered"))["state"] == "passed"
        assert client.get(addresses).json() == {"items": []}
        sync = "/v1/companies/shop-1/accounts/main/platform-sync"
        on = finished(client, client.post(sync, json={"on": True}))
        assert on["state"] == "passed", on
        assert client.get(path).json()["state"] == "synced_by_platform"
        assert client.get("/v1/companies/shop-1/accounts/main").json()["synced_by_platform_from"]
        again = finished(client, client.post(sync, json={"on": True}))
        assert (again["state"], again["code"]) == ("failed", "not-possible")
        assert "synced by the platform since" in again["code_text"]["en"] and "已由平台同步" in again["code_text"]["zh"]
        assert finished(client, client.post(sync, json={"on": False}))["state"] == "passed"
        mailbox = client.get(path)
        assert mailbox.json()["state"] == "needs_reconnect"
        problem(client.post(f"{path}/remove", headers={"if-match": '"x"'}), 412, "changed-meanwhile")
        removed = finished(client, client.post(f"{path}/remove", headers={"if-match": mailbox.headers["etag"]}))
        assert removed["state"] == "passed", removed
        assert client.get(path).json()["state"] == "removed"
        problem(client.post(f"{path}/remove"), 409, "not-possible")
        key = client.get("/v1/key").json()
        last = client.get(f"{path}/history").json()["history"][-1]
        assert last["changed_by"] == f"{key['key_id']} (platform)"
    log = portal.process.log.read_text("utf-8")
    assert USERS[USER] not in log and USER not in log and "canary" not in log


def test_nothing_that_was_typed_can_be_read_back(client: httpx.Client, dsn: str, keys_published: None) -> None:
    login = {"address": "canary@mail.test", "password": PASSWORD, "host": "imap.mail.test"}
    wanted = {"company_id": "shop-1", "account_id": "main", "login": login}
    response = client.post("/v1/connection-tests", json=wanted, headers={"idempotency-key": "a"})
    problem(
        client.post(
            "/v1/connection-tests",
            json={**wanted, "login": {**login, "password": "another"}},
            headers={"idempotency-key": "a"},
        ),
        409,
        "idempotency-key-used",
    )
    wrong = client.post("/v1/connection-tests", json={**wanted, "login": {**login, "port": "x"}})
    for text in (response.text, wrong.text, client.get("/v1/changes").text):
        assert PASSWORD not in text and "canary" not in text
    with connect(dsn, "tests") as connection:
        for table in ("api_answers", "api_changes", "connect_requests", "portal_sessions"):
            for (text,) in connection.execute(f"SELECT to_json(t)::text FROM registry.{table} t".encode()):
                assert PASSWORD not in text and "canary" not in text


def test_a_request_of_another_company_is_unknown(
    client: httpx.Client, portal: Portal, dsn: str, keys_published: None
) -> None:
    login = {"address": "a@mail.test", "password": "x", "host": "imap.mail.test"}
    wanted = {"company_id": "shop-1", "account_id": "main", "login": login}
    response = client.post("/v1/connection-tests", json=wanted)
    created = client.post("/v1/connect-sessions", json={"company_id": "shop-1", "account_id": "main"})
    with api_client(portal, new_key(dsn, "mall-").secret) as another:
        problem(another.get(response.headers["location"]), 404, "request-unknown")
        problem(another.get(created.headers["location"]), 404, "session-unknown")
        problem(another.post("/v1/connection-tests", json=wanted), 404, "account-unknown")


@pytest.mark.parametrize("provider", catalog.load().providers, ids=lambda provider: provider.id)
def test_every_provider_is_found_by_its_domains(provider: Any) -> None:
    from services.portal.api.connect import servers_of

    for domain in provider.domains:
        assert [server.host for server in servers_of(domain)] == [
            host.replace("{domain}", domain) for host in provider.hosts
        ]


def test_the_directory_and_the_consent_texts_are_read(client: httpx.Client) -> None:
    assert {item["provider_id"] for item in client.get("/v1/providers").json()["items"]} == {
        provider.id for provider in catalog.load().providers
    }
    by_address = client.post("/v1/provider-lookups", json={"address": "somebody@163.com"}).json()
    assert by_address["domain"] == "163.com" and by_address["servers"][0]["port"] == 993
    assert by_address["provider"]["advice"]["zh"]
    unknown = client.post("/v1/provider-lookups", json={"domain": "own-domain.example"}).json()
    assert (unknown["provider"], unknown["servers"]) == (None, [])
    for body in ({}, {"domain": "-"}, {"address": "x"}):
        problem(client.post("/v1/provider-lookups", json=body), 422, "invalid-request")
    texts = client.get("/v1/consent-texts").json()["items"]
    assert [text["version"] for text in texts if text["is_current"]] == [consent_texts().current.version]
    login = {"address": "a@own-domain.example", "password": "x"}
    wanted = {"company_id": "shop-1", "account_id": "main", "login": login}
    (error,) = problem(client.post("/v1/connection-tests", json=wanted), 422, "invalid-request")["errors"]
    assert error["code"] == "server-unknown"


def lines(*documents: Any) -> bytes:
    return b"\n".join(
        document if isinstance(document, bytes) else json.dumps(document).encode() for document in documents
    )


COMPANY = {"type": "company", "company_id": "shop-2"}
ACCOUNT = {"type": "account", "company_id": "shop-2", "account_id": "main"}
MAILBOX = {
    "type": "mailbox", "company_id": "shop-2", "account_id": "main", "consent_by": "Li Wei",
    "consent_text": consent_texts().current.version, "login": {"address": "canary@163.com", "password": PASSWORD},
}  # fmt: skip


def test_an_import_registers_everything_once(client: httpx.Client, keys_published: None) -> None:
    body = lines(COMPANY, ACCOUNT, b"", MAILBOX)
    first = client.post("/v1/import", content=body, headers={**NDJSON, "idempotency-key": "i"})
    assert first.status_code == 200, first.text
    result = first.json()
    assert (result["companies_added"], result["accounts_added"], result["unchanged"]) == (1, 1, 0)
    assert [entry["line"] for entry in result["mailboxes"]] == [4]
    again = client.post("/v1/import", content=body, headers={**NDJSON, "idempotency-key": "i"})
    assert again.json() == result
    once_more = client.post("/v1/import", content=lines(COMPANY, ACCOUNT), headers=NDJSON).json()
    assert (once_more["companies_added"], once_more["unchanged"]) == (0, 2)


def test_an_import_with_an_error_changes_nothing_and_lists_every_line(
    client: httpx.Client, dsn: str, keys_published: None
) -> None:
    body = lines(
        COMPANY, b"{", {"type": "other"}, {"type": "company", "company_id": ""}, {"type": "company", "company_id": "mall-1"},
        {**ACCOUNT, "kind": "x"}, {**MAILBOX, "consent_text": "1"},
        {**MAILBOX, "role": "backup", "login": {"address": "a@own.example", "password": "x"}},
    )  # fmt: skip
    response = client.post("/v1/import", content=body, headers=NDJSON)
    members = problem(response, 422, "invalid-lines")
    assert [(error["line"], error["field"], error["code"]) for error in members["errors"]] == [
        (2, "", "json-invalid"), (3, "", "union-tag-invalid"), (4, "company_id", "string-too-short"),
        (5, "company_id", "company-not-allowed"), (6, "kind", "literal-error"), (7, "consent_text", "consent-changed"),
        (7, "", "account-unknown"), (8, "login.host", "server-unknown"), (8, "", "account-unknown"),
    ]  # fmt: skip
    assert members["errors_total"] == 9
    assert PASSWORD not in response.text and "canary" not in response.text
    second = lines(COMPANY, ACCOUNT, {**ACCOUNT, "company_id": "shop-3"}, {**ACCOUNT, "kind": "sub"})
    members = problem(client.post("/v1/import", content=second, headers=NDJSON), 422, "invalid-lines")
    assert [(error["line"], error["code"]) for error in members["errors"]] == [
        (3, "company-unknown"),
        (4, "not-possible"),
    ]
    assert [item["company_id"] for item in client.get("/v1/companies").json()["items"]] == ["shop-1"]
    assert client.get("/v1/changes").json()["items"] == []
    problem(client.post("/v1/import", json={}), 415, "media-type-unsupported")


def import_errors(client: httpx.Client, *documents: Any) -> list[tuple[int, str, str]]:
    """Line, field and code of each error of an import that is refused, and changes nothing."""
    before = client.get("/v1/companies").json()
    response = client.post("/v1/import", content=lines(*documents), headers=NDJSON)
    members = problem(response, 422, "invalid-lines")
    assert len(response.content) < 40_000 * 300
    assert members["errors_total"] == len(members["errors"])
    assert client.get("/v1/companies").json() == before
    return [(error["line"], error["field"], error["code"]) for error in members["errors"]]


def test_lines_that_the_registry_refuses_are_listed_with_malformed_ones(
    client: httpx.Client, dsn: str, keys_published: None
) -> None:
    early = {**ACCOUNT, "account_id": "synced", "synced_by_platform_from": "2100-01-01T00:00:00Z"}
    assert import_errors(
        client, COMPANY, b"{", {**ACCOUNT, "company_id": "shop-3"}, ACCOUNT, {**ACCOUNT, "kind": "sub"},
        {**MAILBOX, "account_id": "none", "consent_text": "1"}, early, {**MAILBOX, "account_id": "synced"}, MAILBOX,
    ) == [
        (2, "", "json-invalid"), (3, "", "company-unknown"), (5, "", "not-possible"), (6, "consent_text", "consent-changed"),
        (6, "", "account-unknown"), (7, "synced_by_platform_from", "in-the-future"), (8, "", "not-possible"),
    ]  # fmt: skip
    with connect(dsn, "tests") as connection:
        assert connection.execute("SELECT count(*) FROM registry.connect_requests").fetchone() == (0,)


def test_every_wrong_line_of_an_import_is_listed(client: httpx.Client) -> None:
    unknown = {**ACCOUNT, "company_id": "shop-9"}
    wrong = [unknown if number % 2 else {"type": "company"} for number in range(1, MOST_LINES)]
    assert import_errors(client, COMPANY, *wrong) == [
        (number + 1, "", "company-unknown") if number % 2 else (number + 1, "company_id", "missing")
        for number in range(1, MOST_LINES)
    ]


def test_an_import_lists_the_line_and_the_mailboxes_beyond_its_limits(client: httpx.Client) -> None:
    assert import_errors(client, *[COMPANY] * MOST_LINES, b"", COMPANY, COMPANY) == [
        (MOST_LINES + 2, "", "too-many-lines")
    ]
    ids = [f"a{number}" for number in range(MOST_MAILBOXES + 2)]
    accounts = [{**ACCOUNT, "account_id": account_id} for account_id in ids]
    mailboxes = [{**MAILBOX, "account_id": account_id} for account_id in ids]
    first = 1 + len(accounts) + MOST_MAILBOXES + 1
    assert import_errors(client, COMPANY, *accounts, *mailboxes) == [
        (number, "", "too-many-mailboxes") for number in (first, first + 1)
    ]
    assert import_errors(client, COMPANY, b" " * LINE_BYTES + b"{}") == [(2, "", "line-too-long")]


def test_an_import_has_one_mailbox_of_each_account_and_role(client: httpx.Client, keys_published: None) -> None:
    login = {"address": "another@163.com", "password": PASSWORD}
    backup = {**MAILBOX, "role": "backup", "login": login}
    body = lines(COMPANY, ACCOUNT, MAILBOX, backup, {**MAILBOX, "login": login}, MAILBOX)
    members = problem(client.post("/v1/import", content=body, headers=NDJSON), 422, "invalid-lines")
    assert [(error["line"], error["code"]) for error in members["errors"]] == [
        (5, "second-mailbox"),
        (6, "second-mailbox"),
    ]
    assert all("line 3" in error["detail"] for error in members["errors"])
    imported = client.post("/v1/import", content=lines(COMPANY, ACCOUNT, MAILBOX, backup), headers=NDJSON)
    assert [entry["line"] for entry in imported.json()["mailboxes"]] == [3, 4]


def test_many_wrong_fields_of_few_lines_hide_no_line(client: httpx.Client) -> None:
    members = {f"{number}": 1 for number in range(5_000)}
    wide = [{**COMPANY, **members}] * 5 + [{**COMPANY, "x" * 1_000: 1}, {"type": "company"}]
    refused = problem(client.post("/v1/import", content=lines(*wide), headers=NDJSON), 422, "invalid-lines")
    assert (refused["errors_total"], len(refused["errors"])) == (25_002, MOST_ERRORS + 3)
    listed = [error["line"] for error in refused["errors"]]
    assert [listed.count(number) for number in range(1, 8)] == [5_000, 5_000, 5_000, 5_000, 1, 1, 1]
    assert refused["errors"][-2]["field"] == "x" * 99 + "…"


TOO_EARLY = "0001-01-01T00:00:00+14:00"
"""Postgres stores it, and no client of ours can read it back."""


def test_a_sync_that_starts_before_all_facts_is_refused_wherever_it_is_sent(
    client: httpx.Client, keys_published: None
) -> None:
    account = "/v1/companies/shop-1/accounts/synced"
    for instant in (TOO_EARLY, "1999-12-31T23:59:59.999999Z", "2000-01-01T00:00:00+00:01"):
        values = {"synced_by_platform_from": instant}
        body = lines({**ACCOUNT, "company_id": "shop-1", "account_id": "synced", **values})
        for language, cure in (("en", "that day or a later instant"), ("zh", "请填写该日或更晚的时间")):
            of = {"accept-language": language}
            for response, code, field in (
                (client.put(account, json=values, headers=of), "invalid-request", "synced_by_platform_from"),
                (client.post("/v1/import", content=body, headers={**NDJSON, **of}), "invalid-lines", "synced_by_platform_from"),
                (
                    client.post("/v1/companies/shop-1/accounts/main/platform-sync", json={"on": True, "since": instant}, headers=of),
                    "invalid-request", "since",
                ),
            ):  # fmt: skip
                (error,) = problem(response, 422, code)["errors"]
                assert (error["field"], error["code"]) == (field, "too-early")
                assert "2000-01-01" in error["detail"] and cure in error["detail"]
    earliest = {"synced_by_platform_from": "2000-01-01T00:00:00Z"}
    assert client.put(account, json=earliest).status_code == 201
    assert client.get(account).json()["synced_by_platform_from"] == earliest["synced_by_platform_from"]


@pytest.mark.parametrize("password", ["😀" * 4096, "\x01" * 4096])
def test_a_password_that_cannot_be_sealed_is_named(client: httpx.Client, keys_published: None, password: str) -> None:
    login = {"address": "canary@163.com", "password": password}
    wanted = {"company_id": "shop-1", "account_id": "main", "login": login}
    mailbox = {**MAILBOX, "company_id": "shop-1", "login": login}
    for response, code in (
        (client.post("/v1/connection-tests", json=wanted), "invalid-request"),
        (client.post("/v1/import", content=lines(COMPANY, mailbox), headers=NDJSON), "invalid-lines"),
    ):
        (error,) = problem(response, 422, code)["errors"]
        assert (error["field"], error["code"]) == ("login.password", "password-too-long")
        assert error.get("line") in (None, 2) and password[:9] not in response.text
    login["password"] = "x" * 4096
    assert client.post("/v1/connection-tests", json=wanted).status_code == 202


def test_mailboxes_of_an_import_need_the_scope_to_connect(portal: Portal, dsn: str, keys_published: None) -> None:
    with api_client(portal, new_key(dsn, "shop-", ("registry:write",)).secret) as client:
        assert client.post("/v1/import", content=lines(COMPANY, ACCOUNT), headers=NDJSON).status_code == 200
        problem(client.post("/v1/import", content=lines(MAILBOX), headers=NDJSON), 403, "scope-missing")
