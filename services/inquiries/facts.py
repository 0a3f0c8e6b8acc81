"""Facts as platforms send them, checked as the matcher checks records, and more strictly: nothing that can never match.

An entry is a whole event (CloudEvents 1.0), or only its `data` with a `type`; the latter also flat, with the columns of a CSV file.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from services.common import codec
from services.common.errors import InvalidEvent
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
from services.common.language import Bilingual
from services.common.topics import INPUT_BYTES
from services.inquiries.lines import Entry, InvalidLine, as_bytes, invalid
from services.inquiries.sentences import columns, cure_of, sentence, validation
from services.inquiries.unmatchable import unmatchable

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
_PATH: Final = re.compile(r"^[a-z_]+(?:\.[a-z_]+|\[\.\.\.\])*(?=: )")
YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
RECORD_BYTES: Final = INPUT_BYTES - 1024
"""Of one record, key included; Kafka counts the headers of its batch, too."""


@dataclass(frozen=True, slots=True)
class CheckedFact:
    """A fact that may be published: key and value of its record."""

    company_id: str
    value: bytes


@dataclass(frozen=True, slots=True)
class FactProblem:
    """Why a fact cannot be published, in both languages. `number`: of its line or element; `field`: its column, or the path in
    the event."""

    number: int
    field: str | None
    reason: str
    detail: Bilingual
    cure: Bilingual
    is_column: bool
    """Whether the entry has columns, and `field` is one."""


def check(
    entries: Iterable[tuple[int, Entry]],
    now: datetime,
    horizon_days: int,
    *,
    company_prefix: str = "",
    accept: frozenset[str] = PLATFORM_TYPES,
) -> tuple[list[CheckedFact], list[FactProblem]]:
    """Check facts, (number, entry) each: those that may be published, and what is wrong with the others.

    Facts of companies whose id does not begin with `company_prefix`, and those of other types than `accept`, are refused.
    """
    earliest = now - timedelta(days=horizon_days)
    facts: list[CheckedFact] = []
    problems: list[FactProblem] = []
    for number, entry in entries:
        try:
            fact = checked(entry, now, earliest, accept)
            if not fact.company_id.startswith(company_prefix):
                raise InvalidLine(
                    "schema",
                    sentence("detail", "company-not-allowed"),
                    sentence("cure", "company-of-key"),
                    path="data.company_id",
                )
            facts.append(fact)
        except InvalidEvent as error:
            problems.append(problem_of(number, entry, error, accept))
    return facts, problems


def problem_of(number: int, entry: Entry, error: InvalidEvent, accept: frozenset[str]) -> FactProblem:
    """What is wrong with an entry, where, and what to write instead."""
    column, english = column_of(error.detail)
    cure = error.cure if isinstance(error, InvalidLine) else None
    cure = cure or cure_of(column, type_names(accept))
    if is_flat(entry):
        detail = error.sentence if isinstance(error, InvalidLine) else validation(english)
        return FactProblem(number, column, error.reason, detail, cure, is_column=True)
    path = _PATH.match(error.detail)
    where = path[0] if path else None
    detail = error.sentence if isinstance(error, InvalidLine) else validation(error.detail.removeprefix(f"{where}: "))
    if where is not None:
        detail = Bilingual(f"{where}: {detail.en}", f"{where}：{detail.zh}")
    return FactProblem(number, where, error.reason, detail, cure, is_column=False)


def type_names(accept: frozenset[str]) -> list[str]:
    """The short names of types of facts."""
    return [name for name, type_ in TYPES.items() if type_ in accept]


def is_flat(entry: Entry) -> bool:
    """Whether an entry has columns rather than the fields of an event."""
    return isinstance(entry, dict) and not {"specversion", "buyer", "data"} & entry.keys()


def column_of(detail: str) -> tuple[str | None, str]:
    """The column that a validation message is about, and what is wrong with it."""
    match = _FIELD.match(detail)
    if match is None:
        column = detail.partition(":")[0]
        return (column, detail.partition(": ")[2]) if column in columns() else (None, detail)
    path, problem = (match[1] or "").split("."), match[2]
    if missing := _MISSING.search(problem):
        path, problem = [*path, missing[1]], "is missing"
    names = [part for part in path if part]
    if names[:1] == ["buyer"]:
        inner = names[1] if len(names) > 1 else "id"
        return next((column for column, field in BUYER.items() if field == inner), "buyer_id"), problem
    return (names[0] if names and names[0] in columns() else None), problem


def checked(
    entry: Entry, now: datetime, earliest: datetime | None = None, accept: frozenset[str] = PLATFORM_TYPES
) -> CheckedFact:
    """The record of an entry.

    Raises InvalidEvent when it breaks the contract, is before `earliest` (the horizon), is too large for the topic, or contains an
    address or a Message-ID that can never match.
    """
    if isinstance(entry, InvalidLine):
        raise entry
    value = as_bytes(entry if "specversion" in entry else _envelope(entry, now, accept))
    event = codec.decode(value, accept=accept).data
    field = {InquiryReceived: "received_at", StatusChanged: "at", ReplyRecorded: "replied_at"}.get(type(event))
    if earliest is not None and field is not None and getattr(event, field) < earliest:
        detail = sentence("detail", "before-horizon", earliest=f"{earliest:%Y-%m-%d}")
        raise InvalidLine("late", detail, path=f"data.{field}")
    if isinstance(event, InquiryReceived) and (fault := unmatchable(event)) is not None:
        raise fault
    company_id: str = event.company_id  # type: ignore[union-attr]
    if len(company_id.encode()) + len(value) > RECORD_BYTES:
        raise invalid("limit", "too-large", "described-fields", most=RECORD_BYTES)
    return CheckedFact(company_id, value)


def _envelope(entry: dict[str, Any], now: datetime, accept: frozenset[str]) -> dict[str, Any]:
    """The CloudEvent of an entry that has only the data and a type."""
    kind = str(entry.pop("type", "inquiry"))
    names = type_names(accept)
    if kind not in names:
        raise InvalidLine("schema", sentence("detail", "type-unknown", types=", ".join(names)), path="type")
    data = nested(entry)
    as_bytes(data)
    text = json.dumps(data, ensure_ascii=False, sort_keys=True)
    return {
        "specversion": "1.0",
        # The same fact gives the same id, so publishing it twice is one fact.
        "id": hashlib.sha256(text.encode()).hexdigest()[:32],
        "source": "replyrate/publish",
        "type": TYPES[kind],
        "time": codec.instant_text(now),
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
                raise InvalidLine("schema", sentence("detail", "buyer-not-object"), path="data.buyer")
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
