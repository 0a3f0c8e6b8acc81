"""The contracts are installed as data, and the two examples do what they promise without our code."""

import ast
import json
import subprocess
import sys
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import pytest

from examples import check_events, publish_inquiry
from services.common import codec
from services.common.events import INQUIRY_RECEIVED

ROOT = Path(__file__).resolve().parents[2]
VALID = ROOT / "schemas/examples/valid"
INVALID = ROOT / "schemas/examples/invalid"


def line(file: Path) -> str:
    """An example as one line."""
    return json.dumps(json.loads(file.read_text()), ensure_ascii=False)


def test_the_schemas_are_package_data() -> None:
    folder = resources.files("schemas")
    assert folder.joinpath("asyncapi.yaml").is_file()
    assert folder.joinpath("events", "envelope.schema.json").is_file()


@pytest.mark.parametrize("name", ["check_events.py", "publish_inquiry.py"])
def test_an_example_imports_nothing_of_ours(name: str) -> None:
    tree = ast.parse((ROOT / "examples" / name).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {module for module in imported if module.partition(".")[0] in ("services", "schemas", "tests")}


def test_check_events_tells_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "records.ndjson"
    lines = [
        line(VALID / "inquiry-received/full.json"),
        "",
        line(INVALID / "inquiry-received/limit--nine-buyer-addresses.json"),
        line(VALID / "message-sent/human.json"),
        "{",
        line(INVALID / "inquiry-received/limit--received-at-more-than-a-day-after-the-envelope.json"),
        line(VALID / "inquiry-received/unknown-fields.json").replace("00-aa-bb-01", "x" * 70_000),
    ]
    file.write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/check_events.py"), str(file)],
        capture_output=True, text=True, cwd=tmp_path, check=False, env={},
    )  # fmt: skip
    assert done.returncode == 1
    said = done.stdout.splitlines()
    assert said[0] == "line 3: limit: data.buyer.addresses: more than 8 entries, as sent"
    assert said[1].startswith("line 4: schema: type: expected one of replyrate.inquiry-received.v1")
    assert said[2] == "line 5: not-json: the record is not a JSON document in UTF-8"
    assert said[3] == "line 6: limit: data.received_at: more than a day after the record's own time"
    assert said[4] == "line 7: limit: record: more than 65536 bytes"
    assert said[5] == "6 records, 5 invalid"
    assert "@" not in done.stdout


def test_check_events_is_content_with_valid_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "records.ndjson"
    file.write_text("\n".join(line(example) for example in sorted(VALID.glob("*/*.json"))))
    assert check_events.main([str(file), "--any-type"]) == 0
    assert "0 invalid" in capsys.readouterr().out
    assert check_events.main([str(tmp_path / "none")]) == 2


def test_the_published_inquiry_is_valid() -> None:
    now = datetime(2026, 3, 2, 1, 15, tzinfo=UTC)
    data = {
        "company_id": "c-1",
        "account_id": "a-1",
        "inquiry_id": "i-1",
        "received_at": publish_inquiry.instant(now),
        "buyer": {"id": "b-1", "addresses": ["buyer@example.com"]},
        "message_ids": [],
    }
    record = publish_inquiry.inquiry_received(data, time=now)
    assert codec.decode(record, accept=frozenset({INQUIRY_RECEIVED})).time == now
    assert publish_inquiry.TOPIC == "inquiries.v1"
