"""A connection test as people make it: counted, within the limits of its provider, and written down for the operator."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from logging import getLogger

from services.common.settings import ImapSettings, OAuth2Settings
from services.connect import completeness, connection_test, report
from services.connect.connection_test import Authorize, ConnectionTestSetup
from services.connect.report import ConnectionTestOutcome, ConnectionTestReport
from services.imap.host_policy import HostPolicy, Resolver
from services.imap.limits import SessionLimits
from services.imap.tls import tls_context
from services.mail.values import Login
from services.providers import catalog
from services.registry.connection_tests import TooManyTests
from services.registry.login_slots import LoginSlots, NoSlotFree
from services.registry.registry import Registry
from services.signin.access_tokens import AccessTokens
from services.signin.token_store import KIND, TokenStore

log = getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionTester:
    """Tests logins. `horizon_days`: how far back a mailbox is read; `progress` is called with each stage that starts."""

    settings: ImapSettings
    resolve: Resolver
    version: str
    horizon_days: int = 60
    limits: SessionLimits | None = None
    progress: Callable[[str], None] = lambda _: None
    context: ssl.SSLContext | None = None
    tokens: AccessTokens | None = None

    def test(
        self, registry: Registry, company_id: str, login: Login, token_store: TokenStore
    ) -> tuple[ConnectionTestReport, datetime]:
        """Test a login; returns the report and from when on its mailbox can be complete.

        The test counts against the limits of an hour (connection_tests.py); what happened goes to the operator's log and
        table. `token_store` has the refresh token of a login that uses one; the test may replace it.
        """
        return self._counted(
            registry, company_id, login,
            lambda now: connection_test.run(login, self._setup(), now, self._authorize(login, token_store)),
        )  # fmt: skip

    def list_folders(
        self, registry: Registry, company_id: str, login: Login, token_store: TokenStore
    ) -> ConnectionTestReport:
        """List the folders of a mailbox; counts as a test."""
        report, _ = self._counted(
            registry, company_id, login,
            lambda _: connection_test.list_folders(login, self._setup(), self._authorize(login, token_store)),
        )  # fmt: skip
        return report

    def _counted(
        self, registry: Registry, company_id: str, login: Login, run: Callable[[datetime], ConnectionTestOutcome]
    ) -> tuple[ConnectionTestReport, datetime]:
        """Run a test within the limits, and write it down. `run` gets the instant at which it is counted."""
        try:
            test_id, now = registry.connection_tests.begin(company_id, login.user)
        except TooManyTests as error:
            return report.too_many_tests(login, catalog.load(), error), error.again_at
        try:
            with LoginSlots(registry.connection, self.settings).session(login.host):
                outcome = run(now)
        except NoSlotFree as error:
            again_at = now + timedelta(seconds=error.again_seconds)
            outcome = report.postponed(login, catalog.load(), again_at, str(error))
        _write_down(registry, company_id, test_id, outcome)
        provider = outcome.report.provider
        limits = provider.limits if provider is not None else None
        return outcome.report, completeness.expected_from(now, self.horizon_days, limits, outcome.report.folders)

    def _setup(self) -> ConnectionTestSetup:
        return ConnectionTestSetup(
            catalog=catalog.load(),
            hosts=HostPolicy.of(self.settings, self.resolve),
            context=self.context or tls_context(self.settings.ca_file),
            version=self.version,
            limits=self.limits or SessionLimits(session_seconds=self.settings.session_seconds),
            progress=self.progress,
        )

    def _authorize(self, login: Login, token_store: TokenStore) -> Authorize | None:
        if login.kind != KIND:
            return None
        tokens = self.tokens or AccessTokens(OAuth2Settings.model_validate({}))
        return lambda log_in: tokens.log_in(login.host, login.user, login.password, token_store, log_in)


def _write_down(registry: Registry, company_id: str, test_id: int, outcome: ConnectionTestOutcome) -> None:
    failed = outcome.report.failed
    stage, code = (failed.name, failed.code) if failed is not None else (None, "passed")
    registry.connection_tests.end(test_id, stage, code, outcome.detail)
    if failed is not None:
        log.warning(
            "%s", outcome.detail,
            extra={"action": "connection-tested", "company_id": company_id, "test_id": test_id, "stage": stage, "code": code},
        )  # fmt: skip
