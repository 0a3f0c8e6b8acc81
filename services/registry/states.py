"""The states of a mailbox and the events that lead from one to another, read from states.toml. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, get_args

from services.common import tables
from services.common.errors import ConfigError
from services.common.language import Bilingual
from services.registry.errors import REMEDIES, Remedy

State = Literal["pending_test", "active", "paused", "needs_reconnect", "refused", "synced_by_platform", "removed"]
STATES: Final[tuple[State, ...]] = get_args(State)
"""Those that the check constraint of registry.mailboxes allows."""
NEW: Final = "new"
"""The state before there is a row."""
CONNECTED: Final[tuple[State, ...]] = ("active", "paused", "needs_reconnect", "synced_by_platform")
"""States of a mailbox that was connected and not removed: no other mailbox may be connected with its login."""
NEVER_CONNECTED: Final[tuple[State, ...]] = ("pending_test", "refused")
"""States of an attempt to connect a mailbox; it does not reserve its login."""
WHO: Final = ("owner", "account", "operator", "fetcher")


@dataclass(frozen=True, slots=True)
class StateEvent:
    """An event that may happen to a mailbox. `says`: its reason as a sentence; None when the reason is a code of the connection
    test. `only`: why it is refused in any other state, and `remedy`: the code of what to do then."""

    name: str
    froms: tuple[str, ...]
    to: State
    by: str
    says: Bilingual | None
    only: Bilingual
    remedy: Remedy | None = None

    def allows(self, state: str) -> bool:
        """Whether the event may happen in a state."""
        return state in self.froms


@dataclass(frozen=True, slots=True)
class MailboxStates:
    """The whole table."""

    names: Mapping[State, Bilingual]
    events: Mapping[str, StateEvent]
    refusing: frozenset[str]

    @property
    def pairs(self) -> frozenset[tuple[str, State]]:
        """(from, to) of every move of an existing row."""
        return frozenset((state, event.to) for event in self.events.values() for state in event.froms if state != NEW)

    def after_test(self, code: str) -> StateEvent:
        """The event of a failed test of an attempt: another password may help, or none can."""
        return self.events["provider-refused" if code in self.refusing else "test-failed"]


def parse(text: str, origin: str) -> MailboxStates:
    """The table from TOML. ConfigError that names `origin`, the event and what is wrong with it."""
    data = tables.parse_table(text, origin)
    try:
        names = {state: Bilingual(**data["state"][state]) for state in STATES}
        events = [
            StateEvent(
                event["name"], tuple(event["from"]), event["to"], event["by"],
                Bilingual(**event["says"]) if not event.get("code") else None, Bilingual(**event["only"]), event.get("remedy"),
            )
            for event in data["event"]
        ]  # fmt: skip
        refusing = frozenset(data["refusing"]["codes"])
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{origin}: {error}; the head of the file lists what it must contain") from None
    problems = [f"{origin}: state {name}: unknown state" for name in data["state"] if name not in STATES]
    for event in events:
        problems += [f"{origin}: event {event.name}: from: unknown state {state}" for state in event.froms if state not in (*STATES, NEW)]  # fmt: skip
        if event.to not in STATES:
            problems.append(f"{origin}: event {event.name}: to: unknown state {event.to}")
        if event.by not in WHO:
            problems.append(f"{origin}: event {event.name}: by: {event.by} is not one of {', '.join(WHO)}")
        if event.remedy not in (None, *REMEDIES):
            problems.append(f"{origin}: event {event.name}: remedy: {event.remedy} is not one of {', '.join(REMEDIES)}")
    if len({event.name for event in events}) < len(events):
        problems.append(f"{origin}: an event is listed twice")
    if problems:
        raise ConfigError(problems)
    return MailboxStates(names, {event.name: event for event in events}, refusing)


@cache
def load() -> MailboxStates:
    """services/registry/states.toml."""
    return parse(tables.read_text("services.registry", "states.toml"), "services/registry/states.toml")


def shown(state: str) -> Bilingual:
    """A state in a refusal: its code in English, as commands and the API print it, and its name in Chinese. "": one that another
    person has changed meanwhile."""
    for name, text in load().names.items():
        if name == state:
            return Bilingual(state, text.zh)
    return Bilingual("in another state", "其他")


def can_choose_folders(state: str) -> bool:
    """Whether other Sent folders of a mailbox in a state can be chosen."""
    return load().events["folders-chosen"].allows(state)
