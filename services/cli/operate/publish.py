"""`publish FILE`: validate inquiry facts from CSV or NDJSON and publish them to inquiries.v1."""

import hashlib
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from services.cli.context import as_json, guarded, load_config
from services.cli.operate.publish_lines import COLUMNS, Entry, InvalidLine, as_bytes, check_header, lines, read
from services.cli.operate.unmatchable import unmatchable
from services.cli.output import errors, print_json
from services.common import codec
from services.common.errors import EXIT_FAILED, InvalidEvent
from services.common.events import (
    COMPANY_ERASED,
    INQUIRY_RECEIVED,
    PLATFORM_TYPES,
    REPLY_RECORDED,
    STATUS_CHANGED,
    InquiryReceived,
    ReplyRecorded,
    StatusChanged,
)
from services.common.kafka import Publisher
from services.common.topics import INQUIRIES

INSTANTS = ("received_at", "at", "replied_at")
LISTS = ("message_ids", "reply_addresses")
BUYER = {
    "buyer_id": "id",
    "buyer_addresses": "addresses",
    "buyer_region": "region",
    "buyer_sent_from_region": "sent_from_region",
}
TYPES = {"inquiry": INQUIRY_RECEIVED, "status": STATUS_CHANGED, "reply": REPLY_RECORDED, "erase": COMPANY_ERASED}
_FIELD = re.compile(r"^data(?:\.([a-z_.]+))?[^:]*: (.*)$", re.DOTALL)
_MISSING = re.compile(r"missing required field `([a-z_]+)`")


YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--skip-invalid", is_flag=True, help="Publish the valid lines even if other lines are invalid.")
@as_json
@guarded
def publish(file: str, skip_invalid: bool, json_: bool) -> None:
    """Publish inquiry facts from a CSV or NDJSON file.

    FILE is CSV with a header line if its name ends in .csv, otherwise NDJSON; `-` is standard input.

    NDJSON: one CloudEvent per line, or only its `data` with a field `type` (inquiry, status, reply, erase).

    CSV: the columns are the fields of `data`, `buyer_id`, `buyer_addresses`, …; several values in a cell are separated by
    spaces; a column `type` as above, inquiry if it is missing. Nothing is published if any line is invalid. A line is also
    invalid if it has an address or a Message-ID that can never match. Lines end with LF or CRLF.
    """
    config = load_config()
    text = read(file)
    earliest = datetime.now(UTC) - timedelta(days=config.horizon_days)
    is_csv = file.lower().endswith(".csv")
    check_header(text, csv_form=is_csv)
    valid: list[tuple[bytes, bytes]] = []
    problems: list[dict[str, Any]] = []
    for number, entry in lines(text, csv_form=is_csv):
        try:
            valid.append(record(entry, earliest))
        except InvalidEvent as error:
            problems.append(_problem(number, entry, error))
    for problem in problems:
        _print_problem(problem)
    published = 0
    if valid and (skip_invalid or not problems):
        with Publisher(config.kafka, "replyrate-cli") as publisher:
            sent = [publisher.send(INQUIRIES, key, value) for key, value in valid]
            published = len(sent) - len(publisher.wait(sent))
    if json_:
        print_json({"published": published, "invalid": problems})
    else:
        errors.print(f"{published} published, {len(problems)} invalid.")
        if problems and not skip_invalid:
            errors.print("Nothing was published. Fix the lines, or pass --skip-invalid to publish the valid ones.")
    if problems or published < len(valid):
        sys.exit(EXIT_FAILED)


def _problem(number: int, entry: Entry, error: InvalidEvent) -> dict[str, Any]:
    """An invalid line as --json prints it: line, column, reason, detail, and the `cure`: what to write instead."""
    column, detail = column_of(error.detail) if is_flat(entry) else (None, error.detail)
    cure = re.sub(r"^[a-z ]+: ", "", COLUMNS[column]) if column in COLUMNS else None
    if isinstance(error, InvalidLine):
        cure = error.cure
    return {"line": number, "column": column, "reason": error.reason, "detail": detail, "cure": cure}


def _print_problem(problem: dict[str, Any]) -> None:
    column = f", column {problem['column']}" if problem["column"] else ""
    cure = f"; write {problem['cure']}" if problem["cure"] else ""
    errors.print(
        f"line {problem['line']}{column}: {problem['detail']} ({problem['reason']}){cure}", style="red", markup=False,
        soft_wrap=True,
    )  # fmt: skip


def is_flat(entry: Entry) -> bool:
    """Whether an entry has columns rather than the fields of an event."""
    return isinstance(entry, dict) and not {"specversion", "buyer", "data"} & entry.keys()


def column_of(detail: str) -> tuple[str | None, str]:
    """The column that a validation message is about, and what is wrong with it."""
    match = _FIELD.match(detail)
    if match is None:
        column = detail.partition(":")[0]
        return (column, detail.partition(": ")[2]) if column in COLUMNS else (None, detail)
    path, problem = (match[1] or "").split("."), match[2]
    if missing := _MISSING.search(problem):
        path, problem = [*path, missing[1]], "is missing"
    names = [part for part in path if part]
    if names[:1] == ["buyer"]:
        inner = names[1] if len(names) > 1 else "id"
        return next((column for column, field in BUYER.items() if field == inner), "buyer_id"), problem
    return (names[0] if names and names[0] in COLUMNS else None), problem


def record(entry: Entry, earliest: datetime | None = None) -> tuple[bytes, bytes]:
    """Key and value of an entry.

    Raises InvalidEvent when it breaks the contract, is before `earliest` (the horizon), or contains an address or a
    Message-ID that can never match.
    """
    if isinstance(entry, InvalidLine):
        raise entry
    value = as_bytes(entry if "specversion" in entry else _envelope(entry))
    event = codec.decode(value, accept=PLATFORM_TYPES).data
    field = {InquiryReceived: "received_at", StatusChanged: "at", ReplyRecorded: "replied_at"}.get(type(event))
    if earliest is not None and field is not None and getattr(event, field) < earliest:
        raise InvalidEvent(
            "late",
            f"data.{field}: before {earliest:%Y-%m-%d}, further back than facts are kept (REPLYRATE_HORIZON_DAYS)",
        )
    if isinstance(event, InquiryReceived) and (fault := unmatchable(event)) is not None:
        raise InvalidLine("schema", *fault)
    return event.company_id.encode(), value  # type: ignore[union-attr]


def _envelope(entry: dict[str, Any]) -> dict[str, Any]:
    """The CloudEvent of an entry that has only the data and a type."""
    kind = str(entry.pop("type", "inquiry"))
    if kind not in TYPES:
        raise InvalidEvent("schema", f"type: expected one of {', '.join(TYPES)}")
    data = nested(entry)
    as_bytes(data)
    text = json.dumps(data, ensure_ascii=False, sort_keys=True)
    return {
        "specversion": "1.0",
        # The same line gives the same id, so publishing a file twice is one fact.
        "id": hashlib.sha256(text.encode()).hexdigest()[:32],
        "source": "replyrate/publish",
        "type": TYPES[kind],
        "time": codec.instant_text(datetime.now(UTC)),
        "datacontenttype": "application/json",
        "data": data,
    }


def nested(entry: dict[str, Any]) -> dict[str, Any]:
    """A flat entry as `data`: lists split, buyer_… moved into `buyer`."""
    data: dict[str, Any] = {}
    for name, value in entry.items():
        if name in LISTS and isinstance(value, str):
            data[name] = value.split()
        elif name in BUYER:
            inner = value.split() if name == "buyer_addresses" and isinstance(value, str) else value
            buyer = data.setdefault("buyer", {})
            if not isinstance(buyer, dict):
                raise InvalidEvent("schema", "data.buyer: not an object; write its fields, or only the columns buyer_…")
            buyer[BUYER[name]] = inner
        elif name == "automatic" and isinstance(value, str):
            data[name] = YES_NO.get(value.strip().lower(), value)
        elif name in INSTANTS and isinstance(value, str):
            data[name] = in_utc(value)
        else:
            data[name] = value
    return data


def in_utc(text: str) -> str:
    """An instant with any offset in UTC, as the contract requires; other text unchanged, so that validation reports it."""
    try:
        at = datetime.fromisoformat(text)
        return text if at.tzinfo is None or text.endswith("Z") else codec.instant_text(at.astimezone(UTC))
    except (ValueError, OverflowError):  # OverflowError: before the year 1 or after 9999 in UTC
        return text
