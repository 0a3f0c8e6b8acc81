"""What each process reads: a process needs and validates only the settings of its own model.

`Settings` is everything: the command line and the embedded servers, which start the other processes, read all of it but the secret of the
console's client.
"""

from pathlib import Path

from pydantic import Field

from services.common.errors import ConfigError
from services.common.settings.files import KEY_BYTES, NEW_KEY, OLD_KEY, PREFIX, read_key
from services.common.settings.sections import (
    AggregatorSettings,
    ConsoleSettings,
    FetcherSettings,
    HttpSettings,
    ImapSettings,
    KafkaSettings,
    LogSettings,
    MatcherGroup,
    MatcherSettings,
    OAuth2PublicSettings,
    OAuth2Settings,
    PortalLinksGroup,
    PortalSettings,
    PostgresSettings,
    Section,
    TelemetrySettings,
)


class Config(Section):
    """The settings of some process."""

    warnings: tuple[str, ...] = Field((), exclude=True)
    """Sentences about names that no setting has."""


class ServiceConfig(Config):
    """What every service reads."""

    kafka: KafkaSettings
    horizon_days: int = Field(60, ge=1, le=3650, description="How far back facts are read, joined and kept in Kafka.")
    log: LogSettings = LogSettings.model_validate({})
    http: HttpSettings = HttpSettings.model_validate({})
    telemetry: TelemetrySettings = TelemetrySettings.model_validate({})


class HashKeyConfig(Config):
    """For processes that hash addresses and ids."""

    hash_key_file: Path = Field(
        description="File with the 32 raw bytes of the hash key: one per installation, never changed."
    )

    def hash_key(self) -> bytes:
        """The 32 bytes of `hash_key_file`. ConfigError when it cannot be read or has another length."""
        return read_key(self.hash_key_file, "HASH_KEY_FILE", NEW_KEY)


class PostgresConfig(Config):
    """For processes that use the database."""

    postgres: PostgresSettings


class ImapConfig(Config):
    """For processes that connect to mail servers."""

    imap: ImapSettings = ImapSettings.model_validate({})


class FetcherConfig(ImapConfig, HashKeyConfig, PostgresConfig, ServiceConfig):
    """The fetcher."""

    vault_key_file: Path | None = Field(None, description="File with the 32 raw bytes of the key that seals passwords.")
    vault_old_key_file: Path | None = Field(
        None,
        description="File with the previous key, while `replyrate keys rotate` has not finished; an empty file means none.",
    )
    oauth2: OAuth2Settings = OAuth2Settings.model_validate({})
    fetcher: FetcherSettings = FetcherSettings.model_validate({})

    def vault_key(self) -> bytes:
        """The 32 bytes of `vault_key_file`. ConfigError when it is not set, cannot be read or has another length."""
        if self.vault_key_file is None:
            raise ConfigError(
                f"{PREFIX}VAULT_KEY_FILE is not set; write the path of a file with {KEY_BYTES} random bytes"
            )
        return read_key(self.vault_key_file, "VAULT_KEY_FILE", NEW_KEY)

    def old_vault_key(self) -> bytes | None:
        """The 32 bytes of `vault_old_key_file`; None when it is not set or empty, as in docker-compose.yml while no key is
        rotated. ConfigError when it cannot be read or has another length."""
        path = self.vault_old_key_file
        return None if path is None else read_key(path, "VAULT_OLD_KEY_FILE", OLD_KEY, (0, KEY_BYTES)) or None


class MatcherConfig(HashKeyConfig, ServiceConfig):
    """The matcher; it uses no database."""

    matcher: MatcherSettings = MatcherSettings.model_validate({})


class AggregatorConfig(PostgresConfig, ServiceConfig):
    """The aggregator; it sees hashes only, so it needs no key."""

    matcher: MatcherGroup = MatcherGroup.model_validate({})
    aggregator: AggregatorSettings = AggregatorSettings.model_validate({})


class PortalConfig(PostgresConfig, ServiceConfig):
    """The web process; it has no key, so it can open nothing that is stored, and no secret of an OAuth2 client."""

    oauth2: OAuth2PublicSettings = OAuth2PublicSettings.model_validate({})
    portal: PortalSettings = PortalSettings.model_validate({})


class ConsoleConfig(PostgresConfig, ServiceConfig):
    """The web process of the staff; like the one of the sellers it has no key."""

    matcher: MatcherGroup = MatcherGroup.model_validate({})
    aggregator: AggregatorSettings = AggregatorSettings.model_validate({})
    portal: PortalLinksGroup = PortalLinksGroup.model_validate({})
    console: ConsoleSettings = ConsoleSettings.model_validate({})


class Settings(FetcherConfig, MatcherConfig, AggregatorConfig, PortalConfig, ConsoleConfig):
    """Every setting."""

    oauth2: OAuth2Settings = OAuth2Settings.model_validate({})
    matcher: MatcherSettings = MatcherSettings.model_validate({})
    portal: PortalSettings = PortalSettings.model_validate({})


SERVICES: dict[str, type[ServiceConfig]] = {
    "fetcher": FetcherConfig,
    "matcher": MatcherConfig,
    "aggregator": AggregatorConfig,
    "portal": PortalConfig,
    "console": ConsoleConfig,
}
