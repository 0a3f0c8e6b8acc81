"""Carries out a connect request: what a seller typed on a web page, opened by a fetcher.

The same use cases as at the command line (onboarding.py, tester.py, lookup.py); the result is a code and a report that the seller
may see. Nothing of what was typed is in it but the server's name and the names of folders.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from logging import getLogger
from typing import Any, Final

import msgspec

from services.common.settings import ImapSettings
from services.connect import texts
from services.connect.dns_records import DnsRecords
from services.connect.lookup import DomainRecords, look_up
from services.connect.onboarding import MailboxRefused, add_mailbox, choose_folders, list_folders, reconnect_mailbox
from services.connect.redirected_login import RedirectedLogin
from services.connect.report import ConnectionTestReport, unsupported
from services.connect.requests import changed_login, requested_login
from services.connect.server_check import check_typed_server
from services.connect.tester import ConnectionTester
from services.connect.typed_login import AUTHORIZATION_CODE, TypedLogin
from services.imap.host_policy import HostPolicy
from services.imap.tls import tls_context
from services.providers import catalog
from services.providers.addresses import domain_of
from services.providers.mail_server import MailServer
from services.registry.connect_requests import NOT_POSSIBLE, OF_MAILBOXES, TakenRequest
from services.registry.errors import RegistryError, unknown_mailbox
from services.registry.logins import LoginTaken
from services.registry.registry import Registry
from services.registry.states import CONNECTED
from services.signin.refusals import SignInRefused
from services.signin.token_store import MemoryTokenStore

log = getLogger(__name__)

CODES: Final = {
    "mailbox-reconnect-differently": "login-connected",
    "consent-show-again": "consent-changed",
    "consent-give": "consent-missing",
    "new-address-connect": "address-differs",
    "host-name": "server-unknown",
    "mailbox-reconnect": "reconnect-first",
}
"""Remedy of a request that the registry refused → code of the request. Others have the code NOT_POSSIBLE."""
OTHER_CODES: Final = ("login-taken", NOT_POSSIBLE, "address-malformed", "server-unknown")
"""Further codes of a request that ended before its connection test; those of a sign-in are in services/signin/refusals.py."""


@dataclass(frozen=True, slots=True)
class RequestResult:
    """What became of a request. `code`: passed, the code of the stage that failed, or why nothing was tried."""

    passed: bool
    code: str
    mailbox_id: str
    report: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RequestRunner:
    """Carries out requests over the network of this process."""

    settings: ImapSettings
    tester: ConnectionTester
    records: DomainRecords = field(default_factory=DnsRecords)
    sign_in: RedirectedLogin | None = None

    def run(
        self, registry: Registry, taken: TakenRequest, typed: TypedLogin, on_stage: Callable[[str], None]
    ) -> RequestResult:
        """The result of a request. `on_stage` is called with each stage that starts; what it raises ends the request."""
        tester = replace(self.tester, progress=on_stage)
        mailbox_id = taken.mailbox_id
        try:
            if taken.purpose == "look-up":
                return self._look_up(mailbox_id, typed)
            if taken.purpose in OF_MAILBOXES:
                _check_owner(registry, taken)
            if taken.purpose == "withdraw":
                registry.mailboxes.remove(taken.company_id, mailbox_id, by=typed.consent_by)
                return RequestResult(True, "passed", mailbox_id)
            if taken.purpose == "folders":
                return _listed(mailbox_id, list_folders(registry, taken.company_id, mailbox_id, tester))
            if taken.purpose == "folder-choice":
                report = choose_folders(
                    registry, taken.company_id, mailbox_id, typed.chosen_folders, tester, by=typed.consent_by
                )
                return _tested(mailbox_id, report)
            if taken.purpose in ("platform-sync-on", "platform-sync-off"):
                return _change_sync(registry, taken, typed)
            if taken.purpose in ("address-change", "address-removal"):
                return _change_address(registry, taken, typed)
            server = self._server(typed)
            if typed.kind == AUTHORIZATION_CODE:
                typed = self._signed_in(taken, typed, server)
            if taken.purpose == "test":
                login = requested_login(typed.connect_request(taken, server))
                tested, _ = tester.test(registry, taken.company_id, login, MemoryTokenStore(login.password))
                return _tested(mailbox_id, tested)
            if taken.purpose == "connect":
                connected = add_mailbox(registry, typed.connect_request(taken, server), tester)
            else:
                stored = registry.logins.without_password(taken.company_id, mailbox_id)
                login = changed_login(stored, typed.changes(server))
                connected = reconnect_mailbox(
                    registry, taken.company_id, mailbox_id, login, tester, consent_by=typed.consent_by,
                    text_version=typed.text_version, language=typed.language, session_id=typed.session_id,
                )  # fmt: skip
            return RequestResult(True, "passed", connected.mailbox_id, _data(connected.report))
        except MailboxRefused as error:
            return RequestResult(False, error.code, error.mailbox_id or mailbox_id, _data(error.report))
        except SignInRefused as error:
            if error.code == "code-expired" and taken.tries > 1 and _is_connected_since(registry, taken, mailbox_id):
                return RequestResult(True, "passed", mailbox_id)
            log.warning(
                "%s", error, extra={"action": "sign-in-refused", "company_id": taken.company_id, "code": error.code}
            )
            return RequestResult(False, error.code, mailbox_id, error.report)
        except LoginTaken:
            return RequestResult(False, "login-taken", mailbox_id)
        except RegistryError as error:
            if _is_done_already(registry, taken, typed, error):
                return RequestResult(True, "passed", error.values["mailbox_id"])
            code = CODES.get(error.remedy or "", NOT_POSSIBLE)
            return RequestResult(False, code, mailbox_id, _reason(error) if code == NOT_POSSIBLE else None)

    def _server(self, typed: TypedLogin) -> MailServer:
        """The server that a person typed or confirmed, normalised. MailboxRefused, RegistryError."""
        if not typed.host:
            raise RegistryError("the IMAP server of this mailbox is missing", "host-name")
        hosts, context = self._network()
        return check_typed_server(typed.host, typed.port, typed.starttls, typed.address, hosts=hosts, context=context)

    def _signed_in(self, taken: TakenRequest, typed: TypedLogin, server: MailServer) -> TypedLogin:
        """The login with what the provider gave for the code. SignInRefused."""
        if self.sign_in is None:
            raise SignInRefused("sign-in-not-set-up")
        return self.sign_in.of(typed, taken.company_id, server.host)

    def _look_up(self, mailbox_id: str, typed: TypedLogin) -> RequestResult:
        """The servers of an address. Its report has `servers` (host, port, tls), `trusted`, `provider`, `how`, and `dns_failed`: whether a
        name server did not answer."""
        domain = domain_of(typed.address)
        if domain is None:
            return RequestResult(False, "address-malformed", mailbox_id)
        hosts, context = self._network()
        answer, problems = look_up(catalog.load(), domain, records=self.records, hosts=hosts, context=context)
        provider = answer.provider
        if provider is not None and provider.support == "unsupported":
            return RequestResult(False, "provider-unsupported", mailbox_id, _data(unsupported(provider)))
        report = {
            "servers": [{"host": server.host, "port": server.port, "tls": server.tls} for server in answer.servers],
            "trusted": answer.trusted,
            "provider": None if provider is None else provider.id,
            "how": answer.how,
            "dns_failed": bool(problems),
        }
        return RequestResult(bool(answer.servers), "passed" if answer.servers else "server-unknown", mailbox_id, report)

    def _network(self) -> tuple[HostPolicy, Any]:
        return HostPolicy.of(self.settings, self.tester.resolve), self.tester.context or tls_context(
            self.settings.ca_file
        )


def _check_owner(registry: Registry, taken: TakenRequest) -> None:
    """RegistryError when the mailbox is not of the account that asks, as if there were none: an account learns nothing of another's."""
    mailboxes = registry.mailboxes.summaries(taken.company_id, taken.mailbox_id)
    if not any(mailbox["account_id"] == taken.account_id for mailbox in mailboxes):
        raise unknown_mailbox(taken.company_id, taken.mailbox_id)


def _change_sync(registry: Registry, taken: TakenRequest, typed: TypedLogin) -> RequestResult:
    """Leave an account's mailboxes to the platform, or take them back. RegistryError."""
    if taken.purpose == "platform-sync-on":
        since = typed.since or taken.created_at
        registry.accounts.start_platform_sync(taken.company_id, taken.account_id, since, by=typed.consent_by)
    else:
        registry.accounts.end_platform_sync(taken.company_id, taken.account_id, by=typed.consent_by)
    return RequestResult(True, "passed", taken.mailbox_id)


def _change_address(registry: Registry, taken: TakenRequest, typed: TypedLogin) -> RequestResult:
    """Change or forget an address of an account. The report has `reconnect`: mailboxes to connect again. RegistryError."""
    of = (taken.company_id, taken.account_id, typed.role)
    reconnect: list[str] = []
    if taken.purpose == "address-change":
        reconnect = registry.addresses.change(*of, typed.address, by=typed.by_account)
    else:
        registry.addresses.remove(*of, by=typed.by_account)
    return RequestResult(True, "passed", taken.mailbox_id, {"reconnect": reconnect})


def _tested(mailbox_id: str, report: ConnectionTestReport) -> RequestResult:
    failed = report.failed
    return RequestResult(report.passed, "passed" if failed is None else failed.code, mailbox_id, _data(report))


def _listed(mailbox_id: str, report: ConnectionTestReport) -> RequestResult:
    """Of a list of folders. The report has `watched`: the raw names of those that are read now."""
    result = _tested(mailbox_id, report)
    watched = [name.decode("ascii") for name in report.watched if name in report.candidates]
    return replace(result, report={**(result.report or {}), "watched": watched})


def _data(report: ConnectionTestReport) -> dict[str, Any]:
    """The report as JSON values; times as RFC 3339."""
    data: dict[str, Any] = msgspec.to_builtins(texts.as_data(report, on_page=True))
    return data


def _reason(error: RegistryError) -> dict[str, Any] | None:
    return None if error.reason is None else {"reason": msgspec.to_builtins(error.reason)}


def _is_done_already(registry: Registry, taken: TakenRequest, typed: TypedLogin, error: RegistryError) -> bool:
    """Whether the login that a request connects was connected since, for its account and role: by a fetcher that had the request before,
    or by the same form that was sent twice."""
    return (
        error.remedy == "mailbox-reconnect-differently"
        and taken.purpose == "connect"
        and _is_connected_since(registry, taken, error.values["mailbox_id"], typed.role)
    )


def _is_connected_since(registry: Registry, taken: TakenRequest, mailbox_id: str, role: str | None = None) -> bool:
    """Whether a mailbox of the account of a request, and of a role if one is given, was connected since the request was made."""
    return any(
        mailbox["account_id"] == taken.account_id
        and role in (None, mailbox["role"])
        and mailbox["state"] in CONNECTED
        and any(
            at is not None and at >= taken.created_at for at in (mailbox["connected_at"], mailbox["reconnected_at"])
        )
        for mailbox in registry.mailboxes.summaries(taken.company_id, mailbox_id)
    )
