"""1,000 mailboxes registered by the API: accepted by the web process, connected by one fetcher, as production starts both.

The mail server is scripted_imap.py, which costs little; each mailbox has a login of its own.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import psycopg

from bench.measure import Figure, Usage
from bench.scripted_imap import ANSWER_SECONDS, scripted_server
from bench.world import PASSWORD, World
from services.common.postgres import connect
from services.connect import consent
from services.standalone.servers.postgres import EmbeddedPostgres
from tests.support.api_lab import api_client, new_key
from tests.support.portal_lab import portal_login, running_portal
from tests.support.processes import Process, until
from tests.support.topics import kafka_settings

MAILBOXES: Final = 1_000
ACCOUNTS: Final = 5
"""Of each company; each has a mailbox."""
REACH_SECONDS: Final = 300
LIMIT_SECONDS: Final = 1_200
SLOW_ANSWER_SECONDS: Final = 0.15
"""A mail server on another continent."""
NDJSON: Final = {"content-type": "application/x-ndjson"}
KEYS: Final = "SELECT count(*) FROM registry.sealing_keys"
STATES: Final = "SELECT state, count(*) FROM registry.connect_requests GROUP BY state"
ACTIVE: Final = "SELECT count(*) FROM registry.mailboxes WHERE state = 'active'"
WAITED: Final = "SELECT extract(epoch FROM max(finished_at - created_at))::float8 FROM registry.connect_requests"


def lines(port: int, mailboxes: int) -> list[dict[str, Any]]:
    """The import: companies, accounts and mailboxes on a mail server at `port`."""
    imported: list[dict[str, Any]] = []
    for number in range(mailboxes):
        owner = {"company_id": f"shop-{number // ACCOUNTS}", "account_id": f"account-{number % ACCOUNTS}"}
        if number % ACCOUNTS == 0:
            imported.append({"type": "company", "company_id": owner["company_id"]})
        login = {"address": f"seller-{number}@mail.test", "password": PASSWORD, "host": "localhost", "port": port}
        imported += [
            {"type": "account", **owner},
            {"type": "mailbox", **owner, "login": login, "consent_by": "Li Wei", "consent_text": consent.load().current.version},
        ]  # fmt: skip
    return imported


def measure(folder: Path, server: EmbeddedPostgres, kafka: str) -> list[Figure]:
    """From the import until the last mailbox is active. `folder`: for logs and keys; `kafka` has the topics."""
    figure = Figure(
        "portal_register_1000_seconds", "1,000 mailboxes by the API: import → the last is active, one fetcher", REACH_SECONDS, True
    )  # fmt: skip
    figure.detail = _registered(folder / "registration", server, kafka, ANSWER_SECONDS, MAILBOXES)
    figure.values.append(figure.detail["seconds"])
    slow = _registered(folder / "registration-slow", server, kafka, SLOW_ANSWER_SECONDS, MAILBOXES // 5)
    figure.detail["slow"] = slow
    return [figure]


def _registered(
    folder: Path, server: EmbeddedPostgres, kafka: str, answer_seconds: float, mailboxes: int
) -> dict[str, Any]:
    """Register mailboxes on a mail server that answers after `answer_seconds`; returns what it took."""
    database = f"bench_{folder.name}".replace("-", "_")
    with scripted_server(folder.with_name(f"{folder.name}-mail"), answer_seconds, messages=0) as mail:
        world = World(folder, kafka_settings(kafka), server.create_database(database), mail)
        with (
            portal_login(world.dsn) as login,
            running_portal(kafka, login, world.folder) as portal,
            world.start("fetcher") as fetcher,
            connect(world.dsn, "bench") as connection,
            api_client(portal, new_key(world.dsn).secret) as client,
        ):
            until(lambda: _number(connection, KEYS) > 0, 60, "the fetcher publishes its key", (fetcher,))
            imported = lines(mail.port, mailboxes)
            usages = {
                "portal": Usage(portal.process.pid), "fetcher": Usage(fetcher.pid), "mail server": Usage(mail.pid)
            }  # fmt: skip
            before = {name: usage.cpu_seconds() for name, usage in usages.items()}
            started = time.monotonic()
            response = client.post(
                "/v1/import", content="\n".join(map(json.dumps, imported)), headers=NDJSON, timeout=120
            )
            accepted = time.monotonic() - started
            assert response.status_code == 200 and len(response.json()["mailboxes"]) == mailboxes, response.text[:500]
            _await_connected(connection, fetcher, mailboxes)
            seconds = time.monotonic() - started
            detail = {
                "seconds": round(seconds, 1), "mailboxes": mailboxes, "answer_seconds": answer_seconds,
                "accepted_seconds": round(accepted, 1), "lines_per_second": round(len(imported) / accepted),
                "connected_per_second": round(mailboxes / (seconds - accepted), 1),
                "longest_wait_seconds": round(_number(connection, WAITED)), "requests": _states(connection),
                "cpu_seconds": {name: round(usage.cpu_seconds() - before[name], 1) for name, usage in usages.items()},
                "load_average": round(os.getloadavg()[0], 1),
            }  # fmt: skip
            fetcher.terminate()
    return detail


def _await_connected(connection: psycopg.Connection, fetcher: Process, mailboxes: int) -> None:
    """Wait until every mailbox is active. Fails when a request failed or expired."""
    deadline = time.monotonic() + LIMIT_SECONDS
    shown = 0
    while (active := _number(connection, ACTIVE)) < mailboxes:
        states = _states(connection)
        assert fetcher.running(), fetcher.log.read_text("utf-8")[-3000:]
        assert time.monotonic() < deadline and not states.keys() & {"failed", "expired"}, (
            states,
            fetcher.log.read_text("utf-8")[-3000:],
        )
        if active >= shown + 100:
            shown = int(active)
            print(f"  registration: {shown} of {mailboxes} are active", file=sys.stderr, flush=True)
        time.sleep(0.5)


def _states(connection: psycopg.Connection) -> dict[str, int]:
    counts: list[tuple[str, int]] = connection.execute(STATES).fetchall()
    return dict(counts)


def _number(connection: psycopg.Connection, statement: str) -> float:
    result = connection.execute(statement.encode()).fetchone()
    assert result is not None
    return float(result[0])
