"""Budgets of logins per hour and of sessions at once per provider, across all fetchers and connection tests.

They live in Postgres, a row per slot (budgets.sql, docs/decisions/0019). A login takes a slot of each kind in one statement
before it connects, or is refused; nothing is locked while it talks to the server. A session's slot is given back at its
end; a process that died has its slots back by expiry.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Literal

import psycopg

from services.common import metrics
from services.common.errors import ConfigError, ReplyrateError, TransientError
from services.common.postgres import Statements, load_statements
from services.common.settings import ImapSettings
from services.providers import catalog
from services.providers.addresses import host_name

SQL: Final = load_statements("services.registry", "login_slots.sql")
HELD_SECONDS: Final = 300.0
"""After so long whoever holds a session must be dead: a live one ends within `session.Budgets.session_seconds` (120), the
wait for a broker's acks after it."""
LOGIN_SECONDS: Final = 3600.0 + 120.0
"""How long a login counts: an hour, and what may pass between taking the slot and the LOGIN on the wire."""
SESSION_AGAIN_SECONDS: Final = 15.0
"""When to ask again for a session: polls take seconds."""

Kind = Literal["login", "session"]


@dataclass(frozen=True, slots=True)
class LoginLimit:
    """What all of us together allow ourselves at one provider."""

    provider: str
    logins_per_hour: int
    sessions: int


class NoSlotFree(ReplyrateError):
    """No login is free at a provider now. No failure of the mailbox; it may be tried again in `again_seconds`."""

    def __init__(self, provider: str, short: Kind, again_seconds: float) -> None:
        self.provider = provider
        self.short = short
        self.again_seconds = again_seconds
        super().__init__(f"the budget of {short}s at {provider} is used up; again in {again_seconds:.0f} s")


def limit(settings: ImapSettings, host: str) -> LoginLimit:
    """The limit for an IMAP server: that of its provider in the directory, else of the host itself."""
    name = host_name(host)[:253]
    provider = catalog.load().by_host(name)
    key = provider.id if provider is not None else name
    return LoginLimit(
        key,
        settings.provider_logins_per_hour.get(key, settings.logins_per_hour),
        settings.provider_sessions.get(key, settings.sessions),
    )


def check(settings: ImapSettings) -> None:
    """ConfigError when a limit is set for a name that is neither a provider's id nor a host: it would never hold."""
    ids = {one.id: one for one in catalog.load().providers}
    problems = []
    for field in ("provider_logins_per_hour", "provider_sessions"):
        for name in getattr(settings, field):
            setting, owner = f"REPLYRATE_IMAP__{field.upper()}", catalog.load().by_host(name)
            if name not in ids and owner is not None:
                problems.append(f"{setting}: {name} is a server of provider {owner.id}; write {owner.id}")
            elif name not in ids and "." not in name and name != "localhost":
                problems.append(
                    f"{setting}: {name} is neither a provider (`replyrate provider list` shows them) nor a host;"
                    " write one of them"
                )
    if problems:
        raise ConfigError(problems)


class LoginSlots:
    """Takes and gives back over one connection (autocommit); not to be shared by threads."""

    def __init__(
        self, connection: psycopg.Connection, settings: ImapSettings, *, held_seconds: float = HELD_SECONDS
    ) -> None:
        self._sql = Statements(connection, SQL)
        self._settings = settings
        self._held_seconds = held_seconds

    @contextmanager
    def session(self, host: str) -> Iterator[None]:
        """One login and one session at a host's provider while the block runs. OverBudget when there is none."""
        allowed = limit(self._settings, host)
        holder = secrets.token_hex(8)
        self._take(allowed, holder)
        try:
            yield
        finally:
            with suppress(TransientError):  # Postgres went away: the slot expires
                self._sql.run("give_back", provider=allowed.provider, holder=holder)

    def postpone(self, company_id: str, mailbox_id: str, epoch: int, seconds: float) -> None:
        """End the lease of this epoch; the mailbox is due again in `seconds`."""
        self._sql.run("postpone", company_id=company_id, mailbox_id=mailbox_id, epoch=epoch, seconds=seconds)

    def _take(self, allowed: LoginLimit, holder: str) -> None:
        whole: set[Kind] = set()
        while True:
            row = self._sql.one(
                "take", provider=allowed.provider, logins=allowed.logins_per_hour, sessions=allowed.sessions,
                holder=holder, login_seconds=LOGIN_SECONDS, session_seconds=self._held_seconds,
            )  # fmt: skip
            assert row is not None
            if row["taken"]:
                return
            short: Kind = row["short"]
            if short in whole:
                break
            most = allowed.logins_per_hour if short == "login" else allowed.sessions
            # Slots are made when they are asked for. Where many ask at once, others take what one has made: only when all
            # slots that the limit allows are there and none is free is the budget used up.
            grown = self._sql.one("grow", provider=allowed.provider, kind=short, most=most)
            assert grown is not None
            if not grown["made"] and grown["there"] >= most:
                whole.add(short)
        metrics.LOGINS_POSTPONED.labels(short).inc()
        again = SESSION_AGAIN_SECONDS
        if short == "login" and row["login_seconds"] is not None:
            again = max(row["login_seconds"], 1.0)
        raise NoSlotFree(allowed.provider, short, again)
