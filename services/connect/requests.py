"""What a person typed to connect a mailbox, and the login that follows from it. Pure."""

from dataclasses import dataclass, field, replace

from services.common.language import Language
from services.common.normal_forms import normalise_address
from services.mail.values import Login
from services.providers.addresses import host_name
from services.providers.mail_server import TLS_PORT, TlsMode
from services.registry.errors import RegistryError


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """What a person typed. `mailbox_id` None: a new id is made. `text_version` None: the current consent text."""

    company_id: str
    account_id: str
    address: str = field(repr=False)
    password: str = field(repr=False)
    consent_by: str
    role: str = "registered"
    host: str | None = None
    port: int = TLS_PORT
    tls: TlsMode = "implicit"
    user: str | None = field(default=None, repr=False)
    mailbox_id: str | None = None
    sent_override: tuple[bytes, ...] = ()
    language: Language = "en"
    text_version: str | None = None
    kind: str = "password"
    """`oauth2`: `password` is a refresh token."""
    session_id: str | None = None
    """The session of the web page on which the consent was given."""


@dataclass(frozen=True, slots=True)
class LoginChanges:
    """What a person typed to connect a mailbox again; None: as before. The password is always typed."""

    password: str = field(repr=False)
    address: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int | None = None
    tls: TlsMode | None = None
    user: str | None = field(default=None, repr=False)
    sent_override: tuple[bytes, ...] | None = None
    kind: str = "password"


def requested_login(request: ConnectRequest) -> Login:
    """The login to test. RegistryError when something is missing."""
    _check_address(request.address)
    if not request.host:
        raise RegistryError("the IMAP server of this mailbox is missing", "host-name")
    if not request.password:
        raise RegistryError("a password is needed", "password-give")
    return Login(
        request.address,
        host_name(request.host),
        request.port,
        request.user or request.address,
        request.password,
        request.sent_override,
        request.kind,
        request.tls,
    )


def changed_login(stored: Login, changes: LoginChanges) -> Login:
    """The login to test: the stored one with what was typed. RegistryError when something is missing.

    A user name that was the address changes with it.
    """
    address = changes.address or stored.address
    if not address:
        raise RegistryError("the stored address cannot be opened", "address-name")
    _check_address(address)
    user_is_address = not stored.user or stored.user == stored.address
    if changes.user is None and not user_is_address and changes.address not in (None, stored.address):
        raise RegistryError("the stored user name is not the address, so the new one cannot be derived", "user-name")
    if not changes.password:
        raise RegistryError("the password is needed again", "password-give")
    return replace(
        stored,
        address=address,
        host=host_name(changes.host) if changes.host else stored.host,
        port=changes.port or stored.port,
        tls=changes.tls or stored.tls,
        user=changes.user or (address if user_is_address else stored.user),
        password=changes.password,
        kind=changes.kind,
        sent_override=stored.sent_override if changes.sent_override is None else changes.sent_override,
    )


def _check_address(address: str) -> None:
    is_bare = "<" in address or len(address.split()) == 1  # a name before an address needs angle brackets here
    if normalise_address(address) is None or not is_bare:
        raise RegistryError("this is not an e-mail address; write it as name@domain")
