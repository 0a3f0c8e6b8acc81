"""Reading settings from the environment: all problems at once, each with the setting's name and what to write."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, overload

from pydantic import ValidationError

from services.common.errors import ConfigError
from services.common.settings.declarations import Declaration, declarations
from services.common.settings.files import PREFIX, secret_in
from services.common.settings.processes import (
    AggregatorConfig,
    Config,
    ConsoleConfig,
    FetcherConfig,
    HashKeyConfig,
    ImapConfig,
    ServiceConfig,
    Settings,
)
from services.common.settings.sections import ImapSettings

NOT_SETTINGS: Final = frozenset({"REPLYRATE_CACHE", "REPLYRATE_DATA"})
"""Names with our prefix that are no settings of a service: where the embedded servers keep downloads and data."""

ISSUER: Final = f"{PREFIX}CONSOLE__ISSUER"
CLIENT_SECRET: Final = f"{PREFIX}CONSOLE__CLIENT_SECRET"

LEASE_PER_SESSION: Final = 1.5
"""A lease covers the session of a poll, its login before it, and the acknowledgements after it."""

Model = TypeVar("Model", bound=Config)


@overload
def load_settings(environ: Mapping[str, str]) -> Settings: ...
@overload
def load_settings(environ: Mapping[str, str], model: type[Model]) -> Model: ...
def load_settings(environ: Mapping[str, str], model: type[Config] = Settings) -> Config:
    """Read and check the settings of a process in `environ`. ConfigError with one sentence per problem.

    Settings of other processes are neither read nor checked; a name that is no setting of any is a warning.
    """
    all_settings = {setting.name: setting for setting in declarations()}
    own = {setting.name: setting for setting in declarations(model)}
    if not _reads_client_secret(environ, model):
        own.pop(CLIENT_SECRET, None)
    values = {name: text for name, text in environ.items() if name.startswith(PREFIX) and name not in NOT_SETTINGS}
    problems: list[str] = []
    warnings: list[str] = []
    tree: dict[str, Any] = {}
    for name, text in sorted(values.items()):
        plain = name.removesuffix("_FILE")
        if name in own:
            _put(tree, own[name].path, text)
        elif plain in own and own[plain].secret:
            if plain in values:
                problems.append(f"{plain} and {name} are both set; write only one of them")
                continue
            try:
                _put(tree, own[plain].path, secret_in(Path(text)))
            except ConfigError as error:
                problems.append(f"{name}: {error}")
                _put(tree, own[plain].path, "unread")
        elif not (name in all_settings or (plain in all_settings and all_settings[plain].secret)):
            near = difflib.get_close_matches(name, all_settings, n=1)
            warnings.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else "; remove it"))
    try:
        config = model.model_validate({**tree, "warnings": tuple(warnings)})
    except ValidationError as error:
        problems += _sentences(error, own.values())
    else:
        problems += _contradictions(config)
        if not problems:
            return config
    raise ConfigError(sorted(problems))


def load_imap_settings(environ: Mapping[str, str]) -> ImapSettings:
    """The settings for IMAP alone, for commands that need neither Kafka nor Postgres. Raises ConfigError."""
    return load_settings(environ, ImapConfig).imap


def load_hash_key(environ: Mapping[str, str]) -> bytes:
    """The 32 bytes of the hash key, for commands that need no other setting. ConfigError when it is not set or unreadable."""
    return load_settings(environ, HashKeyConfig).hash_key()


def _reads_client_secret(environ: Mapping[str, str], model: type[Config]) -> bool:
    """Whether this is the console and staff sign in at a provider. No command needs the secret, and its file is nowhere else."""
    return model is ConsoleConfig and bool(environ.get(ISSUER))


def _put(tree: dict[str, Any], path: Sequence[str], value: str) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value


def _sentences(error: ValidationError, declared: Iterable[Declaration]) -> Iterator[str]:
    """Pydantic's errors in our words: the setting, what is wrong and what to write, never the value that was set."""
    settings = list(declared)
    for finding in error.errors(include_url=False, include_input=False, include_context=False):
        parts = [part for part in finding["loc"] if isinstance(part, str)]
        name = PREFIX + "__".join(part.upper() for part in parts)
        below = [setting for setting in settings if setting.name == name or setting.name.startswith(name + "__")]
        matching = [setting for setting in settings if name.startswith(setting.name)] if not below else below
        if finding["type"] == "missing":
            yield from (
                f"{setting.name} is not set; write: {setting.description}"
                for setting in matching
                if setting.default is None
            )
        elif matching:
            yield f"{matching[0].name}: {_lower(finding['msg'])}; expected: {matching[0].kind}. {matching[0].description}"
        else:
            yield f"{name}: {_lower(finding['msg'])}"


def _lower(sentence: str) -> str:
    sentence = sentence.removeprefix("Value error, ")
    return sentence[:1].lower() + sentence[1:]


def _contradictions(config: Config) -> Iterator[str]:
    """Values that are valid each for itself and not together."""
    if isinstance(config, ServiceConfig):
        kafka = config.kafka
        if kafka.security_protocol.startswith("SASL"):
            for name in ("sasl_mechanism", "sasl_username", "sasl_password"):
                # An empty user is none, too.
                if not getattr(kafka, name):
                    yield f"{PREFIX}KAFKA__{name.upper()} is not set; {PREFIX}KAFKA__SECURITY_PROTOCOL={kafka.security_protocol} needs it"
        if kafka.min_insync_replicas > kafka.replication_factor:
            yield (
                f"{PREFIX}KAFKA__MIN_INSYNC_REPLICAS is larger than {PREFIX}KAFKA__REPLICATION_FACTOR;"
                " nothing could ever be written: lower it"
            )
    if isinstance(config, AggregatorConfig) and config.matcher.app_id == config.aggregator.group:
        # Two kinds of members in one consumer group: the broker refuses the second kind, for ever.
        yield (
            f"{PREFIX}MATCHER__APP_ID and {PREFIX}AGGREGATOR__GROUP are the same consumer group;"
            " give each a name of its own"
        )
    if isinstance(config, FetcherConfig):
        lease, session = config.fetcher.lease_seconds, config.imap.session_seconds
        if lease < LEASE_PER_SESSION * session:
            yield (
                f"{PREFIX}FETCHER__LEASE_SECONDS ({lease:g}) is less than {LEASE_PER_SESSION} times"
                f" {PREFIX}IMAP__SESSION_SECONDS ({session:g}); another fetcher would take over mailboxes that are still"
                " being read: raise the first or lower the second"
            )
        client = config.oauth2.other
        if client.client_id and not client.token_url:
            yield (
                f"{PREFIX}OAUTH2__OTHER__TOKEN_URL is not set; {PREFIX}OAUTH2__OTHER__CLIENT_ID needs it:"
                " write where the provider issues access tokens"
            )
    # Staff do not sign in at the command line, which has every other setting.
    if isinstance(config, ConsoleConfig) and not isinstance(config, Settings) and config.console.issuer:
        for name in ("client_id", "client_secret"):
            if not getattr(config.console, name):
                yield f"{PREFIX}CONSOLE__{name.upper()} is not set; {PREFIX}CONSOLE__ISSUER needs it"
