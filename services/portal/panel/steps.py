"""What a page of the panel offers against a cause: the button for the next step, where the reader can take it. Pure.

A step with a mailbox belongs to the account of the mailbox. A main account that looks at the company, or at another account, is led to
who can take it, and never to a mailbox of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from services.registry import states
from services.registry.addresses import Role

Step = Literal["reconnect", "connect", "connect-backup", "folders", "test-mail", "inquiries", "wait"]
Whose = Literal["company", "own", "others"]
"""Whose causes are shown: those of the company, of the reader's own account, or of another one."""
Place = Literal[
    "wait", "inquiries", "accounts", "that-account", "test-mail", "mailboxes", "connect", "reconnect", "folders"
]


WITHDRAWALS: Final = ("address-changed", "login-failing-since", "mailbox-does-not-answer")
"""Causes in which a mailbox is connected that need not be read, or is no longer used."""
OF_FOLDERS: Final = ("no-sent-folder", "folder-missing")
"""Why a mailbox is not read → its Sent folders have to be chosen, and no password is needed for that."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Where a button leads. `mailbox_id`: the mailbox that is connected again, or whose folders are chosen; `role`: of the one that is
    connected."""

    place: Place
    mailbox_id: str | None = None
    role: Role = "registered"


def offer(step: Step, whose: Whose, mailboxes: Sequence[Mapping[str, Any]], *, is_framed: bool) -> Offer:
    """The button for a step; `mailboxes` are those of the reader's own account. Within a frame nothing is changed.

    A mailbox is chosen only where there is no doubt which one is meant: the one that needs it, or the only one.
    """
    if step == "wait":
        return Offer("wait")
    if step == "inquiries":
        return Offer("inquiries")
    if whose != "own":
        return Offer("accounts" if whose == "company" else "that-account")
    if step == "test-mail":
        return Offer("test-mail")
    if is_framed:
        return Offer("mailboxes")
    if step == "connect":
        return Offer("connect")
    if step == "connect-backup":
        return Offer("connect", role="backup")
    possible = [mailbox for mailbox in mailboxes if can_reconnect(mailbox["state"])]
    failing = [mailbox for mailbox in possible if mailbox["state"] == "needs_reconnect" or _lacks_folders(mailbox)]
    meant = failing if step == "reconnect" and failing else possible
    if len(meant) != 1:
        return Offer("mailboxes")
    needs_folders = step == "folders" or _lacks_folders(meant[0])
    can_choose = states.can_choose_folders(meant[0]["state"])
    return Offer("folders" if needs_folders and can_choose else "reconnect", meant[0]["mailbox_id"])


def _lacks_folders(mailbox: Mapping[str, Any]) -> bool:
    """Whether a mailbox is not read because its Sent folder was not found, or the chosen one cannot be opened."""
    return mailbox["state"] == "active" and mailbox["state_reason"] in OF_FOLDERS


def withdrawable(
    cause: str, whose: Whose, mailboxes: Sequence[Mapping[str, Any]], *, is_framed: bool
) -> Mapping[str, Any] | None:
    """The mailbox whose consent may be withdrawn beside the step: it is no longer, or maybe was never, the one that answers. None where
    there is no such mailbox, or more than one."""
    if cause not in WITHDRAWALS or whose != "own" or is_framed:
        return None
    connected = [mailbox for mailbox in mailboxes if mailbox["state"] not in states.NEVER_CONNECTED]
    if cause == "address-changed":
        connected = [mailbox for mailbox in connected if mailbox["state_reason"] == "address-changed"]
    if cause == "login-failing-since":
        connected = [mailbox for mailbox in connected if mailbox["state"] != "active" or mailbox["state_reason"]]
    return connected[0] if len(connected) == 1 else None


def can_reconnect(state: str) -> bool:
    """Whether a mailbox in a state can be connected again."""
    return states.load().events["reconnected"].allows(state)
