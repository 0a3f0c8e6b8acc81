"""Companies, accounts and mailboxes over the API, and what a key of other companies sees of them: nothing."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from services.common.hashing import Hasher
from services.common.postgres import connect
from services.portal.api.mailboxes import advice
from services.registry.connect_requests import ConnectRequests
from services.registry.links import Links
from services.registry.mailboxes import Mailboxes
from services.registry.registry import Registry
from services.registry.sealing import OpeningKeys
from services.registry.states import STATES
from services.registry.vault import Vault
from tests.support.api_lab import NESTED_CURSOR, add_account, add_mailbox, api_client, new_key, problem
from tests.support.mailboxes import connected
from tests.support.portal_lab import Portal, make_portal, portal, portal_dsn

__all__ = ["make_portal", "portal", "portal_dsn"]


@pytest.fixture
def client(portal: Portal, dsn: str) -> Iterator[httpx.Client]:
    """A client whose key is for the companies that begin with shop-."""
    with api_client(portal, new_key(dsn, "shop-").secret) as client:
        yield client


def test_companies_and_accounts_are_registered_once(client: httpx.Client) -> None:
    created = client.put("/v1/companies/shop-1")
    assert created.status_code == 201 and created.json()["company_id"] == "shop-1"
    again = client.put("/v1/companies/shop-1")
    assert (again.status_code, again.json()) == (200, created.json())
    assert client.get("/v1/companies/shop-1").json() == created.json()
    account = client.put("/v1/companies/shop-1/accounts/main", json={})
    assert account.status_code == 201
    assert (account.json()["kind"], account.json()["synced_by_platform_from"]) == ("main", None)
    assert client.put("/v1/companies/shop-1/accounts/main", json={"kind": "main"}).status_code == 200
    problem(client.put("/v1/companies/shop-1/accounts/main", json={"kind": "sub"}), 409, "not-possible")
    synced = client.put(
        "/v1/companies/shop-1/accounts/a%2Fb%25", json={"synced_by_platform_from": "2026-01-01T08:00:00+08:00"}
    )
    assert synced.status_code == 201 and synced.json()["account_id"] == "a/b%"
    assert synced.json()["synced_by_platform_from"] == "2026-01-01T00:00:00Z"
    assert client.get("/v1/companies/shop-1/accounts/a%2Fb%25").json() == synced.json()
    problem(client.put("/v1/companies/shop-2/accounts/main", json={}), 404, "company-unknown")
    problem(client.get("/v1/companies/shop-1/accounts/none"), 404, "account-unknown")
    changes = client.get("/v1/changes").json()["items"]
    assert [(change["action"], change["subject"]) for change in changes] == [
        ("account-added", "a/b%"), ("account-added", "main"), ("company-added", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"kind": "other"}, "kind", "literal-error"),
        ({"kind": 1}, "kind", "literal-error"),
        ({"name": "x"}, "name", "extra-forbidden"),
        ({"synced_by_platform_from": "2026-01-01T00:00:00"}, "synced_by_platform_from", "timezone-aware"),
        ({"synced_by_platform_from": "yesterday"}, "synced_by_platform_from", "datetime-from-date-parsing"),
        ({"synced_by_platform_from": "2999-01-01T00:00:00Z"}, "synced_by_platform_from", "in-the-future"),
        ([], "", "model-attributes-type"),
    ],
)
def test_wrong_values_are_named_with_what_to_write(client: httpx.Client, body: Any, field: str, code: str) -> None:
    client.put("/v1/companies/shop-1")
    for language in ("en", "zh"):
        response = client.put("/v1/companies/shop-1/accounts/main", json=body, headers={"accept-language": language})
        (error,) = problem(response, 422, "invalid-request")["errors"]
        assert (error["in"], error["field"], error["code"]) == ("body", field, code), error
        assert "{" not in error["detail"] and ("，" in error["detail"] or language == "en" or "JSON" in error["detail"])


def test_what_is_no_request_is_told_so(client: httpx.Client) -> None:
    response = client.put(
        "/v1/companies/shop-1/accounts/main", content=b"{", headers={"content-type": "application/json"}
    )
    problem(response, 400, "not-json")
    (error,) = problem(client.put("/v1/companies/%00"), 422, "invalid-request")["errors"]
    problem(client.get("/v1/companies/a%0Ab"), 422, "invalid-request")
    assert (error["in"], error["field"]) == ("path", "company_id")
    for query in ("limit=0", "limit=501", "after=x", "after=WyJhIiwyXQ", f"after={NESTED_CURSOR}"):
        problem(client.get(f"/v1/companies?{query}"), 422, "invalid-request")
    problem(client.get("/v1/mailboxes?provider=none"), 422, "invalid-request")


def test_a_key_sees_and_changes_its_own_companies_only(client: httpx.Client, portal: Portal, dsn: str) -> None:
    add_mailbox(dsn, "shop-1", "m1")
    add_mailbox(dsn, "mall-1", "m2")
    problem(client.put("/v1/companies/mall-2"), 403, "company-not-allowed")
    problem(client.put("/v1/companies/mall-1/accounts/x", json={}), 403, "company-not-allowed")
    texts = []
    for company in ("mall-1", "mall-9"):
        texts.append(
            [
                problem(client.get(f"/v1/companies/{company}{path}"), 404, code)
                for path, code in [
                    ("", "company-unknown"),
                    ("/accounts", "company-unknown"),
                    ("/accounts/main", "account-unknown"),
                    ("/mailboxes/m2", "mailbox-unknown"),
                    ("/mailboxes/m2/history", "mailbox-unknown"),
                ]
            ]
            + [
                problem(client.post(f"/v1/companies/{company}/mailboxes/m2/{action}"), 404, "mailbox-unknown")
                for action in ("pause", "resume", "rescan")
            ]
        )
    assert texts[0] == texts[1], "the answers tell which companies exist"
    assert [item["company_id"] for item in client.get("/v1/companies").json()["items"]] == ["shop-1"]
    assert [item["company_id"] for item in client.get("/v1/mailboxes").json()["items"]] == ["shop-1"]
    for query in ("company_id=mall-1", "company_prefix=mall-", "company_prefix=m"):
        assert client.get(f"/v1/mailboxes?{query}").json()["items"] == []
    with api_client(portal, new_key(dsn, "mall-").secret) as another:
        assert another.put("/v1/companies/mall-3").status_code == 201
    assert client.get("/v1/changes").json()["items"] == []


def test_a_scope_that_is_missing_is_named(portal: Portal, dsn: str) -> None:
    with api_client(portal, new_key(dsn, scopes=("inquiries:write",)).secret) as client:
        for method, path, scope in [
            ("GET", "/v1/companies", "registry:read"), ("PUT", "/v1/companies/c", "registry:write"),
            ("POST", "/v1/companies/c/mailboxes/m/pause", "registry:write"), ("GET", "/v1/changes", "audit:read"),
        ]:  # fmt: skip
            assert scope in problem(client.request(method, path), 403, "scope-missing")["detail"]


def test_pages_list_everything_once(client: httpx.Client, dsn: str) -> None:
    for number in range(5):
        add_mailbox(dsn, f"shop-{number}", f"m{number}", "imap.163.com" if number == 3 else "imap.qq.com")
    listed, after = [], None
    while True:
        query = {"limit": 2} | ({"after": after} if after else {})
        page = client.get("/v1/mailboxes", params=query).json()
        listed += [mailbox["mailbox_id"] for mailbox in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert listed == ["m0", "m1", "m2", "m3", "m4"]

    def ids(**query: Any) -> list[str]:
        return [mailbox["mailbox_id"] for mailbox in client.get("/v1/mailboxes", params=query).json()["items"]]

    client.post("/v1/companies/shop-2/mailboxes/m2/pause")
    assert ids(state="paused") == ["m2"]
    assert ids(state=["paused", "removed"]) == ["m2"]
    assert ids(company_id="shop-4") == ids(company_prefix="shop-4") == ["m4"]
    assert ids(account_id="none") == [] and ids(reason="login-given-up") == []
    provider = client.get("/v1/companies/shop-3/mailboxes/m3").json()["provider"]
    assert ids(provider=provider) == ["m3"]


def test_a_mailbox_is_paused_resumed_and_read_again_by_the_key(client: httpx.Client, dsn: str) -> None:
    add_mailbox(dsn, "shop-1", "m1")
    path = "/v1/companies/shop-1/mailboxes/m1"
    read = client.get(path)
    assert read.headers["etag"] == read.json()["etag"]
    assert "m1@mail.test" not in read.text and read.json()["advice"]["zh"]
    paused = client.post(f"{path}/pause", headers={"if-match": read.headers["etag"]})
    assert (paused.status_code, paused.json()["state"]) == (200, "paused")
    assert problem(client.post(f"{path}/resume", headers={"if-match": read.headers["etag"]}), 412, "changed-meanwhile")
    chinese = client.post(f"{path}/pause", headers={"accept-language": "zh"})
    assert "邮箱 m1 的状态为“已暂停”；只有同步中的邮箱才能暂停。" in problem(chinese, 409, "not-possible")["detail"]
    resumed = client.post(f"{path}/resume", headers={"if-match": paused.headers["etag"]})
    assert resumed.json()["state"] == "active"
    assert client.post(f"{path}/rescan", headers={"if-match": "*"}).status_code == 200
    with connect(dsn, "tests") as connection:
        again = connection.execute("SELECT reconcile_after IS NOT NULL FROM registry.mailboxes").fetchone()
    assert again == (True,)
    key = client.get("/v1/key").json()
    history = client.get(f"{path}/history").json()["history"]
    assert [change["to_state"] for change in history][-2:] == ["paused", "active"]
    assert {change["changed_by"] for change in history[-2:]} == {f"{key['key_id']} (platform)"}
    changes = client.get("/v1/changes", params={"company_id": "shop-1"}).json()["items"]
    assert [change["action"] for change in changes] == ["mailbox-rescanned", "mailbox-resumed", "mailbox-paused"]
    first = client.get("/v1/changes?limit=2").json()
    second = client.get("/v1/changes", params={"limit": 2, "after": first["next"]}).json()
    assert [change["action"] for change in first["items"] + second["items"]] == [
        "mailbox-rescanned", "mailbox-resumed", "mailbox-paused",
    ]  # fmt: skip


def test_a_request_that_is_sent_again_happens_once(client: httpx.Client, portal: Portal, dsn: str) -> None:
    add_mailbox(dsn, "shop-1", "m1")
    path, name = "/v1/companies/shop-1/mailboxes/m1", {"idempotency-key": "request-1"}
    first = client.post(f"{path}/pause", headers=name)
    again = client.post(f"{path}/pause", headers=name)
    assert (again.status_code, again.json(), again.headers["etag"]) == (200, first.json(), first.headers["etag"])
    assert "idempotent-replayed" not in first.headers and again.headers["idempotent-replayed"] == "true"
    problem(client.post(f"{path}/resume", headers=name), 409, "idempotency-key-used")
    assert len(client.get("/v1/changes").json()["items"]) == 1
    refused = {"idempotency-key": "request-2"}
    problem(client.post(f"{path}/pause", headers=refused), 409, "not-possible")
    assert client.post(f"{path}/resume", headers={"idempotency-key": "request-3"}).status_code == 200
    assert client.post(f"{path}/pause", headers=refused).status_code == 200, "a refused request is not stored"
    with api_client(portal, new_key(dsn, "shop-").secret) as another:
        problem(another.post(f"{path}/pause", headers=name), 409, "not-possible")
    for bad in ("", "a b", "x" * 256):
        problem(client.post(f"{path}/pause", headers={"idempotency-key": bad}), 422, "invalid-request")
    with connect(dsn, "tests") as connection:
        stored = connection.execute("SELECT answer_sealed FROM registry.api_answers").fetchall()
        assert len(stored) == 3 and all(b"shop-1" not in bytes(sealed) for (sealed,) in stored)
        connection.execute("UPDATE registry.api_answers SET created_at = now() - interval '25 hours'")
    assert client.post(f"{path}/resume", headers=name).status_code == 200, "a name is free again after a day"


def test_addresses_are_listed_masked_and_change_by_request_alone(
    client: httpx.Client, portal: Portal, dsn: str
) -> None:
    add_mailbox(dsn, "shop-1", "m1")
    client.put("/v1/companies/shop-1/accounts/sub", json={"kind": "sub"})
    with connect(dsn, "tests") as connection:
        registry = Registry(connection, Hasher(b"h" * 32), Vault(b"v" * 32))
        registry.addresses.set("shop-1", "main", "backup", "canary@mail.test")
        registry.addresses.set("shop-1", "main", "registered", "m1@mail.test")
        ConnectRequests(connection).publish_key(OpeningKeys(b"v" * 32).current)
    path = "/v1/companies/shop-1/accounts/main/addresses"
    listed = client.get(path).json()["items"]
    assert [(item["role"], item["address_masked"]) for item in listed] == [
        ("registered", "m***@mail.test"), ("backup", "c***@mail.test"),
    ]  # fmt: skip
    name, values = {"idempotency-key": "address-1"}, {"address": "canary2@mail.test"}
    first = client.put(f"{path}/registered", json=values, headers=name)
    again = client.put(f"{path}/registered", json=values, headers=name)
    assert (first.status_code, first.json()["purpose"], again.json()) == (202, "address-change", first.json())
    assert client.delete(f"{path}/backup").json()["purpose"] == "address-removal"
    of_sub = path.replace("main", "sub")
    refused = client.put(f"{of_sub}/registered", json=values, headers={"accept-language": "zh"})
    assert "其注册邮箱地址须由主账号变更" in problem(refused, 409, "not-possible")["detail"]
    assert client.put(f"{of_sub}/registered", json={**values, "by_account": "main"}).status_code == 202
    problem(client.put(f"{path}/backup", json={**values, "by_account": "sub"}), 409, "not-possible")
    problem(client.delete(f"{of_sub}/backup"), 409, "not-possible")
    problem(client.put(f"{path}/backup", json={**values, "by_account": "none"}), 404, "account-unknown")
    problem(client.put(f"{path}/backup", json={"address": "seller"}), 422, "invalid-request")
    problem(client.put(f"{path}/other", json=values), 422, "invalid-request")
    assert [change["action"] for change in client.get("/v1/changes?limit=3").json()["items"]] == [
        "address-change-requested", "address-removal-requested", "address-change-requested",
    ]  # fmt: skip
    with api_client(portal, new_key(dsn, "mall-").secret) as another:
        for response in (
            another.get(path),
            another.put(f"{path}/backup", json=values),
            another.delete(f"{path}/backup"),
        ):
            problem(response, 404, "account-unknown")
    with connect(dsn, "tests") as connection:
        for table in ("api_answers", "api_changes", "connect_requests", "addresses"):
            for (text,) in connection.execute(f"SELECT to_json(t)::text FROM registry.{table} t".encode()):
                assert "canary" not in text


def test_a_mailbox_is_linked_with_a_company_of_the_same_key(client: httpx.Client, portal: Portal, dsn: str) -> None:
    add_mailbox(dsn, "shop-1", "m1")
    for company_id in ("shop-2", "mall-1"):
        add_account(dsn, company_id)
    with connect(dsn, "tests") as connection:
        Links(connection).add("shop-1", "m1", "mall-1", by="operator")
    path = "/v1/companies/shop-1/mailboxes/m1/links"
    assert client.get(path).json() == {"items": []}, "a link with a company of others is not shown"
    problem(client.put(f"{path}/shop-2", headers={"if-match": '"x"'}), 412, "changed-meanwhile")
    etag = {"if-match": client.get("/v1/companies/shop-1/mailboxes/m1").headers["etag"]}
    linked = client.put(f"{path}/shop-2", headers=etag)
    key = client.get("/v1/key").json()
    assert (linked.status_code, linked.json()["company_id"], linked.json()["mailbox_id"]) == (201, "shop-2", None)
    assert linked.json()["linked_by"] == f"{key['key_id']} (platform)"
    assert (client.put(f"{path}/shop-2").status_code, client.get(path).json()["items"]) == (200, [linked.json()])
    problem(client.put(f"{path}/mall-1"), 403, "company-not-allowed")
    problem(client.put(f"{path}/shop-9"), 404, "company-unknown")
    assert (
        "不能与自身关联"
        in problem(client.put(f"{path}/shop-1", headers={"accept-language": "zh"}), 409, "not-possible")["detail"]
    )
    with connect(dsn, "tests") as connection:
        registry = Registry(connection, Hasher(b"h" * 32), Vault(b"v" * 32))
        connected(registry, "shop-2", mailbox_id="m2", address="m1@mail.test", host="imap.qq.com")
    assert client.get(path).json()["items"][0]["mailbox_id"] == "m2"
    assert "m2" in problem(client.delete(f"{path}/shop-2"), 409, "not-possible")["detail"]
    with connect(dsn, "tests") as connection:
        Mailboxes(connection).remove("shop-1", "m1", by="tests")
    problem(client.put(f"{path}/shop-2"), 409, "not-possible")
    add_mailbox(dsn, "shop-1", "m3")
    path = path.replace("m1", "m3")
    assert client.put(f"{path}/shop-2").status_code == 201
    assert client.delete(f"{path}/shop-2", headers=etag | {"if-match": "*"}).status_code == 204
    for removed in ("shop-2", "mall-1"):
        problem(client.delete(f"{path}/{removed}"), 409, "not-possible")
    changes = client.get("/v1/changes", params={"company_id": "shop-2"}).json()["items"]
    assert [change["action"] for change in changes] == ["mailbox-unlinked", "mailbox-linked", "mailbox-linked"]
    with api_client(portal, new_key(dsn, "mall-").secret) as another:
        for response in (another.get(path), another.put(f"{path}/mall-1"), another.delete(f"{path}/mall-1")):
            problem(response, 404, "mailbox-unknown")


def test_every_state_has_advice() -> None:
    assert set(advice()) == set(STATES)
