"""Requests that the registry refuses: what happened and why, and a code for what to do about it."""

from typing import Final, Literal, get_args

from services.common.errors import ReplyrateError
from services.common.language import Bilingual
from services.registry.refusals import reason

Remedy = Literal[
    "account-add",
    "account-platform-sync",
    "address-name",
    "company-add",
    "consent-give",
    "consent-show-again",
    "host-name",
    "link-remove-there",
    "mailbox-add",
    "mailbox-add-again",
    "mailbox-connect",
    "mailbox-list",
    "mailbox-reconnect",
    "mailbox-reconnect-differently",
    "main-account-name",
    "new-address-connect",
    "password-give",
    "since-in-the-past",
    "since-later",
    "user-name",
    "vault-key-name",
]
REMEDIES: Final[tuple[Remedy, ...]] = get_args(Remedy)


class RegistryError(ReplyrateError):
    """A request that cannot be fulfilled; the text says what happened and why. `reason`: the same in both languages, where a
    platform or a seller may read it (refusals.py).

    What to do about it reads differently at the command line and on a web page, so it is a code here: the sentence of the
    command line is in services/cli/remedies.toml, and `values` fill its placeholders.
    """

    def __init__(self, why: str | Bilingual, remedy: Remedy | None = None, **values: str) -> None:
        self.reason = why if isinstance(why, Bilingual) else None
        self.remedy = remedy
        self.values = values
        super().__init__(why)


def unknown_mailbox(company_id: str, mailbox_id: str) -> RegistryError:
    """The refusal of a request about a mailbox that does not exist."""
    return RegistryError(
        reason("mailbox-unknown", company_id=company_id, mailbox_id=mailbox_id), "mailbox-list", company_id=company_id
    )
