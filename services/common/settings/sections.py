"""The groups of settings, each declared once: names, types, defaults, meanings. processes.py says which process reads which."""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from services.common.topics import DEFAULT_APP_ID


def _listed(value: object) -> object:
    """In the environment a list is written with commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _figures(value: object) -> object:
    """In the environment a mapping is written `NAME=NUMBER,…`."""
    if not isinstance(value, str):
        return value
    numbers: dict[str, str] = {}
    for part in value.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not part.strip():
            continue
        if not equals or not name or not number.isdecimal():
            raise ValueError("write NAME=NUMBER, with commas between several")
        if name in numbers:
            raise ValueError("a name is given twice")
        numbers[name] = number
    return numbers


def _secret_present(value: SecretStr) -> SecretStr:
    if not value.get_secret_value():
        raise ValueError("must not be empty")
    return value


Secret = Annotated[SecretStr, AfterValidator(_secret_present)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_listed)]


def _as_sent(origin: str) -> str:
    """An origin as browsers send it in Host and Origin: without the usual port."""
    return origin.removesuffix(":443" if origin.startswith("https:") else ":80")


Origin = Annotated[
    str,
    Field(pattern=r"^(https://[a-z0-9._-]+|http://(127\.0\.0\.1|localhost))(:[0-9]{1,5})?$"),
    AfterValidator(_as_sent),
]
Origins = Annotated[tuple[Origin, ...], BeforeValidator(_listed)]
Ports = Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], BeforeValidator(_listed)]
HostNames = Annotated[tuple[Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,253}$")], ...], BeforeValidator(_listed)]
Url = Annotated[str, Field(pattern=r"^https://[A-Za-z0-9._-]+(:[0-9]{1,5})?/[!-~]*$")]
Issuer = Annotated[str, Field(pattern=r"^https://[A-Za-z0-9._-]+(:[0-9]{1,5})?(/[!-~]*)?$")]
Words = Annotated[tuple[Annotated[str, Field(pattern=r"^[!-~]+$")], ...], BeforeValidator(_listed)]
Figures = Annotated[
    Mapping[Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,253}$")], Annotated[int, Field(ge=1, le=1_000_000)]],
    BeforeValidator(_figures),
]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]


def _origin(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in text:
        raise ValueError(
            "write scheme and host, and a port if it is not the usual one, without a path: https://replies.example"
        )
    return _as_sent(text.rstrip("/").lower())


PublicUrl = Annotated[str, AfterValidator(_origin)]
"""Where people reach a web process: scheme, host and port."""


def dsn_with_password(dsn: str, password: str) -> str:
    """`dsn` in either of libpq's forms (a URI, or `key=value …`) with `password` in it."""
    if "://" in dsn:
        return f"{dsn}{'&' if '?' in dsn else '?'}password={quote(password, safe='')}"
    escaped = password.replace("\\", "\\\\").replace("'", "\\'")
    return f"{dsn} password='{escaped}'"


class Section(BaseModel):
    """A group of settings; values never change after start."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class KafkaSettings(Section):
    """How to reach the brokers, and how our topics are created."""

    bootstrap_servers: str = Field(
        pattern=r"^[^\s,]+:\d+(,[^\s,]+:\d+)*$", description="Brokers, `host:port,host:port`."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to the brokers; anything but a private network needs `SASL_SSL` or `SSL`."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="Needed with `SASL_PLAINTEXT` and `SASL_SSL`."
    )
    sasl_username: str | None = Field(None, description="User for SASL.")
    sasl_password: Secret | None = Field(None, description="Password for SASL.")
    ssl_ca_file: Path | None = Field(
        None, description="CA certificates trusted for the brokers (a PEM file); the system's when not set."
    )
    partitions: int = Field(12, ge=1, le=1000, description="Partitions of our topics; never changed silently.")
    replication_factor: int = Field(1, ge=1, le=10, description="Replicas of each partition; 3 in production.")
    min_insync_replicas: int = Field(
        1, ge=1, le=10, description="Replicas that must have a record before it counts as written."
    )


class PostgresSettings(Section):
    """The database of registry, ledger and report."""

    dsn: Secret = Field(description="`postgresql://user:password@host:port/database`.")
    password: Secret | None = Field(None, description="Password of that user, when it is not part of the DSN.")

    @model_validator(mode="before")
    @classmethod
    def _with_password(cls, values: Any) -> Any:
        """Put the password into the DSN, since the driver takes one string."""
        if isinstance(values, dict) and isinstance(values.get("dsn"), str) and values.get("password"):
            return {**values, "dsn": dsn_with_password(values["dsn"], str(values["password"]))}
        return values


class ImapSettings(Section):
    """How mailboxes are read."""

    ca_file: Path | None = Field(
        None, description="Extra CA certificates trusted for IMAP servers: a PEM file, or a folder of `*.pem`."
    )
    allowed_private_networks: Networks = Field(
        (),
        description="Private networks in which IMAP servers are allowed, `10.1.0.0/16,…`; otherwise only public addresses are.",
    )
    private_hosts: HostNames = Field(
        (), description="Names of IMAP servers, `mail.corp.example,…`, that may resolve to private addresses."
    )
    allowed_ports: Ports = Field(
        (993, 143),
        description="Ports that a mailbox may name. TLS starts with the first byte, on 143 with STARTTLS; never without TLS.",
    )
    poll_interval_seconds: float = Field(
        600, gt=0, le=86400,
        description="Time between two polls of a mailbox, with jitter; up to 6 times as long when nothing is sent for days,"
        " down to a fifth near an open deadline.",
    )  # fmt: skip
    logins_per_hour: int = Field(
        36_000,
        ge=1,
        le=1_000_000,
        description="Logins per hour at one provider, of all fetchers and connection tests together.",
    )
    sessions: int = Field(
        100,
        ge=1,
        le=100_000,
        description="Concurrent sessions at one provider, of all fetchers and connection tests together.",
    )
    provider_logins_per_hour: Figures = Field(
        {},
        description="Other logins per hour for single providers, `qq=6000,imap.corp.example=60`: ids of `replyrate provider list`, or hosts.",
    )
    provider_sessions: Figures = Field(
        {}, description="Other concurrent sessions for single providers, written the same way."
    )
    session_seconds: float = Field(
        120,
        ge=10,
        le=1800,
        description="Longest session with a mail server; a poll that needs longer continues in the next one.",
    )
    look_back: int = Field(200, ge=0, le=2000, description="Newest messages that every poll checks again.")


class OAuth2PublicClient(Section):
    """What is public about a client that the operator registered at a provider, so that mailboxes can sign in there."""

    client_id: str | None = Field(
        None,
        pattern=r"^[!-~]{1,200}$",
        description="Id of the client that is registered there; without it sign-in is off.",
    )
    tenant: str = Field(
        "common", pattern=r"^[A-Za-z0-9.-]{1,100}$", description="Replaces `{tenant}` in the URLs (Microsoft)."
    )
    authorize_url: Url | None = Field(
        None,
        description="Authorization endpoint, where a sign-in by redirect starts (`https://…`), if it differs from `oauth.toml`.",
    )
    issuer: Issuer | None = Field(
        None,
        description="Issuer of its id tokens (`https://…`), if it differs from `oauth.toml`; `{tid}` stands for any tenant id.",
    )
    scopes: Words = Field((), description="Scopes to request, if they differ from `oauth.toml`.")
    hosts: HostNames = Field((), description="More IMAP servers that accept its access tokens.")


class OAuth2Client(OAuth2PublicClient):
    """A client with what only the processes need that exchange its codes and tokens."""

    client_secret: Secret | None = Field(None, description="Secret of that client; a public client has none.")
    token_url: Url | None = Field(None, description="Token endpoint (`https://…`), if it differs from `oauth.toml`.")
    device_url: Url | None = Field(
        None,
        description="Device authorization endpoint, where a sign-in with a code starts (`https://…`), if it differs from `oauth.toml`.",
    )


class OAuth2PublicSettings(Section):
    """Sign-in at providers that accept no passwords, as the web process knows it: it has no secret of a client."""

    microsoft: OAuth2PublicClient = OAuth2PublicClient.model_validate({})
    google: OAuth2PublicClient = OAuth2PublicClient.model_validate({})
    other: OAuth2PublicClient = OAuth2PublicClient.model_validate({})


class OAuth2Settings(OAuth2PublicSettings):
    """Sign-in at providers that accept no passwords."""

    microsoft: OAuth2Client = OAuth2Client.model_validate({})
    google: OAuth2Client = OAuth2Client.model_validate({})
    other: OAuth2Client = OAuth2Client.model_validate({})
    ca_file: Path | None = Field(
        None,
        description="Extra CA certificates trusted for these endpoints: a PEM file, or a folder of `*.pem`.",
    )


class FetcherSettings(Section):
    """The process that reads Sent folders."""

    workers: int = Field(8, ge=1, le=256, description="Mailboxes that one process reads at the same time.")
    connections: int = Field(
        3, ge=2, le=64, description="Connections of one process to Postgres, whatever the number of workers."
    )
    lease_seconds: float = Field(
        300,
        ge=30,
        le=3600,
        description="How long a process owns a mailbox that it reads; at least 1.5 times the longest session.",
    )
    connect_workers: int = Field(
        4,
        ge=0,
        le=64,
        description="Connect requests of sellers that one process carries out at the same time; 0: none.",
    )


class MatcherGroup(Section):
    """The matcher's consumer group: the aggregator follows its progress."""

    app_id: str = Field(
        DEFAULT_APP_ID,
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="Consumer group of the matcher; the same for aggregators, which follow its progress. A new one rebuilds the state.",
    )


class MatcherSettings(MatcherGroup):
    """The process that joins sent messages with inquiries."""

    store: Literal["memory", "rocksdb"] = Field(
        "rocksdb", description="Where the joined state is kept between two batches."
    )
    data_dir: Path = Field(Path("data/matcher"), description="Folder of the local state; it can be deleted.")
    session_timeout_seconds: float = Field(
        45, ge=1, le=1800, description="A worker that is silent for longer loses its partitions."
    )


class AggregatorSettings(Section):
    """The process that keeps the ledger and computes the rates."""

    rule_sets: Names = Field(("default", "first-reply-24h"), description="Rule sets that are active from the start.")
    rules_dir: Path | None = Field(None, description="Folder with your own rule sets, NAME.toml each.")
    refresh_interval_seconds: float = Field(
        1, gt=0, le=3600, description="Pause between two checks for companies to refresh."
    )
    group: str = Field("replyrate-aggregator", pattern=r"^[A-Za-z0-9._-]{1,100}$", description="Consumer group.")
    session_timeout_seconds: float = Field(
        45, ge=1, le=1800, description="A worker that is silent for longer loses its partitions."
    )
    archive_dir: Path | None = Field(
        None,
        description="Folder of the archive (docs/archive.md): the same for every aggregator, and for the command line to show"
        " archived units.",
    )
    keep_units_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        description="After how many days final units move from Postgres to the archive, counted from the end of the month of their"
        " receipt; never when not set.",
    )


class LogSettings(Section):
    """What is written to standard error."""

    format: Literal["json", "console"] = Field(
        "json", description="`json`: one object per line; `console`: for people."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is written."
    )


class HttpSettings(Section):
    """`/healthz`, `/readyz` and `/metrics` of a service."""

    host: str = Field("127.0.0.1", description="Address to listen on; `0.0.0.0` in a container.")
    port: int = Field(0, ge=0, le=65535, description="Port to listen on; 0 turns the pages off.")


class PortalLinksGroup(Section):
    """Of links for sellers: the portal opens them, the console makes some."""

    public_url: PublicUrl = Field(
        "http://127.0.0.1:8480",
        description="Where people reach the portal, without a path: `https://replies.marketplace.example`. Links, cookies and the"
        " accepted Host header follow from it.",
    )
    link_minutes: int = Field(
        1440, ge=1, le=10_080, description="How long a link may wait to be opened; one of the console a day at most."
    )


class PortalSettings(PortalLinksGroup):
    """The web pages and the HTTP API."""

    host: str = Field("127.0.0.1", description="Address to listen on; `0.0.0.0` in a container.")
    port: int = Field(8480, ge=1, le=65535, description="Port of the pages and the API.")
    connections: int = Field(8, ge=1, le=100, description="Connections to Postgres at most.")
    session_minutes: int = Field(60, ge=5, le=1440, description="How long a session lasts after its link was opened.")
    body_seconds: int = Field(
        20,
        ge=1,
        le=600,
        description="How long the body of a request may take to arrive; a bulk import or a batch six times as long.",
    )

    return_origins: Origins = Field(
        (),
        description="Origins that links may lead sellers back to, `https://marketplace.example,…`; none when not set.",
    )
    frame_origins: Origins = Field(
        (),
        description="Origins whose pages may show the panel in a frame, `https://marketplace.example,…`; none when not set.",
    )
    frame_minutes: int = Field(15, ge=1, le=60, description="How long a token for a frame is valid.")
    api_requests_per_minute: int = Field(
        600, ge=1, le=100_000, description="Requests to the API that a key may send in a minute, to each process."
    )


class ConsoleSettings(Section):
    """The pages of the platform's staff."""

    host: str = Field("127.0.0.1", description="Address to listen on; `0.0.0.0` in a container.")
    port: int = Field(8481, ge=1, le=65535, description="Port of the console.")
    public_url: PublicUrl = Field(
        "http://127.0.0.1:8481",
        description="Where staff reach the console, without a path: `https://console.marketplace.example`. It should be an address"
        " that is not reachable from the internet.",
    )
    docs_url: str | None = Field(
        None,
        pattern=r"^https?://[!-~]{1,500}$",
        description="Where the folder `docs` is published: problems on the overview lead to its runbook.md. When not set, they name"
        " the entry.",
    )
    connections: int = Field(4, ge=1, le=100, description="Connections to Postgres at most.")
    body_seconds: int = Field(20, ge=1, le=600, description="How long the body of a request may take to arrive.")
    issuer: Issuer | None = Field(
        None,
        description="Issuer of the OpenID provider at which staff sign in, `https://login.example/tenant`; when not set, only"
        " links of `replyrate console-link` open the console.",
    )
    client_id: str | None = Field(None, description="Id of the client at the provider.")
    client_secret: Secret | None = Field(
        None, description="Secret of the client; read by the console alone, when an issuer is set."
    )
    ca_file: Path | None = Field(
        None, description="CA certificates in PEM for the provider, instead of those of the system."
    )
    scopes: Words = Field(
        ("openid", "profile"),
        description="Scopes that are asked for; some providers send roles only with one of their own.",
    )
    role_claim: str = Field(
        "roles", pattern=r"^[!-~]{1,200}$", description="Claim of the id token with the roles or groups of a person."
    )
    support_values: Names = Field(
        ("replyrate-support",),
        description="Values of that claim that grant the role support: reading, and making links for sellers.",
    )
    operator_values: Names = Field(
        ("replyrate-operator",),
        description="Values of that claim that grant the role operator: everything that the console can do.",
    )
    session_minutes: int = Field(480, ge=5, le=1440, description="How long a session lasts at most.")
    idle_minutes: int = Field(30, ge=1, le=1440, description="After how many minutes without a request a session ends.")
    audit_days: int = Field(
        365,
        ge=30,
        le=3650,
        description="How many days records of what staff read about people and changed are kept.",
    )


class TelemetrySettings(Section):
    """Spans for an OpenTelemetry collector; needs the extra `telemetry`."""

    endpoint: str | None = Field(
        None,
        description="Endpoint for spans by OTLP over HTTP, `http://collector:4318/v1/traces`; tracing is off when not set.",
    )
    sample_ratio: float = Field(
        1, ge=0, le=1, description="Fraction of the fetcher's polls that start a recorded trace."
    )

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            parts = urlsplit(text)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and parts.path.strip("/")
        except ValueError:
            good = False
        if not good or "@" in text or any(mark in text for mark in "?# \t\r\n"):
            raise ValueError(
                "write host, port and path of the collector's OTLP over HTTP, http://collector:4318/v1/traces, without a user"
                " or a query; a secret for it goes into OTEL_EXPORTER_OTLP_HEADERS"
            )
        return text
