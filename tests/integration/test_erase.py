"""Nothing is left of an erased company: in no table, not in the matcher, not in what is published, not after a rebuild.

The waits end when nothing has moved for a while, not after a fixed time: a slow machine needs longer, never another result.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from services.cli.__main__ import main
from services.common import codec
from services.common.errors import TransientError
from services.common.events import TYPES, CompanyErased
from services.common.hashing import Hasher
from services.common.postgres import connect
from services.common.topics import INQUIRIES, REPLIES, SENT
from services.mail.trust import SAVE_TOLERANCE
from services.registry import erasure
from services.registry.leases import LeaseLost, Leases
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.standalone.demo import comparison
from services.standalone.demo.demo import EmbeddedStage
from services.standalone.demo.report import DemoReport
from services.standalone.demo.stage import RULE_SETS
from services.standalone.servers.postgres import scratch_folder
from services.standalone.world import cast
from tests.faults.progress import Observation, observe
from tests.support.mailboxes import connected
from tests.support.topics import kafka_settings, read_all

GONE = "hx-tools"
STILL_SECONDS = 120
"""A pipeline that has not moved for this long will not do so any more."""
STAYS = {
    "ledger.erased": "that it was erased, and until when",
    "ledger.companies": "only its id: it may be registered again",
    "ledger.settled": "only its id: no day of it is settled",
    "ledger.corrections": "that final numbers were removed by an erase, without the numbers",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    scratch = scratch_folder("replyrate-erase-")
    yield scratch
    shutil.rmtree(scratch, ignore_errors=True)


def tables(connection: psycopg.Connection) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table of ours, as JSON."""
    names = connection.execute(
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
        " AND table_schema IN ('registry', 'ledger', 'shadow', 'access', 'replyrate')"
    ).fetchall()
    assert len(names) > 20
    return {
        f"{schema}.{name}": [
            values
            for (values,) in connection.execute(f'SELECT to_jsonb(t) FROM "{schema}"."{name}" t'.encode()).fetchall()
        ]
        for schema, name in names
    }


def mentions(rows: list[dict[str, Any]], traces: set[str]) -> list[dict[str, Any]]:
    return [values for values in rows if not traces.isdisjoint(texts(values))]


def texts(value: object) -> Iterator[str]:
    """Every text in a value of a JSON column, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.items():
            yield from texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)


def until(stage: EmbeddedStage, true: Callable[[], bool], problem: Callable[[], object]) -> None:
    """Wait until something holds; fails with the problem when the pipeline has not moved for STILL_SECONDS."""
    observation: Observation | None = None
    moved = time.monotonic()
    while not true():
        with suppress(TransientError):
            current = observe(kafka_settings(stage.kafka.bootstrap_servers), stage.dsn)
            if current != observation:
                observation, moved = current, time.monotonic()
        assert time.monotonic() - moved < STILL_SECONDS, problem()
        time.sleep(0.3)


def traces_of(connection: psycopg.Connection, company_id: str) -> set[str]:
    """What identifies the company in any row: its id, its mailboxes, their hashes, its inquiries and messages."""
    traces = {company_id}
    for statement in (
        "SELECT mailbox_id FROM registry.mailboxes WHERE company_id = %s",
        "SELECT login_hash FROM registry.mailboxes WHERE company_id = %s",
        "SELECT address_hash FROM registry.addresses WHERE company_id = %s",
        """SELECT unnest(ARRAY[message.message_key::text, right(replace(message.message_key::text, '-', ''), 16)
            || lpad(to_hex(message.message_tail), 16, '0')])
        FROM registry.mailboxes JOIN registry.published_messages message
        ON message_key BETWEEN registry.message_key(company_id, mailbox_id, repeat('0', 32))
            AND registry.message_key(company_id, mailbox_id, repeat('f', 32)) WHERE company_id = %s""",
        "SELECT inquiry_id FROM ledger.inquiries WHERE company_id = %s",
        "SELECT reply_id FROM ledger.replies WHERE company_id = %s",
    ):
        rows = connection.execute(statement.encode(), (company_id,)).fetchall()
        assert rows, statement
        traces |= {value for (value,) in rows}
    return traces


@pytest.mark.timeout(1800)
def test_nothing_is_left_of_an_erased_company_also_after_a_rebuild(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        stage = EmbeddedStage(folder, cast.build(5, datetime.now(UTC).replace(microsecond=0)), lambda _: None, stack)
        stage.open()
        stage.play()
        report = DemoReport()
        stage.read(report)
        assert report.differences == []
        for name, value in stage.environ().items():
            monkeypatch.setenv(name, value)
        kafka = kafka_settings(stage.kafka.bootstrap_servers)
        with connect(stage.dsn, "tests") as connection:
            traces = traces_of(connection, GONE)
            seen = {name for name, rows in tables(connection).items() if mentions(rows, traces)}
            assert {"registry.mailboxes", "registry.secrets", "registry.coverage", "ledger.rate_ranges"} <= seen
            published = {topic: len(read_all(kafka, topic)) for topic in (SENT, REPLIES)}

            done = CliRunner().invoke(main, ["erase", GONE, "--yes", "--json"])
            assert done.exit_code == 0, done.output
            erased = json.loads(done.stdout)
            assert erased["rows"]["mailboxes"] == erased["rows"]["secrets"] == 1

            def left() -> dict[str, list[dict[str, Any]]]:
                mentioned = {name: mentions(rows, traces) for name, rows in tables(connection).items()}
                return {name: rows for name, rows in mentioned.items() if rows}

            until(
                stage, lambda: left().keys() <= STAYS.keys(), lambda: {name: rows[:2] for name, rows in left().items()}
            )
            only_what_stays(left(), erased["at"])

            # What is published from then on, and what a compacted topic keeps, reveals nothing of it either.
            for topic, before in published.items():
                for record in read_all(kafka, topic)[before:]:
                    if record.value is not None:
                        event = codec.decode(record.value, accept=frozenset(TYPES)).data
                        assert getattr(event, "company_id", None) != GONE or isinstance(event, CompanyErased)
            newest = {record.key: record.value for record in read_all(kafka, REPLIES)}
            of_it = [value for key, value in newest.items() if key and GONE.encode() in key and value is not None]
            assert len(of_it) == 1
            assert isinstance(codec.decode(of_it[0], accept=frozenset(TYPES)).data, CompanyErased)

            # The other companies are as they were.
            others_agree(stage, connection)

            # Rebuild everything that can be: the matcher from its changelog, the ledger from the topic.
            stage.supervisor.stop()
            shutil.rmtree(folder / "matcher", ignore_errors=True)
            empty_ledger(connection)
            stage.supervisor.start()
            others_agree(stage, connection)
            assert left().keys() <= STAYS.keys()
            only_what_stays(left(), erased["at"])

            # Erase it once more, as after an interruption; registered again, it starts from nothing.
            again = CliRunner().invoke(main, ["erase", GONE, "--yes", "--json"])
            assert again.exit_code == 0 and set(json.loads(again.stdout)["rows"].values()) == {0}
            assert CliRunner().invoke(main, ["company", "add", GONE]).exit_code == 0
            # A poll may have been running at the first erase: what was sent before its lease ends is forgotten too.
            ends = [datetime.fromisoformat(at) for at in (erased["at"], json.loads(again.stdout)["at"])]
            later = max(ends) + timedelta(seconds=1)
            asked = inquiry_of(GONE, later)
            file = folder / "one.ndjson"
            file.write_text(json.dumps(asked) + "\n")
            assert CliRunner().invoke(main, ["publish", str(file)]).exit_code == 0
            new = "SELECT count(*) FROM ledger.inquiries WHERE company_id = %s"
            until(
                stage,
                lambda: connection.execute(new, (GONE,)).fetchone() == (1,),
                lambda: "the new inquiry is not counted",
            )


def inquiry_of(company_id: str, at: datetime) -> dict[str, Any]:
    return {
        "type": "inquiry", "company_id": company_id, "account_id": "main", "inquiry_id": "after-the-erase",
        "received_at": codec.instant_text(at), "buyer_id": "b-new",
    }  # fmt: skip


def only_what_stays(left: dict[str, list[dict[str, Any]]], at: str) -> None:
    (erased,) = left["ledger.erased"]
    assert (erased["company_id"], datetime.fromisoformat(erased["at"])) == (GONE, datetime.fromisoformat(at))
    assert {settled["through"] for settled in left.get("ledger.settled", [])} <= {"0001-01-01"}
    for correction in left.get("ledger.corrections", []):
        assert (correction["cause"], correction["old_value"]) == ("erase", None)


def differences(stage: EmbeddedStage, connection: psycopg.Connection) -> list[str]:
    compared = comparison.compare(connection, stage.world, RULE_SETS)
    return [difference for difference in compared.differences if GONE not in str(difference)]


def others_agree(stage: EmbeddedStage, connection: psycopg.Connection) -> None:
    until(stage, lambda: not differences(stage, connection), lambda: differences(stage, connection)[:5])


def empty_ledger(connection: psycopg.Connection) -> None:
    """Lose the ledger: facts, numbers and positions are gone, rule sets stay."""
    preserved = {"topics", "rule_sets", "advice"}
    names = connection.execute(
        "SELECT table_schema || '.' || table_name, table_name FROM information_schema.tables"
        " WHERE table_schema IN ('ledger', 'shadow') AND table_type = 'BASE TABLE'"
    ).fetchall()
    connection.execute(f"TRUNCATE {', '.join(full for full, name in names if name not in preserved)}".encode())


def test_an_erase_is_confirmed_and_a_wrong_id_erases_nothing(
    dsn: str, topics_gone: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"POSTGRES__DSN": dsn, "KAFKA__BOOTSTRAP_SERVERS": topics_gone}.items():
        monkeypatch.setenv(f"REPLYRATE_{name}", value)
    for name in ("HASH", "VAULT"):
        (tmp_path / name).write_bytes(bytes(32))
        (tmp_path / name).chmod(0o600)
        monkeypatch.setenv(f"REPLYRATE_{name}_KEY_FILE", str(tmp_path / name))
    assert CliRunner().invoke(main, ["company", "add", "shop"]).exit_code == 0
    assert CliRunner().invoke(main, ["account", "add", "shop", "main"]).exit_code == 0
    unconfirmed = CliRunner().invoke(main, ["erase", "shop"])
    assert unconfirmed.exit_code == 2 and "--yes" in unconfirmed.output
    dry_run = CliRunner().invoke(main, ["erase", "shop", "--dry-run", "--json"])
    assert json.loads(dry_run.stdout)["rows"]["accounts"] == 1
    # Without its topic the event could not be published: nothing is deleted then.
    lacking = CliRunner().invoke(main, ["erase", "shop", "--yes"])
    assert lacking.exit_code == 78 and "replyrate topics create" in lacking.output
    assert CliRunner().invoke(main, ["topics", "create"]).exit_code == 0
    monkeypatch.setattr("services.cli.registry.erase.is_interactive", lambda: True)
    mistyped = CliRunner().invoke(main, ["erase", "shop"], input="shup\n")
    assert mistyped.exit_code == 1 and "Nothing was erased" in mistyped.output
    with connect(dsn, "tests") as connection:
        assert erasure.count_rows(connection, "shop")["accounts"] == 1
        # Kafka goes away in the middle: the second run does what the first could not.
        with pytest.raises(TransientError):
            erasure.erase(connection, Away(), "shop")  # type: ignore[arg-type]
        assert erasure.count_rows(connection, "shop")["accounts"] == 0
    typed = CliRunner().invoke(main, ["erase", "shop"], input="shop\n")
    assert typed.exit_code == 0 and "forget its facts up to" in typed.output
    (record,) = read_all(kafka_settings(topics_gone), INQUIRIES)
    event = codec.decode(record.value or b"", accept=frozenset(TYPES)).data
    assert isinstance(event, CompanyErased) and event.company_id == "shop"


class Away:
    """Kafka that accepts records and never acknowledges them."""

    def send(self, *_: object) -> None:
        """Accepted."""

    def wait(self, _: object) -> list[int]:
        """Never acknowledged."""
        raise TransientError("Kafka is away or busy")


def test_an_erase_covers_what_a_running_poll_still_publishes(dsn: str) -> None:
    """It was sent before the instant up to which facts are forgotten."""
    with connect(dsn, "tests") as connection:
        registry = Registry(connection, Hasher(bytes(32)), Vault(bytes(32)))
        registry.companies.add("shop")
        registry.accounts.add("shop", "main")
        connected(registry, "shop")
        leases = Leases(connection, Vault(bytes(32)))
        leased = leases.lease("fetcher-1", 300)
        assert leased is not None
        sent: list[bytes] = []

        class Kafka:
            def send(self, _topic: str, _key: bytes, value: bytes) -> None:
                sent.append(value)

            def wait(self, _: object) -> list[int]:
                return []

        erased = erasure.erase(connection, Kafka(), "shop")  # type: ignore[arg-type]
        assert erased.at >= leased.now + timedelta(seconds=300) + SAVE_TOLERANCE, (
            "a trusted Date may run that far ahead"
        )
        assert sent and b"company-erased" in sent[0]
        with pytest.raises(LeaseLost):
            leases.set_sent_folders(leased, [b"Sent"])
