"""What operators do with a connected mailbox: pause it, resume it, have it read again. The use cases are those of the API and of
`replyrate mailbox`.
"""

import shlex
from collections.abc import Mapping
from typing import Final

from services.portal.api.mailboxes import as_mailbox
from services.portal.console.problems import ConsoleProblem
from services.portal.console.staff import Staff
from services.registry import states
from services.registry.errors import RegistryError
from services.registry.lists import RegistryLists
from services.registry.mailboxes import MailboxAction, Mailboxes
from services.registry.staff_actions import Subject
from services.registry.state_changes import StateChanges

READ_AGAIN_IN: Final = ("active", "paused", "needs_reconnect")
"""States in which a rescan has an effect: at once, or as soon as the mailbox is active."""
ALLOWED: Final[Mapping[MailboxAction, tuple[str, ...]]] = {
    "pause": states.load().events["paused"].froms, "resume": states.load().events["resumed"].froms, "rescan": READ_AGAIN_IN,
}  # fmt: skip
"""Action → states in which it may be done."""


def offered(company_id: str, mailbox_id: str, state: str) -> dict[MailboxAction, str]:
    """The actions that the state of a mailbox allows, each with its command."""
    return {
        action: shlex.join(("replyrate", "mailbox", action, company_id, mailbox_id))
        for action, allowed in ALLOWED.items()
        if state in allowed
    }


def change(staff: Staff, company_id: str, mailbox_id: str, action: MailboxAction, etag: str) -> bool:
    """Do it, and note it in the audit. False when the mailbox is not the one that the form showed (`etag`), or when its state does not
    allow the action; nothing is done then. ConsoleProblem when there is no such mailbox."""
    with staff.transaction() as connection:
        try:
            state = StateChanges(connection).lock(company_id, mailbox_id)
        except RegistryError:
            raise ConsoleProblem("not-found") from None
        mailbox = as_mailbox(RegistryLists(connection).mailbox(company_id, mailbox_id))
        if mailbox.etag != etag or state not in ALLOWED[action]:
            return False
        Mailboxes(connection).change(action, company_id, mailbox_id, by=staff.session.signature)
        staff.note(connection, f"{action}-mailbox", Subject(company_id, mailbox.account_id, mailbox_id))
    return True
