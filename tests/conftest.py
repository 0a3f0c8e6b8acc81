"""For every test: a clean environment, Hypothesis profiles, the fixtures of tests/support/servers.py."""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.support.servers import (
    ca,
    direct_dsn,
    dovecot,
    dsn,
    kafka,
    kafka_server,
    make_dovecot,
    make_pymap,
    own_kafka,
    pooler,
    postgres,
    postgres_server,
    pymap,
    scratch,
    server_folder,
    topics_gone,
)

__all__ = [
    "ca",
    "direct_dsn",
    "dovecot",
    "dsn",
    "kafka",
    "kafka_server",
    "make_dovecot",
    "make_pymap",
    "own_kafka",
    "pooler",
    "postgres",
    "postgres_server",
    "pymap",
    "scratch",
    "server_folder",
    "topics_gone",
]

# A developer's own settings must not reach a test, except the cache of downloads.
for _name in [name for name in os.environ if name.startswith("REPLYRATE_") and name != "REPLYRATE_CACHE"]:
    del os.environ[_name]

_slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("default", max_examples=60, deadline=None, suppress_health_check=_slow)
settings.register_profile("long", max_examples=3000, deadline=None, suppress_health_check=_slow)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings that a test before set in the environment."""
    for name in [name for name in os.environ if name.startswith("REPLYRATE_") and name != "REPLYRATE_CACHE"]:
        monkeypatch.delenv(name)
