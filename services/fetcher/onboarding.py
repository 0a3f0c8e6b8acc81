"""Connecting a mailbox: consent, settings, one real login that finds a Sent folder, then it is active.

The test goes through the same code as every later poll, so what passed here works there. What a seller is told names
the step and the cure; what the network said stays with the operator.
"""

import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from services.common.hashing import normalise_address
from services.common.settings import ImapSettings
from services.fetcher import imap
from services.fetcher.imap import SentFolder
from services.fetcher.registry import NewMailbox, Registry, RegistryError
from services.fetcher.session import Budgets, MailboxError, Resolver, check_host, tls_context

STEPS = ("dns", "tcp", "tls", "greeting", "login", "id", "list", "examine")
"""The steps of the test in order; an error names the one that failed."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a person typed. `mailbox_id` None: one is made up."""

    company_id: str
    account_id: str
    address: str
    password: str
    consent_by: str
    role: str = "registered"
    host: str | None = None
    port: int = 993
    user: str | None = None
    mailbox_id: str | None = None
    sent_override: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Connected:
    """A mailbox that is active now."""

    company_id: str
    mailbox_id: str
    connected_at: datetime
    folders: tuple[SentFolder, ...]
    messages: int


class Rejected(RegistryError):
    """The connection test failed at `stage` with `code`; nothing was stored."""

    def __init__(self, stage: str, code: str, told: str) -> None:
        self.stage = stage
        self.code = code
        super().__init__(told)


def add_mailbox(
    registry: Registry,
    settings: ImapSettings,
    request: Request,
    *,
    resolve: Resolver,
    version: str,
    budgets: Budgets | None = None,
    progress: Callable[[str], None] = lambda _: None,
    context: ssl.SSLContext | None = None,
) -> Connected:
    """Test a mailbox and store it as active. RegistryError (Rejected for a failed test) with what to do."""
    if not request.consent_by.strip():
        raise RegistryError("nobody consented: say who did with --consent-by NAME; without consent no mailbox is read")
    if normalise_address(request.address) is None:
        raise RegistryError("this is no e-mail address; write it as name@domain")
    if request.role not in ("registered", "backup"):
        raise RegistryError("the role must be registered or backup")
    if not request.host:
        raise RegistryError(
            "name the IMAP server of this mailbox: --host imap.example.com (its provider's help tells it)"
        )
    if not request.password:
        raise RegistryError("a password is needed: --password-file FILE, or type it when asked")
    user, host = request.user or request.address, request.host.strip().rstrip(".").lower()
    registry.check_new_mailbox(request.company_id, request.account_id, host, user)
    try:
        folders, messages = _test(
            settings, request, user, host, resolve, version, budgets or Budgets(), progress, context
        )
    except MailboxError as error:
        raise Rejected(error.stage, error.code, f"{error.told} (step: {error.stage})") from error
    mailbox_id = request.mailbox_id or f"m-{secrets.token_hex(6)}"
    connected_at = registry.add_mailbox(
        NewMailbox(
            company_id=request.company_id,
            account_id=request.account_id,
            mailbox_id=mailbox_id,
            role=request.role,
            address=request.address,
            host=host,
            port=request.port,
            user=user,
            password=request.password,
            consent_by=request.consent_by,
            sent_override=request.sent_override,
        )
    )
    return Connected(request.company_id, mailbox_id, connected_at, tuple(folders), messages)


def _test(
    settings: ImapSettings,
    request: Request,
    user: str,
    host: str,
    resolve: Resolver,
    version: str,
    budgets: Budgets,
    progress: Callable[[str], None],
    context: ssl.SSLContext | None,
) -> tuple[list[SentFolder], int]:
    progress("dns")
    endpoint = check_host(
        host,
        request.port,
        allowed_networks=settings.allowed_private_networks,
        allowed_ports=settings.allowed_ports,
        resolve=resolve,
    )
    progress("connect")
    connection = imap.connect(endpoint, context or tls_context(settings.ca_file), budgets)
    try:
        progress("login")
        connection.login(user, request.password, version)
        progress("list")
        folders = connection.sent_folders(request.sent_override)
        progress("examine")
        messages = sum(connection.examine(folder.name).messages for folder in folders)
    finally:
        connection.logout()
    return folders, messages
