"""`publish`: every invalid line is reported with its number, and nothing is published while there is one."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

from services.cli.__main__ import main
from services.common import codec
from services.common.errors import InvalidEvent
from services.common.events import TYPES, InquiryReceived, StatusChanged
from services.inquiries.facts import checked
from services.inquiries.lines import lines
from services.inquiries.unmatchable import address_fault, message_id_fault

GOOD = {"company_id": "c", "account_id": "a", "inquiry_id": "i", "received_at": "2026-11-01T00:00:00Z", "buyer_id": "b"}
NOW = datetime.now(UTC)


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Valid settings; no server answers at these addresses."""
    (tmp_path / "hash.key").write_bytes(bytes(32))
    monkeypatch.setenv("REPLYRATE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("REPLYRATE_POSTGRES__DSN", "postgresql://unused")
    monkeypatch.setenv("REPLYRATE_HASH_KEY_FILE", str(tmp_path / "hash.key"))


def test_a_flat_line_becomes_an_event() -> None:
    fact = checked({**GOOD, "buyer_addresses": "x@y.z w@y.z", "message_ids": "<1@p> <2@p>"}, NOW)
    event = codec.decode(fact.value, accept=frozenset(TYPES)).data
    assert fact.company_id == "c" and isinstance(event, InquiryReceived)
    assert event.buyer.addresses == ("x@y.z", "w@y.z") and event.message_ids == ("<1@p>", "<2@p>")


def test_the_same_line_has_the_same_id() -> None:
    ids = {
        codec.decode(checked(dict(GOOD), at).value, accept=frozenset(TYPES)).id
        for at in (NOW, NOW + timedelta(hours=1))
    }
    assert len(ids) == 1


def test_a_csv_line_has_its_number_and_type() -> None:
    text = "type,company_id,inquiry_id,status,at\nstatus,c,i,spam,2026-11-01T00:00:00Z\n"
    ((number, entry),) = lines(text, csv_form=True)
    assert number == 2
    assert isinstance(codec.decode(checked(entry, NOW).value, accept=frozenset(TYPES)).data, StatusChanged)


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


def ndjson(**changes: object) -> bytes:
    return json.dumps({**GOOD, "received_at": RECENT, **changes}, ensure_ascii=False).encode()


RECENT = (datetime.now(UTC) - timedelta(days=1)).isoformat()
BROKEN_LINES = {
    "lone-surrogate": ndjson(note="hi").replace(b"hi", b"hi \\ud83d"),
    "lone-surrogate-in-a-name": ndjson(note="hi").replace(b'"note"', b'"n\\udfff"'),
    "lone-surrogate-in-an-event": b'{"specversion": "1.0", "id": "\\ud800"}',
    "surrogate-bytes": ndjson(note="hi").replace(b"hi", b"\xed\xa0\xbd"),
    "not-utf8": ndjson(note="hi").replace(b"hi", b"\xff\xfe"),
    "gbk": '{"company_id": "张"}'.encode("gbk"),
    "nul": ndjson(note="hi").replace(b"hi", b"\0"),
    "nul-alone": b"\0",
    "deep-list": b'{"note": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep-object": b'{"note":' * 100_000 + b"1" + b"}" * 100_000,
    "huge-integer": b'{"note": ' + b"9" * 10_000 + b"}",
    "huge-float": ndjson(note=0).replace(b'"note": 0', b'"note": 1e999'),
    "nan": b'{"note": NaN}',
    "infinity": b'{"note": -Infinity}',
    "list": b"[1]",
    "number": b"1",
    "text": b'"text"',
    "not-json": b"{",
    "form-feed": b"\x0c",
    "escape": b"\x1b[2J",
}


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize("broken", BROKEN_LINES.values(), ids=BROKEN_LINES)
@pytest.mark.parametrize("options", [(), ("--skip-invalid",)])
def test_a_broken_line_is_one_error_with_number_reason_and_cure(
    broken: bytes, options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = record_publications(monkeypatch)
    file = tmp_path / "facts.ndjson"
    file.write_bytes(b"\r\n".join([ndjson(inquiry_id="i1"), broken, b"", ndjson(inquiry_id="i2")]))
    done = CliRunner().invoke(main, ["publish", str(file), "--json", *options])
    assert isinstance(done.exception, SystemExit) and done.exit_code == 1, done.exception
    result = json.loads(done.stdout)
    (problem,) = result["invalid"]
    assert (problem["line"], problem["reason"]) == (2, "not-json") and problem["detail"] and problem["cure"]
    assert "line 2: " in done.stderr and "\x1b" not in done.stderr
    assert result["published"] == len(published) == (2 if options else 0)


class Recorder:
    """Takes the place of the publisher: every record is acknowledged."""

    published: ClassVar[list[bytes]] = []

    def __init__(self, *_: object) -> None:
        self.published.clear()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def send(self, topic: str, key: bytes, value: bytes) -> bytes:
        self.published.append(value)
        return value

    def wait(self, sent: object) -> list[int]:
        return []


def record_publications(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Record what is published instead of sending it."""
    monkeypatch.setattr("services.cli.operate.publish.Publisher", Recorder)
    Recorder.published.clear()
    return Recorder.published


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\xa0"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_line_ends_at_a_line_feed_only(
    separator: str, line_end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = record_publications(monkeypatch)
    file = tmp_path / "facts.ndjson"
    file.write_bytes(
        line_end.encode().join([ndjson(note=f"a{separator}b"), ndjson(note=separator, inquiry_id="i2"), b"{"])
    )
    done = CliRunner().invoke(main, ["publish", str(file), "--json", "--skip-invalid"])
    result = json.loads(done.stdout)
    assert (result["published"], len(published)) == (2, 2) and [problem["line"] for problem in result["invalid"]] == [3]


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_a_csv_line_ends_at_a_line_feed_only(separator: str) -> None:
    text = f"company_id,channel\nc,a{separator}b\r\n\nd,e\n"
    assert lines(text, csv_form=True) == [
        (2, {"company_id": "c", "channel": f"a{separator}b"}),
        (4, {"company_id": "d", "channel": "e"}),
    ]


def test_a_cell_of_several_lines_has_the_number_of_its_first_line() -> None:
    text = 'company_id,channel\n"c\nc",x\nd,y\n'
    assert [number for number, _ in lines(text, csv_form=True)] == [2, 4]


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("buyer_addresses", "a@x.example;b@y.example"),
        ("buyer_addresses", "a@x.example,b@y.example"),
        ("buyer_addresses", "a@x.example|b@y.example"),
        ("buyer_addresses", "a@x.example；b@y.example"),
        ("buyer_addresses", "a@x.example、b@y.example"),
        ("buyer_addresses", "a@x.example; b@y.example"),
        ("buyer_addresses", "ok@x.example a@x.example;"),
        ("buyer_addresses", "buyer7"),
        ("buyer_addresses", "@x.example"),
        ("buyer_addresses", "buyer7@"),
        ("buyer_addresses", "a@b@c.example"),
        ("buyer_addresses", f"{'a' * 320}@x.example"),
        ("buyer_addresses", "a\x07@x.example"),
        ("reply_addresses", "relay-1@x.example,relay-2@x.example"),
        ("reply_addresses", "https://x.example/reply"),
        ("message_ids", "<1@p.example>;<2@p.example>"),
        ("message_ids", "<1@p.example>,<2@p.example>"),
        ("message_ids", "<1@p.example><2@p.example>"),
        ("message_ids", "1@p.example;2@p.example"),
        ("message_ids", "1@p.example,"),
        ("message_ids", "<>"),
        ("message_ids", "0100018f5b6a0c3e-7a1b-000000"),
        ("message_ids", "<0100018f5b6a0c3e-7a1b-000000>"),
    ],
)
@pytest.mark.parametrize("form", ["csv", "ndjson", "event"])
def test_a_value_that_can_never_match_is_an_error_with_line_and_cure(
    form: str, column: str, cell: str, tmp_path: Path
) -> None:
    values = {
        "company_id": "c",
        "account_id": "a",
        "inquiry_id": "i",
        "received_at": RECENT,
        "buyer_id": "b",
        column: cell,
    }
    file = tmp_path / f"facts.{form}"
    if form == "csv":
        with file.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([values.keys(), values.values()])
    elif form == "ndjson":
        file.write_text(f"\n{json.dumps(values)}\n", "utf-8")
    else:
        field = column.removeprefix("buyer_")
        inner = {field: [cell]} if column.startswith("buyer_") else {}
        data = {name: values[name] for name in ("company_id", "account_id", "inquiry_id", "received_at")}
        data["type"] = "inquiry"
        file.write_text(
            "\n" + json.dumps({**data, "buyer": {"id": "b", **inner}, **({} if inner else {column: [cell]})})
        )
    done = CliRunner().invoke(main, ["publish", str(file), "--json"])
    (problem,) = json.loads(done.stdout)["invalid"]
    assert done.exit_code == 1 and (problem["line"], problem["reason"]) == (2, "schema")
    assert problem["column"] == (None if form == "event" else column)
    assert "never match" in problem["detail"] and problem["cure"] and cell not in done.output


@pytest.mark.parametrize(
    "address", ["A@X.example", "ann+tag@münchen.example", '"a;b"@x.example', "a@[192.0.2.1]", "<a@x.example>", "o'neill@x.example",
        "a/b@x.example", "用户@例子.example"]
)  # fmt: skip
def test_an_address_that_can_match_is_accepted(address: str) -> None:
    assert address_fault(address) is None


@pytest.mark.parametrize(
    "message_id", ["<1@p.example>", "1@p.example", "<a;b@p.example>", "<a@b@p.example>", " <1@p.example> "]
)
def test_a_message_id_that_can_match_is_accepted(message_id: str) -> None:
    assert message_id_fault(message_id) is None


@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_an_instant_that_has_no_utc_form_is_an_error_of_its_column(instant: str) -> None:
    with pytest.raises(InvalidEvent):
        checked({**GOOD, "received_at": instant}, NOW)


def test_a_buyer_that_is_text_beside_buyer_columns_is_an_error() -> None:
    with pytest.raises(InvalidEvent, match="buyer"):
        checked({"buyer": "ann", **GOOD}, NOW)


def test_a_name_beside_an_address_is_an_error_in_a_cell_and_not_in_a_list() -> None:
    flat = {**GOOD, "buyer_addresses": "Ann <ann@x.example>"}
    with pytest.raises(InvalidEvent, match="value 1 is not an e-mail address"):
        checked(dict(flat), NOW)
    checked({**GOOD, "buyer_addresses": ["Ann <ann@x.example>"]}, NOW)
