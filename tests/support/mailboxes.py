"""Mailboxes in the registry without a mail server: with consent and connected, as after a passed connection test."""

from datetime import UTC, datetime, timedelta
from typing import Final

from services.mail.values import Login
from services.registry.connection_attempts import ConnectionAttempt, GivenConsent
from services.registry.registry import Registry

HOST: Final = "imap.mail.test"


def connected(
    registry: Registry,
    company_id: str,
    account_id: str = "main",
    mailbox_id: str = "m1",
    *,
    address: str = "seller@mail.test",
    password: str = "secret",
    host: str = HOST,
    role: str = "registered",
    by: str = "tests",
) -> str:
    """Add an active mailbox whose user name is its address; returns its id."""
    login = Login(address, host, 993, address, password)
    mailbox_id = registry.connection_attempts.begin(
        ConnectionAttempt(company_id, account_id, mailbox_id, role, login, GivenConsent(by, "2", "en"))
    )
    registry.connection_attempts.connect(company_id, mailbox_id, login, datetime.now(UTC) - timedelta(days=60), by=by)
    return mailbox_id
