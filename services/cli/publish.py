"""`publish FILE`: inquiry facts from CSV or NDJSON into inquiries.v1, validated first, every problem with its line."""

import csv
import hashlib
import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from services.cli.context import as_json, errors, guarded, print_json, settings
from services.common import codec
from services.common.errors import EXIT_FAILED, InvalidEvent
from services.common.events import COMPANY_ERASED, INQUIRY_RECEIVED, REPLY_RECORDED, STATUS_CHANGED
from services.common.kafka import Publisher
from services.common.topics import INQUIRIES

ACCEPT = frozenset({INQUIRY_RECEIVED, STATUS_CHANGED, REPLY_RECORDED, COMPANY_ERASED})
LISTS = ("message_ids", "reply_addresses")
BUYER = {
    "buyer_id": "id",
    "buyer_addresses": "addresses",
    "buyer_region": "region",
    "buyer_sent_from_region": "sent_from_region",
}
TYPES = {"inquiry": INQUIRY_RECEIVED, "status": STATUS_CHANGED, "reply": REPLY_RECORDED, "erase": COMPANY_ERASED}


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--skip-invalid", is_flag=True, help="Publish the valid lines although others are wrong.")
@as_json
@guarded
def publish(file: str, skip_invalid: bool, json_: bool) -> None:
    """Publish inquiry facts from FILE (CSV with a header line, or NDJSON; `-` reads standard input).

    NDJSON: one CloudEvent per line, or only its `data` with a field `type` (inquiry, status, reply, erase).
    CSV: columns are the fields of `data`, `buyer_id`, `buyer_addresses`, …; several values are separated by blanks;
    a column `type` as above, inquiry when there is none. Nothing is published while a line is wrong.
    """
    text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8-sig")
    valid: list[tuple[bytes, bytes]] = []
    problems: list[dict[str, Any]] = []
    for number, entry in lines(text, csv_form=file.lower().endswith(".csv")):
        try:
            valid.append(record(entry))
        except InvalidEvent as error:
            problems.append({"line": number, "reason": error.reason, "detail": error.detail})
    for problem in problems:
        errors.print(f"line {problem['line']}: {problem['detail']} ({problem['reason']})", style="red", markup=False)
    published = 0
    if valid and (skip_invalid or not problems):
        with Publisher(settings().kafka, "replyrate-cli") as publisher:
            sent = [publisher.send(INQUIRIES, key, value) for key, value in valid]
            published = len(sent) - len(publisher.wait(sent))
    if json_:
        print_json({"published": published, "invalid": problems})
    else:
        errors.print(f"{published} published, {len(problems)} invalid")
        if problems and not skip_invalid:
            errors.print("nothing was published; mend the lines, or publish the others with --skip-invalid")
    if problems or published < len(valid):
        sys.exit(EXIT_FAILED)


def lines(text: str, *, csv_form: bool) -> list[tuple[int, dict[str, Any] | str]]:
    """(line number, entry): a dict, or the text of a line that is no JSON."""
    if csv_form:
        reader = csv.DictReader(io.StringIO(text))
        return [(reader.line_num, {name: value for name, value in row.items() if value}) for row in reader]
    found: list[tuple[int, dict[str, Any] | str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                entry = json.loads(line)
            except ValueError:
                entry = line
            found.append((number, entry if isinstance(entry, dict) else line))
    return found


def record(entry: dict[str, Any] | str) -> tuple[bytes, bytes]:
    """Key and value of one entry. InvalidEvent when it breaks the contract."""
    if isinstance(entry, str):
        raise InvalidEvent("not-json", "the line is no JSON object")
    if "specversion" in entry:
        value = json.dumps(entry, ensure_ascii=False).encode()
    else:
        kind = str(entry.pop("type", "inquiry"))
        if kind not in TYPES:
            raise InvalidEvent("schema", f"type: expected one of {', '.join(TYPES)}")
        data = nested(entry)
        text = json.dumps(data, ensure_ascii=False, sort_keys=True)
        envelope = {
            "specversion": "1.0",
            # The same line gives the same id, so publishing a file twice is one fact.
            "id": hashlib.sha256(text.encode()).hexdigest()[:32],
            "source": "replyrate/publish",
            "type": TYPES[kind],
            "time": codec.instant_text(datetime.now(UTC)),
            "datacontenttype": "application/json",
            "data": data,
        }
        value = json.dumps(envelope, ensure_ascii=False).encode()
    event = codec.decode(value, accept=ACCEPT).data
    return event.company_id.encode(), value  # type: ignore[union-attr]


def nested(entry: dict[str, Any]) -> dict[str, Any]:
    """A flat line as `data`: lists split, buyer_… moved into `buyer`."""
    data: dict[str, Any] = {}
    for name, value in entry.items():
        if name in LISTS and isinstance(value, str):
            data[name] = value.split()
        elif name in BUYER:
            inner = value.split() if name == "buyer_addresses" and isinstance(value, str) else value
            data.setdefault("buyer", {})[BUYER[name]] = inner
        elif name == "automatic" and isinstance(value, str):
            data[name] = value.lower() in ("1", "true", "yes")
        else:
            data[name] = value
    return data
