"""Clients of the HTTP API of the tests: keys with their scopes and companies, and problems as they should look."""

import base64
from typing import Any, Final

import httpx

from services.common.hashing import Hasher
from services.common.postgres import connect
from services.registry.accounts import Accounts
from services.registry.api_keys import SCOPES, ApiKeys, NewApiKey
from services.registry.companies import Companies
from services.registry.registry import Registry
from services.registry.vault import Vault
from tests.support.mailboxes import connected
from tests.support.portal_lab import Portal

NESTED_CURSOR: Final = base64.urlsafe_b64encode(b"[" * 1_200).decode()
"""Base64 of JSON that is nested more deeply than a decoder without types allows."""


def new_key(dsn: str, company_prefix: str = "", scopes: tuple[str, ...] = SCOPES) -> NewApiKey:
    """A key of a platform; `dsn` is the owner's."""
    with connect(dsn, "tests") as connection:
        return ApiKeys(connection).add("platform", scopes, company_prefix, by="tests")


def api_client(portal: Portal, secret: str, **headers: str) -> httpx.Client:
    """A client that sends a key."""
    return portal.client(headers={"authorization": f"Bearer {secret}", **headers})


def add_account(dsn: str, company_id: str, account_id: str = "main") -> None:
    """Register an account and its company."""
    with connect(dsn, "tests") as connection:
        Companies(connection).add(company_id)
        Accounts(connection).add(company_id, account_id)


def add_mailbox(dsn: str, company_id: str, mailbox_id: str, host: str = "imap.qq.com") -> None:
    """Register an active mailbox, its company and the account main."""
    add_account(dsn, company_id)
    with connect(dsn, "tests") as connection:
        registry = Registry(connection, Hasher(b"h" * 32), Vault(b"v" * 32))
        address = f"{mailbox_id}@mail.test"
        connected(registry, company_id, mailbox_id=mailbox_id, address=address, host=host)


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that a response is; fails when it is another."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    members: dict[str, Any] = response.json()
    assert (response.status_code, members["status"], members["code"]) == (status, status, code), response.text
    assert members["type"] == f"urn:replyrate:problem:{code}"
    assert members["title"] and members["detail"] and "{" not in members["detail"]
    return members
