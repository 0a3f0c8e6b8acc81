"""What applies to every request to the API: keys, scopes, problems in both languages, limits, and the document."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from click.testing import CliRunner, Result

from services.cli.__main__ import main
from services.common.postgres import connect
from services.portal.api import problems
from services.portal.api.rate_limits import RateLimiter
from services.portal.id_paths import path_id, routable
from services.portal.request_limits import BODY_BYTES
from services.registry.api_keys import ApiKeys
from tests.portal import api_document
from tests.support.api_lab import api_client, new_key, problem
from tests.support.portal_lab import MakePortal, Portal, make_portal, portal, portal_dsn

__all__ = ["make_portal", "portal", "portal_dsn"]


def test_a_key_shows_what_it_may_do_and_the_day_of_its_use_is_noted(portal: Portal, dsn: str) -> None:
    key = new_key(dsn, "shop-", ("numbers:read", "registry:read"))
    with api_client(portal, key.secret) as client:
        response = client.get("/v1/key")
    assert response.json() == {
        "key_id": key.key_id, "name": "platform", "scopes": ["numbers:read", "registry:read"], "company_prefix": "shop-",
    }  # fmt: skip
    assert response.headers["ratelimit-policy"] == '"key";q=600;w=60'
    assert response.headers["ratelimit"].startswith('"key";r=599;')
    assert response.headers["content-security-policy"]
    with connect(dsn, "tests") as connection:
        (stored,) = ApiKeys(connection).all()
    assert stored["last_used_on"] == datetime.now(UTC).date()
    assert key.secret not in str(stored)


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer rrk_short", "Bearer rrk_" + "x" * 43, "Basic eDp5", "Bearer " + "ÿ" * 30]
)
def test_without_a_valid_key_there_is_nothing(portal: Portal, authorization: str) -> None:
    with portal.client() as client:
        response = client.get("/v1/key", headers={b"authorization": authorization.encode("latin-1")})
    problem(response, 401, "not-authenticated")
    assert response.headers["www-authenticate"] == "Bearer"


def test_keys_expire_are_revoked_and_are_rotated_with_an_overlap(portal: Portal, dsn: str) -> None:
    def status(secret: str) -> int:
        with api_client(portal, secret) as client:
            return client.get("/v1/key").status_code

    expired_at = datetime.now(UTC) - timedelta(seconds=1)
    with connect(dsn, "tests") as connection:
        keys = ApiKeys(connection)
        assert status(keys.add("old", ("numbers:read",), "", by="tests", expires_at=expired_at).secret) == 401
        first = keys.add("platform", ("numbers:read",), "shop-", by="tests")
        second = keys.rotate(first.key_id, 24, by="Chen")
        assert (status(first.secret), status(second.secret)) == (200, 200)
        keys.revoke(first.key_id, by="Wang")
        assert (status(first.secret), status(second.secret)) == (401, 200)
        third = keys.rotate(second.key_id, 0, by="tests")
        assert (status(second.secret), status(third.secret)) == (401, 200)
        ends = {key["key_id"]: (key["state"], key["revoked_by"], key["created_by"]) for key in keys.all()}
    assert ends[first.key_id] == ("revoked", "Wang", "tests"), "who revokes a key that was replaced is recorded"
    assert (ends[second.key_id], ends[third.key_id]) == (("expired", "tests", "Chen"), ("valid", None, "tests"))


def test_keys_at_the_command_line(portal: Portal, dsn: str) -> None:
    settings = {"REPLYRATE_POSTGRES__DSN": dsn, "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9"}
    for name in ("HASH", "VAULT"):
        settings[f"REPLYRATE_{name}_KEY_FILE"] = "/no-such-file"

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["api-key", *arguments], env=settings)

    added = run("add", "platform", "--scope", "registry:read", "--companies", "shop-", "--expires", "2100-01-01")
    assert added.exit_code == 0, added.output
    secret = added.stdout.strip()
    with api_client(portal, secret) as client:
        key_id = client.get("/v1/key").json()["key_id"]
        (listed,) = json.loads(run("list", "--json").stdout)
        assert listed["key_id"] == key_id and listed["scopes"] == ["registry:read"] and "hash" not in str(listed)
        rotated = json.loads(run("rotate", key_id, "--overlap-hours", "0", "--json").stdout)
        assert client.get("/v1/key").status_code == 401
    with api_client(portal, rotated["secret"]) as client:
        assert client.get("/v1/key").json()["company_prefix"] == "shop-"
        assert run("revoke", rotated["key_id"], "--by", "Wang").exit_code == 0
        revoked_by = {key["key_id"]: key["revoked_by"] for key in json.loads(run("list", "--json").stdout)}
        assert revoked_by == {key_id: "operator", rotated["key_id"]: "Wang"}
        assert client.get("/v1/key").status_code == 401
    for arguments, text in [
        (("add", "platform"), "scope"), (("add", "a@b.example", "--scope", "registry:read"), "name"),
        (("rotate", key_id), "no valid key"), (("revoke", "k-000000000000"), "no valid key"),
        (("revoke", key_id, "--by", "a@b.example"), "--by"),
        (("add", "old", "--scope", "registry:read", "--expires", "2020-01-01"), "past"),
    ]:  # fmt: skip
        refused = run(*arguments)
        assert refused.exit_code in (1, 2) and text in refused.stderr, refused.stderr


def test_problems_are_in_the_language_of_the_request(portal: Portal) -> None:
    with portal.client() as client:
        english = client.get("/v1/key")
        chinese = client.get("/v1/key", headers={"accept-language": "zh-CN"})
    assert (english.headers["content-language"], chinese.headers["content-language"]) == ("en", "zh-CN")
    assert "API key" in english.json()["title"] and "密钥" in chinese.json()["title"]


def test_what_the_server_refuses_by_itself_is_a_problem_too(portal: Portal, dsn: str) -> None:
    body = b"x" * (BODY_BYTES + 1)
    with api_client(portal, new_key(dsn).secret) as client:
        problem(client.get("/v1/no-such-resource"), 404, "not-found")
        problem(client.get("/v1/"), 404, "not-found")
        response = client.delete("/v1/key")
        problem(response, 405, "method-not-allowed")
        assert response.headers["allow"] == "GET"
        problem(client.get("/v1/key", headers={"host": "evil.example"}), 421, "wrong-host")
        problem(client.post("/v1/key", content=body), 413, "body-too-large")


def test_a_key_that_sends_too_many_requests_waits(make_portal: MakePortal, dsn: str) -> None:
    first, second = new_key(dsn), new_key(dsn)
    with make_portal(PORTAL__API_REQUESTS_PER_MINUTE="1") as portal, api_client(portal, first.secret) as client:
        assert client.get("/v1/key").status_code == 200
        response = client.get("/v1/key")
        problem(response, 429, "too-many-requests")
        assert 1 <= int(response.headers["retry-after"]) <= 60
        with api_client(portal, second.secret) as another_client:
            assert another_client.get("/v1/key").status_code == 200


def test_a_bucket_fills_again() -> None:
    now = 0.0
    limiter = RateLimiter(60, lambda: now)
    assert all(limiter.take("k").allowed for _ in range(60))
    refused = limiter.take("k")
    assert (refused.allowed, refused.remaining, refused.wait_seconds) == (False, 0, 1)
    now = 2.0
    assert [limiter.take("k").allowed for _ in range(3)] == [True, True, False]


def test_a_database_that_does_not_answer_is_a_problem_with_a_time_to_retry(
    portal: Portal, portal_dsn: str, dsn: str
) -> None:
    key = new_key(dsn)
    login = portal_dsn.partition("user=")[2].partition(" ")[0].strip("'")
    with connect(dsn, "tests") as connection, api_client(portal, key.secret) as client:
        assert client.get("/v1/key").status_code == 200
        connection.execute(f"ALTER ROLE {login} NOLOGIN".encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (login,))
        response = client.get("/v1/key")
        problem(response, 503, "unavailable")
        assert response.headers["retry-after"] == "5"
        connection.execute(f"ALTER ROLE {login} LOGIN".encode())
        assert client.get("/v1/key").status_code == 200


def test_an_id_with_a_slash_is_one_part_of_a_path() -> None:
    path = routable(b"/v1/companies/a%2Fb%25%20c?x=%2F")
    assert path == "/v1/companies/a%2Fb%25 c"
    assert path_id(path.split("/")[3]) == "a/b% c"
    assert path_id(routable(b"a%0Ab")) == "a\nb"
    assert path_id(routable(b"a%252F").split("/")[0]) == "a%2F"


def test_every_text_of_a_problem_has_values_that_its_code_gives() -> None:
    texts, fields = problems.load()
    for text in [*[part for entry in texts.values() for part in (entry.title, entry.detail)], *fields.values()]:
        assert text.en.count("{") == text.zh.count("{") or "{reason}" in text.en


def test_the_document_is_what_the_routes_describe_and_is_served(portal: Portal) -> None:
    stored = api_document.FILE.read_text("utf-8")
    assert stored == api_document.render(), "python -m tests.portal.api_document"
    with portal.client() as client:
        response = client.get("/v1/openapi.yaml")
    assert response.text == stored
    assert yaml.safe_load(stored)["openapi"].startswith("3.1")
