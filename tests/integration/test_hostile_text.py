"""Text from outside through every command that prints it: control characters, terminal escapes, markup, formulas."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from services.aggregator.judge import rules
from services.aggregator.refresh.refresh import Refresher
from services.cli.__main__ import main
from services.common import codec
from services.common.events import DeadLetter
from services.common.hashing import Hasher
from services.common.kafka import Publisher
from services.common.postgres import connect
from services.common.settings import KafkaSettings
from services.common.topics import DEAD, REPLAYED, REPLIES, SENT
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.standalone.servers.environment import service_environ
from tests.support.commands import run
from tests.support.mailboxes import connected
from tests.support.topics import PARTITIONS, create_topics, kafka_settings

__all__ = ["run"]

NOW = datetime.now(UTC).replace(microsecond=0)
RECEIVED = NOW - timedelta(days=20)
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e[/b][/x][red]:smile:"
IDS = [f"=cmd|' /C calc'!A0{ESCAPES}", f"@{ESCAPES}", "shop[/b]", f"-1+{ESCAPES}\n200 published"]


def assert_harmless(done: Result) -> None:
    """No traceback, and nothing in the output that a terminal interprets."""
    assert done.exception is None or isinstance(done.exception, SystemExit), (done.exception, done.output)
    printed = done.stdout + done.stderr
    assert not {char for char in printed if (ord(char) < 32 and char not in "\r\n") or 127 <= ord(char) < 160}, printed
    assert not any(line.startswith("200 published") for line in printed.splitlines()), printed
    assert "\u202e" not in printed and "\N{SMILING FACE WITH OPEN MOUTH}" not in printed


@pytest.fixture
def hostile(dsn: str) -> Iterator[psycopg.Connection]:
    """A company for each id; its account, mailbox, inquiry and buyer have that id too."""
    with connect(dsn, "tests") as connection:
        registry = Registry(connection, Hasher(bytes(32)), Vault(bytes(32)))
        for number, hostile_id in enumerate(IDS):
            values = {"id": hostile_id, "at": RECEIVED}
            connection.execute("INSERT INTO registry.companies VALUES (%(id)s)", values)
            connection.execute("INSERT INTO registry.accounts (company_id, account_id) VALUES (%(id)s, 'main')", values)
            connected(registry, hostile_id, address=f"seller{number}@mail.test")
            connection.execute(
                "INSERT INTO ledger.inquiries (company_id, inquiry_id, account_id, received_at, facts_id, buyer_id)"
                " VALUES (%(id)s, %(id)s, %(id)s, %(at)s, 'f', %(id)s)", values,
            )  # fmt: skip
            connection.execute(
                "INSERT INTO ledger.replies (company_id, inquiry_id, reply_id, source, account_id, mailbox_id, replied_at,"
                " evidence, kind, kind_reason, matched_by) VALUES (%(id)s, %(id)s, 'r', 'mail', %(id)s, %(id)s, %(at)s,"
                " 'verified', 'human', '', 'in-reply-to')", values,
            )  # fmt: skip
            connection.execute("INSERT INTO ledger.companies (company_id) VALUES (%(id)s)", values)
        refresher = Refresher(connection, [rules.load_builtin("default"), rules.load_builtin("first-reply-24h")])
        refresher.activate()
        while refresher.refresh():
            pass
        yield connection


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("hostile_id", IDS, ids=["formula", "at", "markup", "minus"])
def test_ids_from_outside_are_printed_as_visible_escapes_by_every_command(run: Any, hostile_id: str) -> None:
    for options in ((), ("--json",)):
        for command in (
            ("rate",), ("rate", hostile_id), ("explain", hostile_id, hostile_id), ("explain", hostile_id, "nothing"),
            ("explain", hostile_id, "--message", f"{hostile_id}@mail.example"), ("doctor", hostile_id),
            ("doctor", hostile_id, hostile_id), ("mailbox", "list"), ("mailbox", "show", hostile_id, "m1"),
            ("mailbox", "history", hostile_id, "m1"), ("mailbox", "show", hostile_id, hostile_id),
            ("privacy", "show", "m1", "--company", hostile_id), ("privacy", "show", "m1"), ("privacy", "show", hostile_id),
            ("erase", hostile_id, "--dry-run"), ("keys", "check"), ("rules", "diff", "default", "first-reply-24h"),
            ("rules", "list"), ("rules", "show", hostile_id), ("provider", "lookup", hostile_id, "--offline"),
            ("recompute", "--rules", hostile_id),
        ):  # fmt: skip
            assert_harmless(invoke(run, *command, *options))
    for command in (
        ("company", "add", hostile_id), ("account", "add", hostile_id, hostile_id),
        ("account", "platform-sync", hostile_id, hostile_id, "--on"), ("mailbox", "pause", hostile_id, "m1"),
        ("mailbox", "resume", hostile_id, "m1"), ("mailbox", "rescan", hostile_id, hostile_id),
        ("mailbox", "rescan", hostile_id, "m1"), ("mailbox", "remove", hostile_id, "m1"),
        ("account", "change-address", hostile_id, hostile_id, hostile_id), ("rules", "deactivate", hostile_id),
    ):  # fmt: skip
        assert_harmless(invoke(run, *command))


def invoke(run: Any, *arguments: str) -> Result:
    """Run a command whatever its exit code."""
    for code in (0, 1, 2, 78):
        try:
            return run(*arguments, code=code)  # type: ignore[no-any-return]
        except AssertionError as error:
            failed = error
    raise failed


@pytest.mark.usefixtures("hostile")
def test_no_cell_of_the_csv_is_a_formula(run: Any) -> None:
    printed = run("rate", "--csv").stdout
    rate_rows = list(csv.DictReader(io.StringIO(printed, newline="")))
    companies = {cells["company_id"] for cells in rate_rows}
    assert len(companies) == len(IDS) and "shop[/b]" in companies
    assert all(
        not value.startswith(("=", "+", "-", "@", "\t", "\r")) for cells in rate_rows for value in cells.values()
    )
    assert "\x1b" not in printed


@pytest.fixture
def broker(topics_gone: str) -> KafkaSettings:
    settings = kafka_settings(topics_gone)
    create_topics(settings)
    return settings


def test_dead_letters_with_hostile_keys_headers_and_fields_are_listed(
    broker: KafkaSettings, dsn: str, tmp_path: Path
) -> None:
    for key in ("hash.key", "vault.key"):
        (tmp_path / key).write_bytes(bytes(32))
    environ = service_environ(tmp_path, kafka=broker.bootstrap_servers, partitions=PARTITIONS, dsn=dsn)
    letter = DeadLetter(
        reason="schema", detail="data.[/x]: [red]wrong :smile:\u202e", service="matcher[/b]", service_version="0", at=NOW,
        mailbox_id="m\u202e[/b]", uidvalidity=1, uid=5,
    )  # fmt: skip
    value = codec.encode(letter, id="x", source="tests", time=NOW)
    with Publisher(broker, "tests") as publisher:
        sent = [
            publisher.send(DEAD, ESCAPES.encode() + b"\xff\n", value, headers=[(REPLAYED, header)])
            for header in (b"\xff\xfe", b"", b"-1", b"\x1b[2J", b"9" * 5000)
        ]
        sent += [publisher.send(DEAD, key, body) for key, body in ((b"[/x]", ESCAPES.encode()), (b"\xff", b"\xff"))]
        assert publisher.wait(sent) == []
    commands = [
        ("list",),
        ("list", "--all"),
        ("show", "0/0"),
        ("replay",),
        ("replay", "--yes"),
        ("purge",),
        ("list", "--all"),
    ]
    for partition in range(PARTITIONS):
        commands.append(("show", f"{partition}/0"))
    for command in commands:
        for options in ((), ("--json",)):
            done = CliRunner().invoke(main, ["dlq", *command, *options], env={**environ, "COLUMNS": "250"})
            assert_harmless(done)
    listed = CliRunner().invoke(main, ["dlq", "list", "--all", "--json"], env=environ)
    assert len(json.loads(listed.stdout)) == 7


def test_dead_letters_that_cannot_be_sent_back_are_refused_one_by_one(
    broker: KafkaSettings, dsn: str, tmp_path: Path
) -> None:
    for key in ("hash.key", "vault.key"):
        (tmp_path / key).write_bytes(bytes(32))
    environ = service_environ(tmp_path, kafka=broker.bootstrap_servers, partitions=PARTITIONS, dsn=dsn)
    places: list[dict[str, Any]] = [
        {"topic": SENT, "partition": 0, "offset": 0, "value": "é"},
        {"topic": SENT, "partition": 0, "offset": 0, "value": "not base64"},
        {"topic": REPLIES, "partition": 99_999, "offset": 0, "value": "e30="},
        {"topic": REPLIES, "partition": 2**62, "offset": 2**62},
        {"topic": SENT, "partition": 0, "offset": 2**63},
        {"topic": "[/x]", "partition": 0, "offset": 0},
        {"mailbox_id": "m[/b]", "uidvalidity": 2**63, "uid": 1},
    ]
    with Publisher(broker, "tests") as publisher:
        sent = []
        for place in places:
            letter = DeadLetter(reason="schema", detail="", service="matcher", service_version="0", at=NOW, **place)
            sent.append(publisher.send(DEAD, b"a\0\x1b[2J\xff", codec.encode(letter, id="x", source="tests", time=NOW)))
        assert publisher.wait(sent) == []
    done = CliRunner().invoke(main, ["dlq", "replay", "--yes", "--json"], env=environ)
    assert_harmless(done)
    results = json.loads(done.stdout)["letters"]
    assert done.exit_code == 1 and len(results) == len(places)
    assert all(result["outcome"] in ("refused", "gone") and result["why"] for result in results)


@pytest.mark.parametrize("command", [("rate",), ("mailbox", "list"), ("erase", "--dry-run"), ("company", "add")])
def test_an_argument_that_is_not_utf8_is_an_error_without_a_traceback(run: Any, command: tuple[str, ...]) -> None:
    done = run(*command, "shop\udcff", code=1)
    assert_harmless(done)
    assert "not UTF-8" in done.stderr
