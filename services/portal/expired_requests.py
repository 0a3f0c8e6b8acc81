"""Deletes what sellers typed into connect requests whose life is over, while no fetcher does (services/fetcher/connect_requests.py)."""

from logging import getLogger
from typing import Final

from services.common.lifecycle import Stop
from services.portal.database import TokenDatabase
from services.registry.connect_requests import ConnectRequests

log = getLogger(__name__)

EVERY_SECONDS: Final = 10.0
"""Between two looks; what was typed stays for at most so long after the life of its request."""
NO_TOKEN: Final = ""


def delete_expired(database: TokenDatabase, stop: Stop) -> None:
    """Look now and every few seconds until `stop` is set. TransientError when Postgres is away."""
    while not stop.is_set():
        with database.transaction(NO_TOKEN) as connection:
            expired = ConnectRequests(connection).expire_without_reading()
        if expired:
            log.warning(
                "no fetcher carried out %d connect requests in time; what was typed is deleted", expired,
                extra={"action": "connect-requests-expired", "requests": expired},
            )  # fmt: skip
        stop.wait(EVERY_SECONDS)
