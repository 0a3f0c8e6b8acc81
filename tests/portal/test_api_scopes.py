"""The document of the API names the scopes of each operation: exactly those that a request needs, and where the token of a frame is taken."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from services.common.postgres import connect
from services.portal.api.callers import BEARER, FRAME_BEARER
from services.registry.api_keys import SCOPES, ApiKeys
from tests.portal import api_document
from tests.support.connect_lab import ACCOUNT, COMPANY, add_account
from tests.support.portal_in_process import PortalInProcess, frame_tokens, portal_in_process
from tests.support.portal_lab import portal_login

OPERATIONS = api_document.operations(api_document.described())


class Callers:
    """Keys with any scopes, and the token of a frame."""

    def __init__(self, dsn: str, portal: PortalInProcess) -> None:
        self._dsn = dsn
        self._portal = portal
        self._keys: dict[frozenset[str], str] = {}
        self.frame_token = frame_tokens(dsn, [(COMPANY, ACCOUNT)])[COMPANY, ACCOUNT]

    def key(self, scopes: frozenset[str]) -> str:
        """The secret of a key with these scopes alone."""
        if scopes not in self._keys:
            with connect(self._dsn, "tests") as connection:
                self._keys[scopes] = ApiKeys(connection).add("platform", tuple(scopes), "", by="tests").secret
        return self._keys[scopes]

    def code(self, name: str, operation: Mapping[str, Any], token: str) -> tuple[int, str]:
        """Status, and the code of the problem or ""; for a request whose ids are unknown and whose body is empty."""
        method, path = name.split(" ")
        media_types = list(operation.get("requestBody", {}).get("content", {})) or ["application/json"]
        answer = self._portal.request(
            method,
            "/v1" + re.sub(r"\{\w+\}", "unknown", path),
            headers={"authorization": f"Bearer {token}", "content-type": media_types[0]},
        )
        is_problem = answer.headers.get("content-type", "") == "application/problem+json"
        problem = answer.json() if is_problem else {}
        scope_missing = problem.get("code") == "scope-missing"
        return answer.status_code, problem["detail"] if scope_missing else problem.get("code", "")


@pytest.fixture(scope="module")
def callers(postgres: Any) -> Iterator[Callers]:
    dsn = postgres()
    add_account(dsn)
    with portal_login(dsn) as login, portal_in_process(login) as portal:
        yield Callers(dsn, portal)


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_an_operation_needs_the_scopes_of_its_document_and_no_other(
    callers: Callers, name: str, operation: Mapping[str, Any]
) -> None:
    security = {scheme: scopes for alternative in operation["security"] for scheme, scopes in alternative.items()}
    needed = frozenset(security[BEARER.scheme_name])
    assert needed <= set(SCOPES)
    for scope in needed:
        status, detail = callers.code(name, operation, callers.key(frozenset(SCOPES) - {scope}))
        assert status == 403 and scope in detail
    allowed = needed or frozenset({"audit:read"})
    assert callers.code(name, operation, callers.key(allowed))[0] not in (401, 403, 500)
    status, _ = callers.code(name, operation, callers.frame_token)
    assert (status == 401) is (FRAME_BEARER.scheme_name not in security)
