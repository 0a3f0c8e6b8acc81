"""Every setting of replyrate: its name, type, default and meaning, declared once; and who reads it.

The environment is the only source (prefix `REPLYRATE_`, nested by `__`); a secret may also be in a file that the same setting
with `_FILE` behind it names. `docs/settings.md` is rendered from the models.

sections.py      the groups of settings
processes.py     which process reads which groups
load.py          from the environment to a model, with every problem as a sentence
declarations.py  the settings as a list, for docs and messages
files.py         files with secrets and keys
"""

from services.common.settings.declarations import Declaration, declarations, readers
from services.common.settings.files import PREFIX, secret_in
from services.common.settings.load import load_hash_key, load_imap_settings, load_settings
from services.common.settings.processes import (
    SERVICES,
    AggregatorConfig,
    ConsoleConfig,
    FetcherConfig,
    MatcherConfig,
    PortalConfig,
    ServiceConfig,
    Settings,
)
from services.common.settings.sections import (
    AggregatorSettings,
    ConsoleSettings,
    FetcherSettings,
    HttpSettings,
    ImapSettings,
    KafkaSettings,
    LogSettings,
    MatcherSettings,
    OAuth2Client,
    OAuth2PublicClient,
    OAuth2PublicSettings,
    OAuth2Settings,
    PortalSettings,
    PostgresSettings,
    TelemetrySettings,
    dsn_with_password,
)

__all__ = [
    "PREFIX", "SERVICES",
    "AggregatorConfig", "AggregatorSettings", "ConsoleConfig", "ConsoleSettings", "Declaration", "FetcherConfig",
    "FetcherSettings", "HttpSettings", "ImapSettings", "KafkaSettings", "LogSettings", "MatcherConfig", "MatcherSettings", "OAuth2Client",
    "OAuth2PublicClient", "OAuth2PublicSettings", "OAuth2Settings",
    "PortalConfig", "PortalSettings", "PostgresSettings", "ServiceConfig", "Settings", "TelemetrySettings",
    "declarations", "dsn_with_password", "load_hash_key", "load_imap_settings", "load_settings", "readers", "secret_in",
]  # fmt: skip
