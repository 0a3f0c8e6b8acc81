"""`publish`: every invalid line is reported with its number, and nothing is published while there is one."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.cli.__main__ import main
from services.cli.operate.publish import lines, record
from services.common import codec
from services.common.events import TYPES, InquiryReceived, StatusChanged

GOOD = {"company_id": "c", "account_id": "a", "inquiry_id": "i", "received_at": "2026-11-01T00:00:00Z", "buyer_id": "b"}


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Valid settings; no server answers at these addresses."""
    (tmp_path / "hash.key").write_bytes(bytes(32))
    monkeypatch.setenv("REPLYRATE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("REPLYRATE_POSTGRES__DSN", "postgresql://unused")
    monkeypatch.setenv("REPLYRATE_HASH_KEY_FILE", str(tmp_path / "hash.key"))


def test_a_flat_line_becomes_an_event() -> None:
    key, value = record({**GOOD, "buyer_addresses": "x@y.z w@y.z", "message_ids": "<1@p> <2@p>"})
    event = codec.decode(value, accept=frozenset(TYPES)).data
    assert key == b"c" and isinstance(event, InquiryReceived)
    assert event.buyer.addresses == ("x@y.z", "w@y.z") and event.message_ids == ("<1@p>", "<2@p>")


def test_the_same_line_has_the_same_id() -> None:
    ids = {codec.decode(record(dict(GOOD))[1], accept=frozenset(TYPES)).id for _ in range(2)}
    assert len(ids) == 1


def test_a_csv_line_has_its_number_and_type() -> None:
    text = "type,company_id,inquiry_id,status,at\nstatus,c,i,spam,2026-11-01T00:00:00Z\n"
    ((number, entry),) = lines(text, csv_form=True)
    assert number == 2
    assert isinstance(codec.decode(record(entry)[1], accept=frozenset(TYPES)).data, StatusChanged)


@pytest.fixture
def invalid_file(tmp_path: Path) -> Path:
    file = tmp_path / "facts.ndjson"
    bad = {**GOOD, "received_at": "yesterday"}
    file.write_text(
        "\n".join([json.dumps(GOOD), "{", "", json.dumps(bad), json.dumps({**GOOD, "type": "gossip"})]), "utf-8"
    )
    return file


@pytest.mark.usefixtures("environ")
def test_all_invalid_lines_are_reported_and_nothing_is_published(invalid_file: Path) -> None:
    done = CliRunner().invoke(main, ["publish", str(invalid_file), "--json"], env={})
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert result["published"] == 0
    assert [problem["line"] for problem in result["invalid"]] == [2, 4, 5]
    assert "line 4, column received_at" in done.stderr and "yesterday" not in done.stderr


@pytest.mark.usefixtures("environ")
def test_invalid_csv_is_reported_with_line_column_and_fix(tmp_path: Path) -> None:
    file = tmp_path / "facts.csv"
    file.write_text(
        "company_id,account_id,inquiry_id,received_at,buyer_id,type\n"
        "c,a,i,2026-11-20 10:00,b,\nc,a,i,2026-11-20T10:00:00Z,,\nc,a,,2026-11-20T10:00:00Z,b,\nc,a,i,,,gossip\n",
        "utf-8",
    )
    done = CliRunner().invoke(main, ["publish", str(file), "--json"], env={})
    problems = json.loads(done.stdout)["invalid"]
    assert [(problem["line"], problem["column"]) for problem in problems] == [
        (2, "received_at"), (3, "buyer_id"), (4, "inquiry_id"), (5, "type"),
    ]  # fmt: skip
    assert "2026-11-20T10:00:00Z" in problems[0]["cure"] and problems[2]["detail"] == "is missing"
    file.write_text("company_id,colour\nc,red\n", "utf-8")
    done = CliRunner().invoke(main, ["publish", str(file)], env={})
    assert done.exit_code == 1 and "unknown column colour" in done.stderr


@pytest.mark.parametrize(
    "command", [["rate"], ["mailbox", "list"], ["migrate"], ["topics", "check"], ["config", "check"]]
)
def test_without_settings_every_command_names_them_and_exits_with_78(command: list[str]) -> None:
    done = CliRunner().invoke(main, command, env={})
    assert done.exit_code == 78
    assert "REPLYRATE_POSTGRES__DSN is not set" in done.stderr


@pytest.mark.parametrize(
    "command",
    [["rate", "--csv", "--json"], ["account", "add", "c", "a", "--since", "2026-01-01"], ["mailbox", "add"], ["nothing"], ["publish", "/nowhere"]],
)  # fmt: skip
def test_wrong_usage_exits_with_2(command: list[str]) -> None:
    assert CliRunner().invoke(main, command, env={}).exit_code == 2


def test_an_unreachable_database_exits_with_69() -> None:
    env = {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9", "REPLYRATE_HASH_KEY_FILE": "/x",
        "REPLYRATE_POSTGRES__DSN": "postgresql://u:secret-canary@127.0.0.1:9/x",
    }  # fmt: skip
    done = CliRunner().invoke(main, ["rate"], env=env)
    assert done.exit_code == 69
    assert "canary" not in done.stderr


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("comma.csv", b"company_id,account_id,inquiry_id\nc,a,i,too,many\n", "more cells than columns"),
        ("gbk.csv", "company_id,inquiry_id\n张,i\n".encode("gbk"), "line 2: not UTF-8"),
        ("twice.csv", b"company_id,inquiry_id,company_id\nc,i,d\n", "column company_id occurs twice"),
        ("zero.csv", b"company_id,inquiry_id\nc,i\0\x01\n", "line 2"),
        (
            "late.csv",
            b"company_id,account_id,inquiry_id,received_at,buyer_id\nc,a,i,2019-01-01T00:00:00Z,b\n",
            "line 2, column received_at: before",
        ),
        (
            "maybe.csv",
            b"type,company_id,account_id,inquiry_id,reply_id,replied_at,channel,automatic\n"
            b"reply,c,a,i,r,2026-11-20T00:00:00Z,chat,maybe\n",
            "line 2, column automatic",
        ),
    ],
)
def test_typical_mistakes_of_spreadsheets_are_reported_with_the_fix(
    name: str, content: bytes, expected: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    done = CliRunner().invoke(main, ["publish", str(file)])
    printed = " ".join(done.stderr.split())
    assert done.exit_code == 1 and expected in printed, printed
    assert "Nothing was published" in printed
