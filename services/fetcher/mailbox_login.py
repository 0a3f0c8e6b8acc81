"""From a leased mailbox to a session on its server: the host is checked, the connection encrypted, the login counted."""

import itertools
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import TracebackType
from typing import Final

from services.common import metrics
from services.common.version import version
from services.fetcher.poll_report import login_result
from services.imap.connection import Connection, connect
from services.imap.errors import LoginRefused, MailboxError
from services.imap.host_policy import HostPolicy
from services.imap.limits import SessionLimits
from services.imap.tls_sessions import TlsSessions
from services.registry.leases import LeasedMailbox
from services.registry.login_slots import LoginSlots, NoSlotFree, SlotPair
from services.signin.access_tokens import AccessTokens
from services.signin.token_store import KIND, TokenStore

MAX_REOPENED: Final = 20
"""Sessions that one poll may open again after the server ended one: two messages that end it, out of 200 each."""


class MailboxSession:
    """The session of a poll, which can be opened again when the server has ended it. A context manager."""

    def __init__(self, open_connection: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._open_connection = open_connection
        self._stack = ExitStack()
        self._reopened = 0

    def __enter__(self) -> "MailboxSession":
        self.connection = self._stack.enter_context(self._open_connection())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def may_reopen(self) -> bool:
        """Whether this poll may log in again."""
        return self._reopened < MAX_REOPENED

    def reopen(self) -> Connection:
        """Another login, which takes another login slot, in place of a session that has ended. NoSlotFree, MailboxError."""
        self._reopened += 1
        self._stack.close()
        self.connection = self._stack.enter_context(self._open_connection())
        return self.connection


class MailboxLogin:
    """Opens sessions of leased mailboxes within the login slots of their providers."""

    def __init__(
        self,
        hosts: HostPolicy,
        slots: LoginSlots,
        tokens: AccessTokens,
        tls_context: Callable[[], ssl.SSLContext],
        tls_sessions: TlsSessions,
        limits: SessionLimits,
    ) -> None:
        self._hosts = hosts
        self._slots = slots
        self._tokens = tokens
        self._tls_context = tls_context
        self._tls_sessions = tls_sessions
        self._limits = limits

    def session(self, leased: LeasedMailbox, token_store: TokenStore, slots: SlotPair | None = None) -> MailboxSession:
        """The session of a poll. It is opened when its block starts. `slots`: taken for its first login by the caller."""
        slots_of_logins = itertools.chain(
            [self._slots.session(leased.host) if slots is None else nullcontext()],
            (self._another_session(leased, slots) for _ in itertools.count()),
        )
        return MailboxSession(lambda: self._open(leased, token_store, next(slots_of_logins)))

    @contextmanager
    def _another_session(self, leased: LeasedMailbox, slots: SlotPair | None) -> Iterator[None]:
        """Slots for another login, in place of the ended session's."""
        if slots is not None:
            self._slots.release(sessions=[slots])
        with self._slots.session(leased.host):
            yield

    @contextmanager
    def _open(
        self, leased: LeasedMailbox, token_store: TokenStore, slots: AbstractContextManager[None]
    ) -> Iterator[Connection]:
        """A session that is logged in; it ends with the block. `token_store` keeps its refresh token, if it has one.

        NoSlotFree when the provider's logins are used up for now; MailboxError.
        """
        with slots:
            endpoint = self._hosts.check(leased.host, leased.port, leased.tls)
            connection = connect(endpoint, self._tls_context(), self._limits, tls_sessions=self._tls_sessions)
            try:
                self._log_in(connection, leased, token_store)
                yield connection
            finally:
                connection.logout()

    def _log_in(self, connection: Connection, leased: LeasedMailbox, token_store: TokenStore) -> None:
        try:
            if leased.kind == KIND:
                self._log_in_with_token(connection, leased, token_store)
            else:
                connection.login(leased.user, leased.password, version())
        except MailboxError as error:
            metrics.LOGINS.labels(login_result(type(error))).inc()
            raise
        metrics.LOGINS.labels("done").inc()

    def _log_in_with_token(self, connection: Connection, leased: LeasedMailbox, token_store: TokenStore) -> None:
        attempts = itertools.count()

        def attempt(token: str) -> None:
            # The second attempt is another login of the hour; without a slot for it the first refusal counts.
            try:
                with self._slots.session(leased.host) if next(attempts) else nullcontext():
                    connection.login_with_token(leased.user, token, version())
            except NoSlotFree:
                raise LoginRefused("login", code="oauth2-login-refused") from None

        self._tokens.log_in(leased.host, leased.user, leased.password, token_store, attempt)
