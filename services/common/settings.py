"""Every setting of replyrate: its name, type, default and meaning, declared once.

The environment is the only source (prefix `REPLYRATE_`, nested by `__`); a secret may also stand in a file named by
the same setting with `_FILE` behind it. All problems are reported at once, each with the name and what to write.
`docs/settings.md` is rendered from the models here.
"""

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from services.common.errors import ConfigError

PREFIX = "REPLYRATE_"
KEY_BYTES = 32
MAX_SECRET_FILE_BYTES = 64 * 1024

NOT_SETTINGS = frozenset({"REPLYRATE_CACHE", "REPLYRATE_DATA"})
"""Names with our prefix that are not settings of a service: where the embedded servers keep downloads and data."""


def _listed(value: object) -> object:
    """Lists are written with commas in the environment."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _figures(value: object) -> object:
    """`NAME=NUMBER` with commas, in the environment."""
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    for part in value.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not part.strip():
            continue
        if not equals or not name or not number.isdecimal():
            raise ValueError("write NAME=NUMBER, with commas between several")
        if name in found:
            raise ValueError("a name stands twice")
        found[name] = number
    return found


def _secret_present(value: SecretStr) -> SecretStr:
    if not value.get_secret_value():
        raise ValueError("must not be empty")
    return value


Secret = Annotated[SecretStr, AfterValidator(_secret_present)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_listed)]
Ports = Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], BeforeValidator(_listed)]
HostNames = Annotated[tuple[Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,253}$")], ...], BeforeValidator(_listed)]
Url = Annotated[str, Field(pattern=r"^https://[A-Za-z0-9._-]+(:[0-9]{1,5})?/[!-~]*$")]
Words = Annotated[tuple[Annotated[str, Field(pattern=r"^[!-~]+$")], ...], BeforeValidator(_listed)]
Figures = Annotated[
    Mapping[Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,253}$")], Annotated[int, Field(ge=1, le=1_000_000)]],
    BeforeValidator(_figures),
]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]


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
    """How the brokers are reached and how our topics are made."""

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
        None, description="Authorities trusted for the brokers; the system's when not set."
    )
    partitions: int = Field(12, ge=1, le=1000, description="Partitions of our topics; never changed silently.")
    replication_factor: int = Field(1, ge=1, le=10, description="Replicas of each partition; 3 in production.")
    min_insync_replicas: int = Field(
        1, ge=1, le=10, description="Replicas that must have a record before it counts as written."
    )


class PostgresSettings(Section):
    """The database of registry, ledger and report."""

    dsn: Secret = Field(description="`postgresql://user:password@host:port/database`.")
    password: Secret | None = Field(None, description="Password of that user, when it does not stand in the DSN.")

    @model_validator(mode="before")
    @classmethod
    def _with_password(cls, values: Any) -> Any:
        """What connects reads one string, so the password goes into the DSN here."""
        if isinstance(values, dict) and isinstance(values.get("dsn"), str) and values.get("password"):
            return {**values, "dsn": dsn_with_password(values["dsn"], str(values["password"]))}
        return values


class ImapSettings(Section):
    """How mailboxes are read."""

    ca_file: Path | None = Field(
        None, description="Further authorities trusted for IMAP servers: a PEM file, or a folder with some (`*.pem`)."
    )
    allowed_private_networks: Networks = Field(
        (), description="Private networks in which IMAP servers may stand, `10.1.0.0/16,…`; else only public addresses."
    )
    private_hosts: HostNames = Field(
        (), description="Names of IMAP servers, `mail.corp.example,…`, that may lead to private addresses."
    )
    allowed_ports: Ports = Field((993,), description="Ports that a mailbox may name (implicit TLS on each).")
    poll_interval_seconds: float = Field(
        600, gt=0, le=86400,
        description="Time between two polls of a mailbox, with jitter; up to 6 times as long when nothing is sent for days,"
        " down to a fifth near an open deadline.",
    )  # fmt: skip
    logins_per_hour: int = Field(
        36_000, ge=1, le=1_000_000, description="Logins in an hour at one provider, of all fetchers and tests together."
    )
    sessions: int = Field(
        100, ge=1, le=100_000, description="Sessions at once at one provider, of all fetchers and tests together."
    )
    provider_logins_per_hour: Figures = Field(
        {},
        description="Other logins in an hour for some, `qq=6000,imap.corp.example=60`: ids of `replyrate provider list`, or hosts.",
    )
    provider_sessions: Figures = Field({}, description="Other sessions at once for some, written likewise.")
    look_back: int = Field(200, ge=0, le=2000, description="Newest messages that every poll looks at again.")


class OAuth2Client(Section):
    """A client that the operator registered at a provider, so that mailboxes sign in there."""

    client_id: str | None = Field(
        None,
        pattern=r"^[!-~]{1,200}$",
        description="Id of the client that is registered there; sign-in is off without.",
    )
    client_secret: Secret | None = Field(None, description="Its secret; a public client has none.")
    tenant: str = Field(
        "common", pattern=r"^[A-Za-z0-9.-]{1,100}$", description="Stands for `{tenant}` in the addresses (Microsoft)."
    )
    token_url: Url | None = Field(
        None, description="Where access tokens are got (`https://…`), when not as in `oauth.toml`."
    )
    device_url: Url | None = Field(
        None, description="Where a sign-in with a code begins (`https://…`), when not as in `oauth.toml`."
    )
    scopes: Words = Field((), description="What is asked for, when not as in `oauth.toml`.")
    hosts: HostNames = Field((), description="Further IMAP servers that take its access tokens.")


class OAuth2Settings(Section):
    """Signing in at providers that take no password."""

    microsoft: OAuth2Client = OAuth2Client.model_validate({})
    google: OAuth2Client = OAuth2Client.model_validate({})
    other: OAuth2Client = OAuth2Client.model_validate({})
    ca_file: Path | None = Field(
        None,
        description="Further authorities trusted for these addresses: a PEM file, or a folder with some (`*.pem`).",
    )


class FetcherSettings(Section):
    """The process that reads Sent folders."""

    workers: int = Field(8, ge=1, le=256, description="Mailboxes read at once by one process.")
    lease_seconds: float = Field(300, ge=30, le=3600, description="How long a process owns a mailbox it reads.")


class MatcherSettings(Section):
    """The process that joins sent messages with inquiries."""

    store: Literal["memory", "rocksdb"] = Field(
        "rocksdb", description="Where the joined state lives between two batches."
    )
    data_dir: Path = Field(Path("data/matcher"), description="Folder of the local state; it can be thrown away.")
    app_id: str = Field(
        "replyrate-matcher",
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="Consumer group; aggregators look at how far it is, so they are told the same. A new one rebuilds the state.",
    )
    session_timeout_seconds: float = Field(
        45, ge=1, le=1800, description="A worker silent for longer loses its partitions."
    )


class AggregatorSettings(Section):
    """The process that keeps the ledger and judges."""

    rule_sets: Names = Field(("default", "first-reply-24h"), description="Rule sets that are active from the start.")
    rules_dir: Path | None = Field(None, description="Folder with rule sets of your own, NAME.toml each.")
    refresh_interval_seconds: float = Field(
        1, gt=0, le=3600, description="Pause between two looks for companies to refresh."
    )
    group: str = Field("replyrate-aggregator", pattern=r"^[A-Za-z0-9._-]{1,100}$", description="Consumer group.")
    session_timeout_seconds: float = Field(
        45, ge=1, le=1800, description="A worker silent for longer loses its partitions."
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
    port: int = Field(0, ge=0, le=65535, description="Port to listen on; 0 switches the pages off.")


class TelemetrySettings(Section):
    """Spans for an OpenTelemetry collector; needs the extra `telemetry`."""

    endpoint: str | None = Field(
        None,
        description="Where spans go by OTLP over HTTP, `http://collector:4318/v1/traces`; none are made when not set.",
    )
    sample_ratio: float = Field(
        1, ge=0, le=1, description="Part of the fetcher's polls that begin a trace which is told."
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


class Settings(Section):
    """All settings of one process."""

    kafka: KafkaSettings
    postgres: PostgresSettings
    hash_key_file: Path = Field(
        description="File with the 32 raw bytes of the hash key: one per installation, for ever."
    )
    vault_key_file: Path | None = Field(
        None, description="File with the 32 raw bytes that seal passwords; fetcher and command line only."
    )
    vault_old_key_file: Path | None = Field(
        None,
        description="File with the key before it, from before `replyrate keys rotate` until it is done; empty means none.",
    )
    horizon_days: int = Field(60, ge=1, le=3650, description="How far back facts are read, joined and kept in Kafka.")
    imap: ImapSettings = ImapSettings.model_validate({})
    oauth2: OAuth2Settings = OAuth2Settings.model_validate({})
    fetcher: FetcherSettings = FetcherSettings.model_validate({})
    matcher: MatcherSettings = MatcherSettings.model_validate({})
    aggregator: AggregatorSettings = AggregatorSettings.model_validate({})
    log: LogSettings = LogSettings.model_validate({})
    http: HttpSettings = HttpSettings.model_validate({})
    telemetry: TelemetrySettings = TelemetrySettings.model_validate({})
    warnings: tuple[str, ...] = Field((), exclude=True)
    """Sentences about names that no setting has."""

    def hash_key(self) -> bytes:
        """The 32 bytes of `hash_key_file`. ConfigError when it cannot be read or has another length."""
        return _key(self.hash_key_file, "HASH_KEY_FILE", NEW_KEY)

    def vault_key(self) -> bytes:
        """The 32 bytes of `vault_key_file`. ConfigError when it is not set, cannot be read or has another length."""
        if self.vault_key_file is None:
            raise ConfigError(
                f"{PREFIX}VAULT_KEY_FILE is not set; write the path of a file with {KEY_BYTES} random bytes"
            )
        return _key(self.vault_key_file, "VAULT_KEY_FILE", NEW_KEY)

    def old_vault_key(self) -> bytes | None:
        """The 32 bytes of `vault_old_key_file`; None when it is not set or empty, as it is in docker-compose.yml while no key
        is changed. ConfigError when it cannot be read or is too short or long."""
        path = self.vault_old_key_file
        return None if path is None else _key(path, "VAULT_OLD_KEY_FILE", OLD_KEY, (0, KEY_BYTES)) or None


def load_hash_key(environ: Mapping[str, str]) -> bytes:
    """The 32 bytes of the hash key, for what needs no other setting. ConfigError when it is not set or cannot be read."""
    file = environ.get(f"{PREFIX}HASH_KEY_FILE", "")
    if not file:
        raise ConfigError(
            f"{PREFIX}HASH_KEY_FILE is not set; write the path of the file with this installation's hash key"
        )
    return _key(Path(file), "HASH_KEY_FILE", NEW_KEY)


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read and check every setting in `environ`. Raises ConfigError with one sentence per problem."""
    known = {declared.name: declared for declared in declarations()}
    values = {name: text for name, text in environ.items() if name.startswith(PREFIX) and name not in NOT_SETTINGS}
    problems: list[str] = []
    warnings: list[str] = []
    tree: dict[str, Any] = {}
    for name, text in sorted(values.items()):
        plain = name.removesuffix("_FILE")
        if name in known:
            _put(tree, known[name].path, text)
        elif plain in known and known[plain].secret:
            if plain in values:
                problems.append(f"{plain} and {name} are both set; write only one of them")
                continue
            try:
                _put(tree, known[plain].path, secret_in(Path(text)))
            except ConfigError as error:
                problems.append(f"{name}: {error}")
                _put(tree, known[plain].path, "unread")
        else:
            near = difflib.get_close_matches(name, known, n=1)
            warnings.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else "; remove it"))
    try:
        settings = Settings.model_validate({**tree, "warnings": tuple(warnings)})
    except ValidationError as error:
        problems += _sentences(error, known.values())
    else:
        problems += _contradictions(settings)
        if not problems:
            return settings
    raise ConfigError(sorted(problems))


class _ImapAlone(Section):
    imap: ImapSettings


def load_imap_settings(environ: Mapping[str, str]) -> ImapSettings:
    """The settings for IMAP alone, for what needs neither Kafka nor Postgres. Raises ConfigError."""
    known = [declared for declared in declarations() if declared.path[0] == "imap"]
    values = {one.path[-1]: environ[one.name] for one in known if one.name in environ}
    try:
        return _ImapAlone.model_validate({"imap": values}).imap
    except ValidationError as error:
        raise ConfigError(sorted(_sentences(error, known))) from None


class Declaration(Section):
    """One setting as documentation and error texts show it."""

    name: str
    path: tuple[str, ...]
    kind: str
    default: str | None
    secret: bool
    description: str


def declarations() -> list[Declaration]:
    """Every setting with its full name, in the order of the models."""
    return list(_declared(Settings, ()))


def _declared(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[Declaration]:
    for name, field in model.model_fields.items():
        if name == "warnings":
            continue
        here = (*path, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _declared(field.annotation, here)
            continue
        default = None if field.is_required() else _default_text(field.default)
        yield Declaration(
            name=PREFIX + "__".join(part.upper() for part in here),
            path=here,
            kind=_kind(field.annotation),
            default=default,
            secret=_holds_secret(field.annotation),
            description=field.description or "",
        )


def _holds_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(_holds_secret(part) for part in get_args(annotation))


def _kind(annotation: object) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin is tuple:
        return "list with commas"
    if origin is Mapping:
        return "list of NAME=NUMBER with commas"
    if origin in (UnionType, Union):
        return _kind(next(part for part in get_args(annotation) if part is not type(None)))
    return {int: "whole number", float: "number", Path: "path", SecretStr: "secret"}.get(cast(type, annotation), "text")


def _default_text(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, Mapping):
        return ",".join(f"{name}={number}" for name, number in value.items()) or "none"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value) or "none"
    return str(value)


def _put(tree: dict[str, Any], path: Sequence[str], value: str) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value


def secret_in(path: Path) -> str:
    """The text that the file of a secret holds. ConfigError with the file and what mends it, never with what is in it."""
    raw = _read_secret(path, MAX_SECRET_FILE_BYTES, f"write the value into it{BY_COMPOSE}")
    if len(raw) > MAX_SECRET_FILE_BYTES:
        raise ConfigError(f"{path} is larger than 64 KiB; write the path of a file that holds the value alone")
    try:
        # One line break at the end comes from editors and `echo`, not from the secret.
        text = raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text; write the path of a file that holds the value alone") from None
    if not text:
        raise ConfigError(f"{path} is empty; write the value into it{BY_COMPOSE}")
    return text


BY_COMPOSE: Final = ", or with docker-compose.yml run `make secrets`, which makes what is missing or empty"
NEW_KEY: Final = (
    f"make one of {KEY_BYTES} random bytes (head -c {KEY_BYTES} /dev/urandom > FILE){BY_COMPOSE}."
    " Where there are data already, put back the copy that was kept: a new key does not fit to them"
)
OLD_KEY: Final = "write the path of the file with the key before, or take the setting away"


def _key(path: Path, name: str, cure: str, lengths: Sequence[int] = (KEY_BYTES,)) -> bytes:
    try:
        key = _read_secret(path, KEY_BYTES, cure)
    except ConfigError as error:
        raise ConfigError(f"{PREFIX}{name}: {error}") from None
    if len(key) not in lengths:
        length = f"{len(key)} bytes" if len(key) <= KEY_BYTES else f"more than {KEY_BYTES} bytes"
        raise ConfigError(f"{PREFIX}{name} names a file with {length} instead of {KEY_BYTES}, {path}; {cure}")
    return key


def _read_secret(path: Path, most: int, cure: str) -> bytes:
    """At most `most` + 1 bytes of a secret's file. ConfigError with what is wrong with the file, and how it is mended."""
    try:
        with path.open("rb") as stream:
            return stream.read(most + 1)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}; {cure}") from None
    except IsADirectoryError:
        raise ConfigError(
            f"{path} is a folder, as Docker makes one where a file is missing; remove it, then {cure}"
        ) from None
    except PermissionError:
        raise ConfigError(
            f"user {os.geteuid()} may not read {path}; let it with `chmod 444` (chmod 700 of the folder keeps others out),"
            " or with docker-compose.yml run `make secrets`, which does both"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or 'it cannot be read').lower()}; {cure}") from None


def _sentences(error: ValidationError, known: Iterable[Declaration]) -> Iterator[str]:
    """Pydantic's findings with our names: what to set, never the value that stood there."""
    known = list(known)
    for finding in error.errors(include_url=False, include_input=False, include_context=False):
        parts = [part for part in finding["loc"] if isinstance(part, str)]
        name = PREFIX + "__".join(part.upper() for part in parts)
        below = [one for one in known if one.name == name or one.name.startswith(name + "__")]
        matching = [one for one in known if name.startswith(one.name)] if not below else below
        if finding["type"] == "missing":
            yield from (f"{one.name} is not set; write: {one.description}" for one in matching if one.default is None)
        elif matching:
            yield f"{matching[0].name}: {_lower(finding['msg'])}; expected: {matching[0].kind}. {matching[0].description}"
        else:
            yield f"{name}: {_lower(finding['msg'])}"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _contradictions(settings: Settings) -> Iterator[str]:
    kafka = settings.kafka
    if kafka.security_protocol.startswith("SASL"):
        for name in ("sasl_mechanism", "sasl_username", "sasl_password"):
            if getattr(kafka, name) is None:
                yield f"{PREFIX}KAFKA__{name.upper()} is not set; {PREFIX}KAFKA__SECURITY_PROTOCOL={kafka.security_protocol} needs it"
    if settings.matcher.app_id == settings.aggregator.group:
        # Two kinds of members in one consumer group: the broker refuses whoever comes second, for ever.
        yield (
            f"{PREFIX}MATCHER__APP_ID and {PREFIX}AGGREGATOR__GROUP are the same consumer group;"
            " give each a name of its own"
        )
    if settings.oauth2.other.client_id and not settings.oauth2.other.token_url:
        yield (
            f"{PREFIX}OAUTH2__OTHER__TOKEN_URL is not set; {PREFIX}OAUTH2__OTHER__CLIENT_ID needs it:"
            " write where the provider gives access tokens"
        )
    if kafka.min_insync_replicas > kafka.replication_factor:
        yield (
            f"{PREFIX}KAFKA__MIN_INSYNC_REPLICAS is larger than {PREFIX}KAFKA__REPLICATION_FACTOR;"
            " nothing could ever be written: lower it"
        )


__all__ = [
    "AggregatorSettings", "Declaration", "FetcherSettings", "HttpSettings", "ImapSettings", "KafkaSettings",
    "LogSettings", "MatcherSettings", "OAuth2Client", "OAuth2Settings", "PostgresSettings", "Settings", "TelemetrySettings",
    "declarations", "dsn_with_password",
    "load_hash_key", "load_imap_settings", "load_settings", "secret_in",
]  # fmt: skip
