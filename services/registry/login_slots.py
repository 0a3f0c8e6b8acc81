"""Limits of logins per hour and of concurrent sessions per provider, for all fetchers and connection tests together.

Each permitted login and each permitted session is a slot, a row in Postgres (login_slots.sql, docs/decisions/0019). A login
takes one slot of each kind in one statement before it connects, or is refused; no row is locked while it talks to the server.
The slot of a session is released at its end; the slots of a process that died expire.
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
SESSION_SLOT_FACTOR: Final = 2.5
"""The slot of a session expires after that many times the longest session. Its process must have died by then: a session ends
within REPLYRATE_IMAP__SESSION_SECONDS, and the wait for a broker's acknowledgements after it is bounded too."""
LOGIN_SECONDS: Final = 3600.0 + 120.0
"""How long a login counts: an hour, plus the time that may pass between taking the slot and sending LOGIN."""
SESSION_AGAIN_SECONDS: Final = 15.0
"""When to ask again for a session slot: polls take seconds."""

SESSION_SPACING_SECONDS: Final = 5.0
"""How long a session slot is expected to be taken by each of the mailboxes that wait for one."""
JITTER_SECONDS: Final = 5.0

Kind = Literal["login", "session"]


@dataclass(frozen=True, slots=True)
class LoginLimit:
    """How often all processes together may log in to one provider, and with how many sessions at once."""

    provider: str
    logins_per_hour: int
    sessions: int


class NoSlotFree(ReplyrateError):
    """No slot is free at a provider. Not a failure of the mailbox: try again in `again_seconds`. `short`: the kind of slot, `most`: their number."""

    def __init__(self, provider: str, short: Kind, again_seconds: float, most: int = 1) -> None:
        self.provider = provider
        self.short = short
        self.most = most
        self.again_seconds = again_seconds
        super().__init__(f"the limit of {short}s at {provider} is reached; try again in {again_seconds:.0f} s")


def limit(settings: ImapSettings, host: str) -> LoginLimit:
    """The limit for an IMAP server: that of its provider in the catalogue, else that of the host itself."""
    name = host_name(host)[:253]
    provider = catalog.load().by_host(name)
    key = provider.id if provider is not None else name
    return LoginLimit(
        key,
        settings.provider_logins_per_hour.get(key, settings.logins_per_hour),
        settings.provider_sessions.get(key, settings.sessions),
    )


def check(settings: ImapSettings) -> None:
    """ConfigError when a limit is set for a name that is neither a provider's id nor a host: it would never apply."""
    ids = {provider.id for provider in catalog.load().providers}
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
    """Takes and releases slots over one connection (autocommit); not to be shared by threads."""

    def __init__(
        self, connection: psycopg.Connection, settings: ImapSettings, *, session_seconds: float | None = None
    ) -> None:
        """`session_seconds`: when the slot of a session expires, if not after the time that the settings imply."""
        self._sql = Statements(connection, SQL)
        self._settings = settings
        self._session_seconds = (
            SESSION_SLOT_FACTOR * settings.session_seconds if session_seconds is None else session_seconds
        )

    @contextmanager
    def session(self, host: str) -> Iterator[None]:
        """One login and one session at the provider of a host while the block runs. NoSlotFree."""
        allowed = limit(self._settings, host)
        holder = secrets.token_hex(8)
        self._take(allowed, holder)
        try:
            yield
        finally:
            with suppress(TransientError):  # Postgres is away: the slot expires
                self._sql.run("release", provider=allowed.provider, holder=holder)

    def postpone(self, company_id: str, mailbox_id: str, epoch: int, refused: NoSlotFree, jitter: float) -> float:
        """End the lease of this epoch; returns in how many seconds the mailbox is due again.

        That is when a slot will be free behind those mailboxes that wait already, so that a slot is not asked for in vain.
        `jitter` in [0, 1).
        """
        most = refused.most
        mailbox = self._sql.one(
            "postpone", company_id=company_id, mailbox_id=mailbox_id, epoch=epoch, provider=refused.provider,
            short=refused.short, most=most, again_seconds=refused.again_seconds, login_seconds=LOGIN_SECONDS,
            session_spacing=SESSION_SPACING_SECONDS, jitter=jitter * JITTER_SECONDS,
        )  # fmt: skip
        return refused.again_seconds if mailbox is None else float(mailbox["seconds"])

    def _take(self, allowed: LoginLimit, holder: str) -> None:
        exhausted: set[Kind] = set()
        while True:
            result = self._sql.one(
                "take", provider=allowed.provider, logins=allowed.logins_per_hour, sessions=allowed.sessions,
                holder=holder, login_seconds=LOGIN_SECONDS, session_seconds=self._session_seconds,
            )  # fmt: skip
            assert result is not None
            if result["taken"]:
                return
            short: Kind = result["short"]
            if short in exhausted:
                break
            most = allowed.logins_per_hour if short == "login" else allowed.sessions
            # Slots are created when they are first needed, and another process may take those that this one created. So the
            # limit is reached only when every slot that it permits exists and none of them is free.
            slots = self._sql.one("create_slots", provider=allowed.provider, kind=short, most=most)
            assert slots is not None
            if not slots["created"] and slots["existing"] >= most:
                exhausted.add(short)
        metrics.LOGINS_POSTPONED.labels(short).inc()
        again_seconds = SESSION_AGAIN_SECONDS
        if short == "login" and result["login_seconds"] is not None:
            again_seconds = max(result["login_seconds"], 1.0)
        raise NoSlotFree(allowed.provider, short, again_seconds, most)
