"""Limits of logins per hour and of concurrent sessions per provider, for all fetchers and connection tests together.

Each permitted login and each permitted session is a slot, a row in Postgres (login_slots.sql, docs/decisions/0019). A login
takes one slot of each kind in one statement before it connects, or is refused; no row is locked while it talks to the server.
The slot of a session is released at its end; the slots of a process that died expire.
"""

import random
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Literal

from services.common import metrics
from services.common.errors import ConfigError, ReplyrateError, TransientError
from services.common.postgres import ConnectionSource, Statements, load_statements
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


@dataclass(frozen=True, slots=True)
class SlotPair:
    """A login and a session at a provider that its holder may use: the numbers of the two slots."""

    provider: str
    login: int
    session: int
    holder: str


@dataclass(frozen=True, slots=True)
class TakenSlots:
    """The slots that were free for a number of mailboxes; `refused` says why there are not more, if that is so."""

    pairs: Sequence[SlotPair]
    refused: NoSlotFree | None


@dataclass(frozen=True, slots=True)
class Postponed:
    """A leased mailbox for which no slot is free."""

    company_id: str
    mailbox_id: str
    epoch: int


class LoginSlots:
    """Takes and releases slots over one connection (autocommit, not to be shared by threads) or a pool."""

    def __init__(
        self, connection: ConnectionSource, settings: ImapSettings, *, session_seconds: float | None = None
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
        taken = self.take({allowed: 1})[allowed]
        if taken.refused is not None:
            raise taken.refused
        try:
            yield
        finally:
            with suppress(TransientError):  # Postgres is away: the slot expires
                self.release(sessions=taken.pairs)

    def take(self, wanted: Mapping[LoginLimit, int]) -> dict[LoginLimit, TakenSlots]:
        """For each provider as many pairs of slots as are wanted, or as there are. One statement while slots are free.

        A slot of a session expires `session_seconds` after this call; a login may be sent within `LOGIN_SECONDS` less an hour.
        """
        taken: dict[LoginLimit, list[SlotPair]] = {allowed: [] for allowed in wanted}
        refused: dict[LoginLimit, NoSlotFree] = {}
        exhausted: set[tuple[LoginLimit, Kind]] = set()
        while missing := {
            allowed: pairs - len(taken[allowed])
            for allowed, pairs in wanted.items()
            if allowed not in refused and pairs > len(taken[allowed])
        }:
            for allowed, short in self._take(missing, taken).items():
                if (allowed, short) in exhausted:
                    refused[allowed] = self._refusal(allowed, short, wanted[allowed] - len(taken[allowed]))
                elif not self._create_slots(allowed, short, missing[allowed]):
                    exhausted.add((allowed, short))
        return {allowed: TakenSlots(pairs, refused.get(allowed)) for allowed, pairs in taken.items()}

    def release(self, *, sessions: Sequence[SlotPair] = (), unused: Sequence[SlotPair] = ()) -> None:
        """Release the sessions of `sessions`, whose logins were made, and all of `unused`, whose logins were not."""
        released = [("session", pair.session, pair) for pair in (*sessions, *unused)]
        released += [("login", pair.login, pair) for pair in unused]
        if released:
            self._sql.run(
                "release",
                providers=[pair.provider for _, _, pair in released],
                kinds=[kind for kind, _, _ in released],
                numbers=[number for _, number, _ in released],
                holders=[pair.holder for _, _, pair in released],
            )

    def postpone(
        self, mailboxes: Sequence[Postponed], refused: NoSlotFree, chance: Callable[[], float] = random.random
    ) -> float:
        """End the leases of mailboxes of one provider; returns in how many seconds the last of them is due again.

        That is when a slot will be free behind those mailboxes that wait already, so that a slot is not asked for in vain.
        """
        postponed = self._sql.all(
            "postpone",
            company_ids=[mailbox.company_id for mailbox in mailboxes],
            mailbox_ids=[mailbox.mailbox_id for mailbox in mailboxes],
            epochs=[mailbox.epoch for mailbox in mailboxes],
            jitters=[chance() for _ in mailboxes],
            provider=refused.provider, short=refused.short, most=refused.most, again_seconds=refused.again_seconds,
            login_seconds=LOGIN_SECONDS, session_spacing=SESSION_SPACING_SECONDS, jitter_seconds=JITTER_SECONDS,
        )  # fmt: skip
        return max((float(mailbox["seconds"]) for mailbox in postponed), default=refused.again_seconds)

    def _take(
        self, missing: Mapping[LoginLimit, int], taken: Mapping[LoginLimit, list[SlotPair]]
    ) -> dict[LoginLimit, Kind]:
        """Add what is free to `taken`; of which kind too few were free, for the limits where that is so."""
        holder = secrets.token_hex(8)
        answers = self._sql.all(
            "take",
            providers=[allowed.provider for allowed in missing],
            logins=[allowed.logins_per_hour for allowed in missing],
            sessions=[allowed.sessions for allowed in missing],
            pairs=list(missing.values()),
            holder=holder, login_seconds=LOGIN_SECONDS, session_seconds=self._session_seconds,
        )  # fmt: skip
        by_provider = {answer["provider"]: answer for answer in answers}
        short: dict[LoginLimit, Kind] = {}
        for allowed, wanted in missing.items():
            answer = by_provider[allowed.provider]
            numbers = zip(answer["logins"] or (), answer["sessions"] or (), strict=True)
            pairs = [SlotPair(allowed.provider, login, session, holder) for login, session in numbers]
            taken[allowed].extend(pairs)
            if len(pairs) < wanted:
                short[allowed] = answer["short"]
        return short

    def _create_slots(self, allowed: LoginLimit, kind: Kind, wanted: int) -> bool:
        """Create slots of a kind; False when the limit allows no more.

        Slots are created when they are first needed, and another process may take those that this one created. So the limit
        is reached only when every slot that it permits exists and none of them is free.
        """
        most = allowed.logins_per_hour if kind == "login" else allowed.sessions
        slots = self._sql.one("create_slots", provider=allowed.provider, kind=kind, most=most, wanted=wanted)
        assert slots is not None
        return bool(slots["created"] or slots["existing"] < most)

    def _refusal(self, allowed: LoginLimit, short: Kind, mailboxes: int) -> NoSlotFree:
        metrics.LOGINS_POSTPONED.labels(short).inc(mailboxes)
        if short == "session":
            return NoSlotFree(allowed.provider, short, SESSION_AGAIN_SECONDS, allowed.sessions)
        answer = self._sql.one("free_again", provider=allowed.provider, most=allowed.logins_per_hour)
        assert answer is not None
        seconds = SESSION_AGAIN_SECONDS if answer["seconds"] is None else max(float(answer["seconds"]), 1.0)
        return NoSlotFree(allowed.provider, short, seconds, allowed.logins_per_hour)
