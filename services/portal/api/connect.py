"""What a platform needs to connect mailboxes: links for sellers, tests of logins, consent texts, and the provider directory."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from msgspec import structs
from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from services.common.language import Language
from services.common.normal_forms import normalise_address
from services.connect import consent, texts
from services.connect.consent import check_name
from services.connect.typed_login import MOST_BYTES, TypedLogin
from services.portal.api.callers import ApiCaller, requires, resources_of
from services.portal.api.posts import ApiAnswer, ApiPost, ApiTransaction, posts
from services.portal.api.problems import ApiProblem, FieldProblem
from services.portal.api.requests import RequestStatus, submitted
from services.portal.api.values import ApiModel, BilingualText, Instant, PlatformId
from services.providers import catalog
from services.providers.addresses import domain_of
from services.providers.mail_server import MailServer
from services.providers.provider import Provider
from services.registry.accounts import Accounts
from services.registry.addresses import Role
from services.registry.errors import RegistryError
from services.registry.lists import RegistryLists
from services.registry.portal_sessions import LinkRequest, PortalSessions, check_return_url, return_origin

router = APIRouter(tags=["connect"])


def _address(text: str) -> str:
    if normalise_address(text) is None:
        raise PydanticCustomError("address-malformed", "not an address")
    return text


def _name(text: str) -> str:
    try:
        check_name("", text)
    except RegistryError:
        raise PydanticCustomError("name-malformed", "not a name") from None
    return text


def _return_url(text: str) -> str:
    try:
        check_return_url(text)
    except RegistryError:
        raise PydanticCustomError("url-malformed", "not a URL to return to") from None
    return text


MailAddress = Annotated[str, StringConstraints(max_length=320), AfterValidator(_address)]
PersonName = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_name)]
ReturnUrl = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_return_url)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=320, pattern=r"^[^\x00-\x1f\x7f]+$")]
HostName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._:-]+$")]
Domain = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[^\x00-\x20@\x7f]+$")]


class MailLogin(ApiModel):
    """How to log in to a mailbox. It is sealed for the fetchers at once and stored nowhere else."""

    address: MailAddress = Field(repr=False)
    password: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(repr=False)
    """The password, or what the provider wants instead (GET /v1/providers, `auth`)."""
    host: HostName | None = None
    """The IMAP server; needed when the domain of the address is not in the provider directory."""
    port: int | None = Field(None, ge=1, le=65535)
    starttls: bool = False
    """For servers that offer nothing else."""
    user: Text | None = Field(None, repr=False)
    """The user name; the address when left out."""

    def typed(self, *, by: str, text_version: str, language: Language, role: Role) -> TypedLogin:
        """As it is sealed. ApiProblem when neither the request nor the provider directory names the server, or when the password is too
        long to be sealed."""
        login = TypedLogin(
            address=self.address, password=self.password, consent_by=by, text_version=text_version, language=language,
            role=role, host=self.host, port=self.port, starttls=self.starttls, user=self.user,
        )  # fmt: skip
        if login.host is None:
            servers = servers_of(domain_of(self.address))
            if not servers:
                raise ApiProblem("invalid-request", fields=[FieldProblem("login.host", "body", "server-unknown")])
            login = structs.replace(
                login,
                host=servers[0].host,
                port=login.port or servers[0].port,
                starttls=login.starttls or servers[0].tls == "starttls",
            )
        try:
            login.encoded()
        except ValueError:
            too_long = FieldProblem("login.password", "body", "password-too-long", {"most": MOST_BYTES})
            raise ApiProblem("invalid-request", fields=[too_long]) from None
        return login


class ConnectSessionValues(ApiModel):
    """What a link is for."""

    company_id: PlatformId
    account_id: PlatformId
    role: Role = "registered"
    """Which address of the account the mailbox belongs to."""
    language: Language = "en"
    """Language of the pages; the seller can change it."""
    mailbox_id: PlatformId | None = None
    """The mailbox to connect again; a new one when left out."""
    expected_address: MailAddress | None = Field(None, repr=False)
    """The only address that may be connected; any when left out."""
    return_url: ReturnUrl | None = None
    """Page of the platform that the last page leads back to; the operator allows origins (REPLYRATE_PORTAL__RETURN_ORIGINS)."""
    minutes: int | None = Field(None, ge=1, le=10_080)
    """Life of the link; the operator's setting when left out."""


class ConnectLink(ApiModel):
    """A single-use link for a seller. Anyone who has it can connect a mailbox to the account."""

    session_id: str
    url: str
    expires_at: Instant


class ConnectSession(ApiModel):
    """What became of a link."""

    session_id: str
    company_id: str
    account_id: str
    role: Role
    mailbox_id: str | None
    language: Language
    created_by: str
    created_at: Instant
    opened_at: Instant | None
    expires_at: Instant
    ended_at: Instant | None


class ConnectionTestValues(ApiModel):
    """A login to test without connecting it."""

    company_id: PlatformId
    account_id: PlatformId
    login: MailLogin


class ConsentTextVersion(ApiModel):
    """A version of the text that the owner of a mailbox consents to."""

    version: str
    since: str
    """Year and month."""
    sha256: str
    is_current: bool
    en: str
    zh: str | None


class ConsentTextList(ApiModel):
    """Every version, oldest first."""

    items: list[ConsentTextVersion]


class ImapServer(ApiModel):
    """A server and how TLS begins."""

    host: str
    port: int
    security: Literal["tls", "starttls"]


class ProviderEntry(ApiModel):
    """A mail provider of the directory."""

    provider_id: str
    name: str
    support: str
    """supported, or why not."""
    reason: BilingualText
    advice: BilingualText
    """What to type and where to find it."""
    auth: list[str]
    """Secrets that it accepts: password, app-password, authorization-code, oauth2."""
    auth_names: list[BilingualText]
    servers: list[ImapServer]
    source: str
    as_of: str


class ProviderList(ApiModel):
    """The whole directory."""

    items: list[ProviderEntry]


class LookUpValues(ApiModel):
    """An address or a domain."""

    address: MailAddress | None = Field(None, repr=False)
    domain: Domain | None = None


class LookUpAnswer(ApiModel):
    """What the directory says about a domain, without a query to the network."""

    domain: str
    provider: ProviderEntry | None
    servers: list[ImapServer]


@router.post("/connect-sessions", summary="Create a link for a seller", status_code=201, response_model=ConnectLink)
def create_connect_session(
    request: Request, post: Annotated[ApiPost, posts("connect:write")], values: ConnectSessionValues
) -> Response:
    resources = resources_of(request)
    settings = resources.settings.portal
    if values.return_url is not None and return_origin(values.return_url) not in settings.return_origins:
        raise ApiProblem("invalid-request", fields=[FieldProblem("return_url", "body", "origin-not-allowed")])

    def work(transaction: ApiTransaction) -> ApiAnswer:
        wanted = LinkRequest(
            values.company_id, values.account_id, transaction.caller.actor, values.role, values.language, values.mailbox_id,
            values.expected_address, values.return_url,
        )  # fmt: skip
        link = PortalSessions(transaction.connection).make_link(wanted, values.minutes or settings.link_minutes)
        transaction.note(values.company_id, "connect-session-created", link.session_id)
        body = ConnectLink(
            session_id=link.session_id, url=link.url(resources.origin, values.language), expires_at=link.expires_at
        )
        return ApiAnswer(201, body, {"Location": f"/v1/connect-sessions/{link.session_id}"})

    return post.answer(values, work)


@router.get("/connect-sessions/{session_id}", summary="Show what became of a link")
def get_connect_session(
    caller: Annotated[ApiCaller, requires("registry:read")],
    session_id: Annotated[str, Path(pattern=r"^s-[0-9a-f]{12}$")],
) -> ConnectSession:
    with caller.transaction() as connection:
        session = RegistryLists(connection).session(session_id)
    if session is None:
        raise ApiProblem("session-unknown")
    return ConnectSession(**session)


@router.post(
    "/connection-tests",
    summary="Test a login without connecting it",
    description="A fetcher runs the test; nothing of the login is stored when it ends.",
    status_code=202,
    response_model=RequestStatus,
)
def create_connection_test(post: Annotated[ApiPost, posts("connect:write")], values: ConnectionTestValues) -> Response:
    typed = values.login.typed(by="", text_version="", language="en", role="registered")

    def work(transaction: ApiTransaction) -> ApiAnswer:
        Accounts(transaction.connection).get(values.company_id, values.account_id)
        of = (values.company_id, values.account_id, "")
        return submitted(transaction, "test", of, typed, "connection-test-requested")

    return post.answer(values, work)


@router.get("/consent-texts", summary="List the texts that owners of mailboxes consent to")
def list_consent_texts(caller: Annotated[ApiCaller, requires()]) -> ConsentTextList:
    versions = consent.load()
    return ConsentTextList(
        items=[
            ConsentTextVersion(
                version=text.version, since=text.since, sha256=text.sha256, is_current=text is versions.current,
                en=text.texts["en"], zh=text.texts.get("zh"),
            )
            for text in versions.versions
        ]
    )  # fmt: skip


@router.get("/providers", summary="List the provider directory")
def list_providers(caller: Annotated[ApiCaller, requires()]) -> ProviderList:
    return ProviderList(items=[_entry(provider) for provider in catalog.load().providers])


@router.post(
    "/provider-lookups",
    summary="Find the provider of an address or a domain",
    description="Reads the directory alone. A POST, so that no address is part of a URL, which servers log.",
)
def look_up_provider(caller: Annotated[ApiCaller, requires()], values: LookUpValues) -> LookUpAnswer:
    domain = values.domain if values.address is None else domain_of(values.address)
    plain = None if domain is None else domain_of(f"x@{domain}")
    if plain is None:
        raise ApiProblem("invalid-request", fields=[FieldProblem("domain", "body", "domain-malformed")])
    provider = catalog.load().by_domain(plain)
    return LookUpAnswer(
        domain=plain, provider=None if provider is None else _entry(provider), servers=_servers(servers_of(plain))
    )


def servers_of(domain: str | None) -> tuple[MailServer, ...]:
    """The IMAP servers of a domain that is in the provider directory, in the order to try them; empty otherwise."""
    provider = None if domain is None else catalog.load().by_domain(domain)
    return () if provider is None or domain is None else provider.servers(domain)


def _servers(servers: tuple[MailServer, ...]) -> list[ImapServer]:
    return [
        ImapServer(host=server.host, port=server.port, security="tls" if server.tls == "implicit" else "starttls")
        for server in servers
    ]


def _entry(provider: Provider) -> ProviderEntry:
    return ProviderEntry(
        provider_id=provider.id, name=provider.name, support=provider.support, reason=BilingualText.of(provider.reason),
        advice=BilingualText.of(provider.advice), auth=list(provider.auth),
        auth_names=[BilingualText(en=texts.word(kind, "en"), zh=texts.word(kind, "zh")) for kind in provider.auth],
        servers=_servers(provider.servers("{domain}")), source=provider.source, as_of=provider.as_of,
    )  # fmt: skip
