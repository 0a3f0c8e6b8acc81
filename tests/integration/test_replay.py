"""The commands of docs/replay.md: coverage from Postgres, topics from Kafka, what-if; compared with the live numbers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer
from psycopg.rows import dict_row

from services.aggregator.judge import rules
from services.cli.numbers.replay import records
from services.common.postgres import connect
from services.common.tabular import plain
from services.common.topics import INQUIRIES, SENT
from services.standalone import replay as offline
from services.standalone.servers.paths import ROOT
from tests.support.topics import CODECS, committed, create_topics, kafka_settings, publish, publish_compressed
from tests.support.worked import AS_OF, COMPANY, FOLDER, load, psql_environ

PRESETS = [rules.load_builtin(name) for name in rules.builtin_names()]
PAGE = (ROOT / "docs/replay.md").read_text("utf-8")
DUMPS = ["--inquiries", str(FOLDER / "inquiries.ndjson"), "--sent", str(FOLDER / "sent.ndjson")]
KEY = ["--hash-key-file", str(FOLDER / "hash.key")]
COVERAGE = ["--coverage", str(FOLDER / "coverage.ndjson")]


def lines(word: str) -> list[str]:
    """The commands of the page that start with `word`."""
    joined = PAGE.replace("\\\n", "")
    return [line.strip() for line in joined.splitlines() if line.startswith(f"    {word} ")]


def replay(*arguments: str, environ: dict[str, str] | None = None, cwd: Path = ROOT) -> tuple[Any, str]:
    """The JSON that the command prints, and its standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "replay", *arguments, "--as-of", AS_OF.isoformat(), "--json"],
        capture_output=True, text=True, timeout=120, check=False, env=environ, cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_coverage_from_the_database_gives_the_live_numbers(dsn: str, tmp_path: Path) -> None:
    """The same facts and mailboxes live and replayed: every column of every row and outcome, for each rule set."""
    with connect(dsn, "tests") as connection:
        load(connection, PRESETS)
        # A mailbox that is only connected, a removed one, and an account that replies through the platform.
        connection.execute(
            "INSERT INTO registry.accounts (company_id, account_id) SELECT 'shop', unnest(ARRAY['chat', 'old'])"
        )
        connection.execute(
            "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, removed_at, from_at, through_at)"
            " VALUES ('shop', 'chat', NULL, '2026-02-01', NULL, '2026-02-01', NULL), ('shop', 'old', 'old-mail', '2026-01-01',"
            " '2026-01-02 03:04:05.678901', '2026-01-02', '2026-01-02'), ('shop', 'old', 'late-mail', '2026-03-01', NULL, NULL, NULL)"
        )
        with connection.cursor(row_factory=dict_row) as cursor:
            live = {
                view: cursor.execute(f"SELECT * FROM report_v1.{view} {which}".encode()).fetchall()
                for view, which in (("reply_rate", f"WHERE as_of = '{AS_OF}'"), ("inquiry_outcomes", ""))
            }
    (command,) = lines("psql")
    subprocess.run(["bash", "-c", command], env=psql_environ(dsn), cwd=tmp_path, check=True, timeout=60)
    coverage, rejected = offline.read_coverage("coverage.ndjson", (tmp_path / "coverage.ndjson").read_bytes())
    assert (len(coverage), rejected) == (6, [])
    assert [line.mailbox_id for line in coverage[3:]] == [None, "old-mail", "late-mail"]
    assert (
        coverage[4].removed_at is not None and coverage[4].removed_at.isoformat() == "2026-01-02T03:04:05.678901+00:00"
    )
    names = [rule_set.name for rule_set in PRESETS]
    counted, printed = replay(*DUMPS, *KEY, "--coverage", str(tmp_path / "coverage.ndjson"), "--rules", *names)
    assert printed == ""
    keys = {
        "reply_rate": ("rule_set", "company_id", "account_id"),
        "inquiry_outcomes": ("rule_set", "company_id", "inquiry_id"),
    }
    for view, key in keys.items():
        wanted = {tuple(columns[name] for name in key): plain(columns) for columns in live[view]}
        replayed = {tuple(columns[name] for name in key): columns for columns in counted[view]}
        # Accounts that were inserted after the live judgement have rows without inquiries and change no other row.
        for extra in replayed.keys() - wanted.keys():
            assert extra[2] in ("chat", "old") and replayed.pop(extra)["inquiries"] == 0
        assert len(replayed) == len(PRESETS) * (3 if view == "reply_rate" else 23)
        assert replayed == wanted


@pytest.mark.parametrize("compression", [None, *CODECS])
def test_the_topics_give_what_their_dumps_give(topics_gone: str, compression: str | None) -> None:
    settings = kafka_settings(topics_gone)
    create_topics(settings)
    for topic, name in ((INQUIRIES, "inquiries.ndjson"), (SENT, "sent.ndjson")):
        lines = (FOLDER / name).read_bytes().splitlines()
        if compression is None:
            publish(settings, topic, [(COMPANY.encode(), line) for line in lines])
        else:
            for line in lines:
                publish_compressed(settings, topic, COMPANY.encode(), line, compression=compression)
    environ = {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": topics_gone, "REPLYRATE_KAFKA__PARTITIONS": str(settings.partitions),
        "REPLYRATE_HASH_KEY_FILE": str(FOLDER / "hash.key"), "REPLYRATE_POSTGRES__DSN": "postgresql://nobody@127.0.0.1:1/none",
    }  # fmt: skip
    result, _ = replay("--from-kafka", *COVERAGE, "--rules", "default", environ=environ)
    assert result == replay(*DUMPS, *KEY, *COVERAGE, "--rules", "default")[0]
    assert len(result["inquiry_outcomes"]) == 23
    assert committed(settings, "replyrate-replay") == {}


def test_what_if(tmp_path: Path) -> None:
    """i04, answered after exactly 24 h, is late with a target of 12 h."""
    (change,) = lines("sed")
    (tmp_path / "services").symlink_to(ROOT / "services")
    subprocess.run(["bash", "-c", change], cwd=tmp_path, check=True, timeout=60)
    own = tmp_path / "twelve-hours.toml"
    assert rules.read(own).target_seconds == 43_200
    result, _ = replay(*DUMPS, *KEY, *COVERAGE, "--rules", "default", str(own))
    company = {rate["rule_set"]: rate for rate in result["reply_rate"] if rate["level"] == "company"}
    assert (company["default"]["timely"], company["default"]["late"]) == (7, 2)
    assert (company["twelve-hours"]["timely"], company["twelve-hours"]["late"]) == (6, 3)


def test_without_coverage_everything_counts_as_covered() -> None:
    result, _ = replay(*DUMPS, *KEY, "--rules", "default")
    rates = {rate["account_id"]: rate for rate in result["reply_rate"]}
    assert {rate["state"] for rate in rates.values()} == {"final"}
    assert (rates["desk"]["unanswered"], rates["desk"]["unmeasured"], rates["desk"]["coverage"]) == (1, 0, 1)


def test_an_invalid_line_is_reported_and_the_others_count(tmp_path: Path) -> None:
    dump = tmp_path / "inquiries.ndjson"
    first, *other_lines = (FOLDER / "inquiries.ndjson").read_text("utf-8").splitlines()
    dump.write_text(
        "\n".join([first.replace('"received_at": "2026', '"received_at": "1926'), "", "{", *other_lines]), "utf-8"
    )
    result, printed = replay("--inquiries", str(dump), *DUMPS[2:], *KEY, *COVERAGE, "--rules", "default")
    assert len(result["inquiry_outcomes"]) == 22
    assert printed.splitlines() == [
        "inquiries.ndjson line 1: left out: data.received_at: an instant before 2000-01-01 (limit)",
        "inquiries.ndjson line 3: left out: the record is not a JSON document in UTF-8 (not-json)",
    ]


@pytest.mark.parametrize("field", ["company_id", "account_id", "connected_at", "recorded_at"])
def test_the_page_names_what_a_line_of_coverage_needs(field: str) -> None:
    raw = json.loads((FOLDER / "coverage.ndjson").read_text("utf-8").splitlines()[0])
    assert all(f"`{name}`" in PAGE for name in raw)
    del raw[field]
    coverage, (rejected,) = offline.read_coverage("c", json.dumps(raw).encode())
    assert not coverage and field in rejected.detail


def test_a_topic_that_ends_with_transactions_is_read_to_its_end(topics_gone: str) -> None:
    """The end of a transaction, and an aborted one, are offsets without a record (KAFKA-12980)."""
    settings = kafka_settings(topics_gone)
    create_topics(settings)
    producer = KafkaProducer(bootstrap_servers=topics_gone, transactional_id="platform", acks="all")
    producer.init_transactions()
    for transaction, ends in ((b"first", "commit"), (b"second", "abort"), (b"third", "commit"), (b"fourth", "abort")):
        producer.begin_transaction()
        for partition in range(settings.partitions):
            producer.send(INQUIRIES, key=b"c", value=transaction, partition=partition)
        producer.commit_transaction() if ends == "commit" else producer.abort_transaction()
    # Its outcome is not known yet: what is read ends before it.
    producer.begin_transaction()
    producer.send(INQUIRIES, key=b"c", value=b"open", partition=0).get(timeout=30)
    read = [value for _, value in records(settings, INQUIRIES, lambda *_: None)]
    assert read.count(b"first") == read.count(b"third") == settings.partitions and len(read) == 2 * settings.partitions
    producer.abort_transaction()
    producer.close()
