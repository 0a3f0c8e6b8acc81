"""Deletes what was typed into expired connect requests, so that it is deleted even if no fetcher runs (services/fetcher/connect_requests.py)."""

from logging import getLogger
from typing import Final

from services.common.lifecycle import Stop
from services.portal.database import TokenDatabase
from services.registry.connect_requests import ConnectRequests

log = getLogger(__name__)

EVERY_SECONDS: Final = 10.0
"""Seconds between two checks: how long what was typed can remain after its request has expired."""
NO_TOKEN: Final = ""


def delete_expired(database: TokenDatabase, stop: Stop) -> None:
    """Check now and every EVERY_SECONDS until `stop` is set. TransientError when Postgres is away."""
    while not stop.is_set():
        with database.transaction(NO_TOKEN) as connection:
            expired = ConnectRequests(connection).expire_without_reading()
        if expired:
            log.warning(
                "no fetcher carried out %d connect requests in time; what was typed is deleted", expired,
                extra={"action": "connect-requests-expired", "requests": expired},
            )  # fmt: skip
        stop.wait(EVERY_SECONDS)
