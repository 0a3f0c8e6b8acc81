"""The services of an earlier release go on over today's schema, until today's take over: on today's servers, with mail.

So an upgrade needs no stop: `replyrate init` first, then one service after another. Its code lies in NAME.tar.gz.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.common import migrations
from services.common.postgres import connect
from services.common.topics import SENT
from services.standalone.servers.paths import ROOT
from services.standalone.world.letters import MailText
from tests.support.dovecot import Dovecot
from tests.support.processes import Process, until
from tests.support.servers import USERS
from tests.support.topics import PARTITIONS, create_topics, kafka_settings, read_all
from tests.upgrade.make import unpack
from tests.upgrade.test_upgrade import earlier

__all__ = ["earlier"]

SERVICES = ("fetcher", "matcher", "aggregator")
USER = "seller-1@mail.test"
COMPANY = "upgraded"
RATE = """
    SELECT timely, late, unanswered, rate::float FROM report_v1.reply_rate_latest
    WHERE company_id = 'upgraded' AND rule_set = 'first-reply-24h' AND level = 'company'
"""


def command_line(root: Path, environ: dict[str, str], *arguments: str, text: str | None = None) -> str:
    """`replyrate ARGUMENTS` of the release whose code is in `root`."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments], cwd=root, input=text, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), **environ}, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def inquiry(number: int, at: datetime) -> str:
    """A line for `publish`."""
    return json.dumps(
        {
            "type": "inquiry", "company_id": COMPANY, "account_id": "main", "inquiry_id": f"i{number}",
            "received_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "buyer_id": f"b{number}",
            "buyer_addresses": [buyer(number)], "buyer_region": "DE",
        }
    )  # fmt: skip


def buyer(number: int) -> str:
    return f"buyer-{number}@shop.example"


def published(bootstrap_servers: str) -> list[bytes]:
    """Every record that fetchers have published, repeats included."""
    return [record.value or b"" for record in read_all(kafka_settings(bootstrap_servers), SENT)]


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def answer(server: Dovecot, number: int, at: datetime) -> None:
    """The seller's mail, filed as it was sent."""
    letter = MailText(USER, (buyer(number),), "Re: your inquiry", at, f"answer-{number}@mail.test")
    server.append(USER, "Sent", letter.render(), at)


def test_earlier_services_go_on_over_todays_schema_and_todays_take_over(
    earlier: str,
    request: pytest.FixtureRequest,
    topics_gone: str,
    make_dovecot: Callable[..., Dovecot],
    tmp_path: Path,
) -> None:
    then = unpack(request.node.callspec.params["earlier"].name.removesuffix(".sql.gz"), tmp_path / "then")
    server = make_dovecot(savedate=False)
    for name, key in (("hash.key", bytes(range(32))), ("vault.key", bytes(range(32, 64)))):
        (tmp_path / name).write_bytes(key)
    (tmp_path / "password").write_text(USERS[USER], "utf-8")
    environ = {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": topics_gone,
        "REPLYRATE_KAFKA__PARTITIONS": str(PARTITIONS),
        "REPLYRATE_POSTGRES__DSN": earlier,
        "REPLYRATE_HASH_KEY_FILE": str(tmp_path / "hash.key"),
        "REPLYRATE_VAULT_KEY_FILE": str(tmp_path / "vault.key"),
        "REPLYRATE_IMAP__CA_FILE": str(server.ca_file),
        "REPLYRATE_IMAP__ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128",
        "REPLYRATE_IMAP__ALLOWED_PORTS": str(server.port),
        "REPLYRATE_IMAP__POLL_INTERVAL_SECONDS": "1",
        "REPLYRATE_MATCHER__DATA_DIR": str(tmp_path / "matcher"),
        "REPLYRATE_MATCHER__SESSION_TIMEOUT_SECONDS": "6",
        "REPLYRATE_AGGREGATOR__SESSION_TIMEOUT_SECONDS": "6",
    }
    received = now() - timedelta(days=10)
    create_topics(kafka_settings(topics_gone))
    with connect(earlier, "tests") as connection, ExitStack() as running:

        def rows(statement: str) -> list[tuple[Any, ...]]:
            with psycopg.connect(earlier, autocommit=True) as watching:
                return watching.execute(statement.encode()).fetchall()

        def start(service: str, release: str, root: Path) -> Process:
            process = Process(f"services.{service}", environ, tmp_path / f"{service}-{release}.log", root)
            return running.enter_context(process)

        def outcomes() -> dict[str, str]:
            return dict(
                rows(
                    "SELECT inquiry_id, outcome FROM report_v1.inquiry_outcomes"
                    " WHERE company_id = 'upgraded' AND rule_set = 'first-reply-24h'"
                )
            )

        def await_outcomes(expected: dict[str, str], what: str) -> None:
            try:
                until(lambda: outcomes() == expected, 60, what, tuple(processes.values()))
            except AssertionError as error:
                raise AssertionError(f"{outcomes()} is not {expected}; {error}") from error

        def add(*, root: Path) -> None:
            command_line(root, environ, "company", "add", COMPANY)
            command_line(root, environ, "account", "add", COMPANY, "main")
            command_line(
                root, environ, "mailbox", "add", "--company", COMPANY, "--account", "main", "--address", USER,
                "--host", "localhost", "--port", str(server.port), "--consent-by", "the test",
                "--password-file", str(tmp_path / "password"), "--json",
            )  # fmt: skip

        # The mailboxes of the worked example exist in the table only: without sealed secrets and without a server.
        connection.execute("UPDATE registry.mailboxes SET state = 'paused'")

        # An upgrade as an operator has it: everything of then runs when the schema changes under it.
        processes = {service: start(service, "then", then) for service in SERVICES}
        answer(server, 1, received + timedelta(hours=2))
        add(root=then)
        command_line(then, environ, "publish", "-", text=inquiry(1, received) + "\n")
        await_outcomes({"i1": "timely"}, "they count on their own schema")
        migrations.migrate(connection, lambda _: None)

        # They continue: facts, mail, rates, and a restart, which checks the schema.
        answer(server, 2, now())
        facts = [inquiry(2, received), inquiry(3, received + timedelta(hours=1))]
        command_line(then, environ, "publish", "-", text="\n".join(facts) + "\n")
        expected = {"i1": "timely", "i2": "late", "i3": "unanswered"}
        await_outcomes(expected, "they count on today's schema")
        until(lambda: rows(RATE) == [(1, 1, 1, pytest.approx(1 / 3, abs=1e-4))], 30, "the rate of then's aggregator")
        for service, process in processes.items():
            assert process.terminate() == 0, f"{service}: {process.log.read_text('utf-8')[-2000:]}"
        processes = {service: start(service, "then", then) for service in SERVICES}
        answer(server, 4, now())
        command_line(then, environ, "publish", "-", text=inquiry(4, received) + "\n")
        expected |= {"i4": "late"}
        await_outcomes(expected, "they start on today's schema")

        # One service after another becomes today's; the others are still those of then.
        for number, service in enumerate(SERVICES, 5):
            assert processes[service].terminate() == 0
            processes[service] = start(service, "today", ROOT)
            answer(server, number, now())
            command_line(ROOT, environ, "publish", "-", text=inquiry(number, received) + "\n")
            expected |= {f"i{number}": "late"}
            await_outcomes(expected, f"with today's {service}")
        until(lambda: rows(RATE) == [(1, 5, 1, pytest.approx(1 / 7, abs=1e-4))], 30, "the rate of today's aggregator")

        # A day later nothing of then runs any more: what it published is stored compactly, and a rescan publishes the same bytes.
        assert rows("SELECT count(*) FROM registry.published") == [(6,)]
        sent = published(topics_gone)
        connection.execute("UPDATE registry.published_form SET compact_from = now()")
        assert processes["fetcher"].terminate() == 0
        processes["fetcher"] = start("fetcher", "a-day-later", ROOT)
        until(
            lambda: rows("SELECT count(*) FROM registry.published_messages") == [(6,)], 30, "compact rows",
            tuple(processes.values()),
        )  # fmt: skip
        ((mailbox_id,),) = rows("SELECT mailbox_id FROM registry.mailboxes WHERE company_id = 'upgraded'")
        command_line(ROOT, environ, "mailbox", "rescan", COMPANY, mailbox_id)
        until(lambda: len(published(topics_gone)) >= len(sent) + 6, 30, "a rescan", tuple(processes.values()))
        assert set(published(topics_gone)) == set(sent)
        rates = "SELECT shown::text FROM report_v1.reply_rate_history shown WHERE company_id = 'shop' ORDER BY 1"
        shown, stored = rows(rates), rows("SELECT count(*) FROM ledger.rates WHERE company_id = 'shop'")
        assert shown and stored[0][0] >= len(shown) and rows("SELECT count(*) FROM ledger.rate_ranges") == [(0,)]
        connection.execute("UPDATE ledger.rates_form SET in_ranges_from = now()")
        assert processes["aggregator"].terminate() == 0
        processes["aggregator"] = start("aggregator", "a-day-later", ROOT)
        until(
            lambda: rows("SELECT count(*) FROM ledger.rates") == [(0,)], 30, "rates in ranges", tuple(processes.values())
        )  # fmt: skip
        assert rows(rates) == shown
        for service in ("fetcher", "aggregator"):
            refused = start(service, "refused", then)
            assert refused.wait(60) == 78 and "not in this release" in refused.log.read_text("utf-8")
        for service, process in processes.items():
            assert process.terminate() == 0, f"{service}: {process.log.read_text('utf-8')[-2000:]}"
        # What the release had counted before is unchanged.
        assert rows("SELECT count(*) FROM report_v1.corrections WHERE company_id = 'shop'") == [(0,)]
        assert rows("SELECT count(*) FROM ledger.outcomes WHERE company_id = 'shop'")[0][0] > 20
        assert not [
            line
            for file in tmp_path.glob("*.log")
            for line in file.read_text("utf-8").splitlines()
            if "Traceback" in line
        ]
