"""What a seller types on the connect page, as it travels sealed from the web process to a fetcher. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from services.common.language import Language
from services.connect.requests import ConnectRequest, LoginChanges
from services.providers.mail_server import MailServer
from services.registry.connect_requests import TakenRequest
from services.signin.code_exchange import ReturnedCode

AUTHORIZATION_CODE: Final = "authorization-code"
"""The kind of a login whose secret is still a code of a sign-in by redirect."""
MOST_BYTES: Final = 16_384
"""The longest encoded form; longer ones are refused by the web process."""


class TypedLogin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A login with the consent that was given with it.

    `kind` oauth2: `password` is a refresh token; authorization-code: it is empty, and `sign_in` has the code.
    """

    address: str
    password: str
    consent_by: str
    text_version: str
    language: Language
    role: str = "registered"
    host: str | None = None
    port: int | None = None
    starttls: bool = False
    user: str | None = None
    sent_folders: tuple[str, ...] = ()
    """Sent folders that the seller chose, as modified UTF-7 (RFC 3501 section 5.1.3); empty: those that are recognised."""
    kind: str = "password"
    session_id: str | None = None
    """The session in which the consent was given."""
    sign_in: ReturnedCode | None = None
    since: datetime | None = None
    """Since when the account answers through the platform's own mail."""
    by_account: str | None = None
    """The account that changes an address of an account; None: the account itself."""

    def __repr__(self) -> str:
        return "TypedLogin(…)"

    def encoded(self) -> bytes:
        """The form that is sealed. ValueError when it is longer than `MOST_BYTES`."""
        data = msgspec.json.encode(self)
        if len(data) > MOST_BYTES:
            raise ValueError(f"what was typed has {len(data)} bytes, more than {MOST_BYTES}")
        return data

    def connect_request(self, taken: TakenRequest, server: MailServer) -> ConnectRequest:
        """The request to connect a new mailbox at a server."""
        return ConnectRequest(
            taken.company_id, taken.account_id, self.address, self.password, self.consent_by, self.role,
            server.host, server.port, server.tls, self.user, taken.mailbox_id, self.chosen_folders, self.language,
            self.text_version, self.kind, self.session_id,
        )  # fmt: skip

    def changes(self, server: MailServer) -> LoginChanges:
        """The changes of a mailbox that is connected again."""
        return LoginChanges(
            self.password, self.address, server.host, server.port, server.tls, self.user, self.chosen_folders, self.kind
        )

    @property
    def chosen_folders(self) -> tuple[bytes, ...]:
        """The raw names of the chosen folders."""
        return tuple(name.encode("ascii") for name in self.sent_folders)


def are_folder_names(names: Iterable[str]) -> bool:
    """Whether folders may have these names: modified UTF-7 is printable ASCII (RFC 3501 section 5.1.3)."""
    return all(name.isascii() and name.isprintable() for name in names)


def decode(data: bytes) -> TypedLogin:
    """The value of an encoded form. ValueError when it is not one."""
    try:
        return msgspec.json.decode(data, type=TypedLogin)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a typed login: {error}") from None
