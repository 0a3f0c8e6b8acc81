"""Reports of connection tests: the result of each stage, as codes and values. Pure.

texts.py makes sentences of them. A report tells nothing about the operator's network: a name that does not exist, one that
leads to a private address and a port that is not allowed share one code. What really happened is in `ConnectionTestOutcome.detail`,
which only the operator may see.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.mail.values import Login, OpenedFolder
from services.providers.catalog import ProviderCatalog
from services.providers.mail_server import TLS_PORT, TlsMode
from services.providers.provider import Provider
from services.providers.typed_server import HostMistake
from services.registry.connection_tests import TooManyTests

STAGES: Final = ("dns", "tcp", "tls", "greeting", "login", "id", "list", "sent", "examine", "newest")
PASSED: Final = "ok"
SKIPPED: Final = "skipped"
EARLIER: Final = "earlier"
"""Key of `ConnectionTestReport.values` with the code of an earlier failure, or empty: a sentence in the language of the text."""


@dataclass(frozen=True, slots=True)
class StageResult:
    """The result of one stage. `code`: ok, skipped, or what failed; `seconds`: None when the stage did not run."""

    name: str
    code: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class MailboxWarning:
    """Something worth knowing about a mailbox that works: a code of texts.toml ([warning]) and its placeholders."""

    code: str
    values: Mapping[str, str]
    values_zh: Mapping[str, str] | None = None
    """The placeholders in Chinese where they differ."""


@dataclass(frozen=True, slots=True)
class ConnectionTestReport:
    """What the person who connects a mailbox may see of its test. `host` is empty when no server is known."""

    host: str
    port: int
    provider: Provider | None
    stages: tuple[StageResult, ...]
    values: Mapping[str, str]
    """Placeholders of the sentences of its stages."""
    folders: tuple[OpenedFolder, ...] = ()
    warnings: tuple[MailboxWarning, ...] = ()
    candidates: tuple[bytes, ...] = ()
    """Folders to choose the Sent folder from, when none was recognised or the chosen one cannot be opened, or in a list of folders."""
    watched: tuple[bytes, ...] = ()
    """Those of `candidates` in a list of folders that a poll reads now."""
    tls: TlsMode = "implicit"

    @property
    def failed(self) -> StageResult | None:
        """The stage that failed."""
        return next((stage for stage in self.stages if stage.code not in (PASSED, SKIPPED)), None)

    @property
    def passed(self) -> bool:
        """Whether the mailbox can be connected."""
        return self.failed is None


@dataclass(frozen=True, slots=True)
class ConnectionTestOutcome:
    """A report, and what only the operator may see of a failure: an error of ours, never a server's own text."""

    report: ConnectionTestReport
    detail: str = ""


def too_many_tests(login: Login, catalog: ProviderCatalog, error: TooManyTests) -> ConnectionTestReport:
    """The report of a test that was not made: too many failed in the last hour, with the reason of this mailbox's last one."""
    values = {
        "again_at": f"{error.again_at:%H:%M} UTC",
        EARLIER: error.last_code or "",
    }
    return _not_made(login.host, login.port, login.address, catalog, "tries-spent", values)


def postponed(login: Login, catalog: ProviderCatalog, again_at: datetime, detail: str) -> ConnectionTestOutcome:
    """The outcome of a test that was not made: all mailboxes together log in to the provider too often."""
    values = {"again_at": f"{again_at:%H:%M} UTC"}
    return ConnectionTestOutcome(
        _not_made(login.host, login.port, login.address, catalog, "provider-busy", values), detail
    )


def mistyped(
    host: str, port: int, address: str, catalog: ProviderCatalog, mistake: HostMistake
) -> ConnectionTestReport:
    """The report of a test that was not made: what was typed is not an IMAP server. It needs no password."""
    return _not_made(host, port, address, catalog, mistake.code, {"host": mistake.host})


def unsupported(provider: Provider) -> ConnectionTestReport:
    """The report of a test that was not made: the mailboxes of this provider cannot be read. No server is known."""
    return ConnectionTestReport("", TLS_PORT, provider, _failed_first("provider-unsupported"), {})


def _not_made(
    host: str, port: int, address: str, catalog: ProviderCatalog, code: str, values: Mapping[str, str]
) -> ConnectionTestReport:
    return ConnectionTestReport(host, port, catalog.of_mailbox(address, host), _failed_first(code), values)


def _failed_first(code: str) -> tuple[StageResult, ...]:
    return (StageResult(STAGES[0], code, None), *(StageResult(name, SKIPPED, None) for name in STAGES[1:]))
