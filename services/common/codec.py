"""Records as bytes: CloudEvents 1.0, structured JSON, validated in both directions against the types of events.py.

The rules of the JSON Schemas in schemas/events/ are expressed by msgspec types: every struct has a wire type in which
instants are text of the one allowed form and everything with a default may be null. A record is decoded into its wire type
(one pass, all rules), then turned into the event. Rules that a schema cannot express are in `_check_across_fields`.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from services.common.errors import AheadOfClock, InvalidEvent
from services.common.events import TYPES, Event, Id, StatusChanged

INSTANT: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z(?![\s\S])"
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
LEAD: Final = timedelta(days=1)
"""How far an instant of the data may be after the envelope's own time."""
_LATEST: Final = datetime.max.replace(tzinfo=UTC) - LEAD

_Reader = Callable[[Any, datetime], Any]
"""Turns a wire value, given the latest allowed instant, into the value of the event."""
_TUPLE: Any = tuple  # subscripted with types that are only known at run time
_Instant = Annotated[str, Meta(pattern=INSTANT)]
_Source = Annotated[str, Meta(min_length=1, max_length=512)]


class UnreadableBatch(bytes):
    """The empty value of a record in the place of a batch that was not unpacked (kafka/unpacking.py). Decoding it is an
    InvalidEvent."""

    def __new__(cls, reason: str, detail: str) -> "UnreadableBatch":
        batch = super().__new__(cls)
        batch.reason = reason
        batch.detail = detail
        return batch

    reason: str
    detail: str


class Envelope(msgspec.Struct, frozen=True):
    """A decoded record: CloudEvents attributes and the event."""

    id: str
    source: str
    type: str
    time: datetime
    data: Event
    as_sent: msgspec.Struct
    """The data before instants were parsed and defaults filled in; input of `facts_text`."""


class _Head(msgspec.Struct):
    specversion: Literal["1.0"]
    id: Id
    source: _Source
    type: str
    time: _Instant
    data: msgspec.Raw
    datacontenttype: Literal["application/json"] | None = None


def encode(event: Event, *, id: str, source: str, time: datetime) -> bytes:
    """The record for `event`, whose instants are aware and in UTC; the same arguments give the same bytes."""
    return _ENCODER.encode(
        {
            "specversion": "1.0",
            "id": id,
            "source": source,
            "type": _NAMES[type(event)],
            "time": instant_text(time),
            "datacontenttype": "application/json",
            "data": event,
        }
    )


def decode(raw: bytes, *, accept: frozenset[str], latest: datetime | None = None) -> Envelope:
    """The event in `raw`, of one of the types in `accept`.

    `latest`: the latest `time` that a record may state, from the reader's clock (None: any, for a reader without a clock).

    InvalidEvent with reason `not-json`, `schema` or `limit`; its detail names the field and the rule, never a value.
    """
    if isinstance(raw, UnreadableBatch):
        raise InvalidEvent(raw.reason, raw.detail)
    try:
        raw.decode()  # msgspec skips unknown fields without checking their bytes
        head = _head(raw)
    except msgspec.ValidationError as error:
        raise _invalid(error, "") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidEvent("not-json", "the record is not a JSON document in UTF-8") from None
    if head.type not in accept:
        raise InvalidEvent("schema", f"type: expected one of {', '.join(sorted(accept))}")
    form = _FORMS[head.type]
    time = _instant(head.time, "time")
    if latest is not None and time > latest:
        raise AheadOfClock("limit", "time: too far after the clock of the service that reads the record")
    try:
        wire = form.decode(head.data)
    except msgspec.ValidationError as error:
        raise _invalid(error, "data") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidEvent("not-json", "data: not a JSON document in UTF-8") from None
    event = form.build(wire, min(time, _LATEST) + LEAD)
    _check_across_fields(event)
    return Envelope(head.id, head.source, head.type, time, event, wire)


def canonical(event: msgspec.Struct | Mapping[str, Any]) -> bytes:
    """RFC 8785 form of an event (or of the data as sent): non-null fields, lists sorted and without repeats."""
    return _canonical(msgspec.to_builtins(event) if isinstance(event, msgspec.Struct) else event)


def facts_text(envelope: Envelope) -> str:
    """Canonical text of the known fields of a record's data, as sent; `facts_id` is its hash.

    "As sent": an instant keeps its text, and an absent field stays absent even if it has a default.
    """
    return canonical(envelope.as_sent).decode()


def instant_text(at: datetime) -> str:
    """`2026-01-31T08:00:00Z`, with microseconds when there are any."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


_ENCODER = msgspec.json.Encoder()
_SORTED = msgspec.json.Encoder(order="sorted")
_HEAD = msgspec.json.Decoder(_Head)
_ANY = msgspec.json.Decoder()
_NAMES: dict[type, str] = {cls: name for name, cls in TYPES.items()}


def _canonical(value: object) -> bytes:
    # For objects, lists, text, booleans and integers up to 2^53 sorted msgspec output is RFC 8785; a test compares.
    return _SORTED.encode(_reduced(value))


def _reduced(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        # Most parts are text: checking the type here saves a call for each.
        return {name: part if type(part) is str else _reduced(part) for name, part in value.items() if part is not None}
    if kind is not list and kind is not tuple:
        return value
    parts = [part if type(part) is str else _reduced(part) for part in value if part is not None]
    if len(parts) < 2:
        return parts
    if all(type(part) is str for part in parts):
        return sorted(set(parts))
    unique = {_SORTED.encode(part): part for part in parts}
    return [unique[key] for key in sorted(unique)]


def _head(raw: bytes) -> _Head:
    try:
        return _HEAD.decode(raw)
    except msgspec.ValidationError:
        _ANY.decode(
            raw
        )  # msgspec reports the first problem it meets; a record that is not JSON at all is reported as that
        raise


def _check_across_fields(event: Event) -> None:
    if isinstance(event, StatusChanged) and event.status == "reassigned" and event.account_id is None:
        raise InvalidEvent("schema", "data.account_id: required when status is reassigned")


def _invalid(error: msgspec.ValidationError, where: str) -> InvalidEvent:
    """msgspec's sentence with our path; it names types, lengths and patterns, and the value of an unknown enum."""
    text, _, path = str(error).partition(" - at `")
    field = (where + path.removesuffix("`").removeprefix("$")).lstrip(".") or where or "record"
    if text.startswith("Invalid enum value"):
        text = "not one of the allowed values"
    elif "matching regex" in text:
        text = "does not have the allowed form"
    limit = "of length <=" in text or " <= " in text
    return InvalidEvent("limit" if limit else "schema", f"{field}: {text[:1].lower()}{text[1:]}")


def _instant(text: str, field: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidEvent("schema", f"{field}: no such day or time") from None
    if at < EARLIEST:
        raise InvalidEvent("limit", f"{field}: an instant before 2000-01-01")
    return at


class _Form:
    """How one struct is read: its wire type, and how each field gets from there to the event."""

    def __init__(self, cls: type[msgspec.Struct], path: str) -> None:
        self._cls = cls
        self._readers: list[tuple[str, _Reader]] = []
        self._filled_in: list[str] = []
        wire_fields: list[Any] = []
        for field in msgspec.structs.fields(cls):
            kind, reader = _wire(field.type, f"{path}.{field.name}")
            if reader is not None:
                self._readers.append((field.name, reader))
            if not field.required and field.default is not None:
                self._filled_in.append(field.name)
            # For a field that may be absent, null means absent.
            wire_fields.append((field.name, kind) if field.required else (field.name, kind | None, None))
        self.wire_type = msgspec.defstruct(f"{cls.__name__}Wire", wire_fields, kw_only=True, gc=False)
        self.decode = msgspec.json.Decoder(self.wire_type).decode

    def build(self, wire: Any, latest: datetime) -> Any:
        values = msgspec.structs.asdict(wire)
        for name, reader in self._readers:
            value = values[name]
            if value is not None:
                values[name] = reader(value, latest)
        for name in self._filled_in:
            if values[name] is None:
                del values[name]
        return self._cls(**values)


def _wire(kind: Any, path: str) -> tuple[Any, _Reader | None]:
    """The wire type of `kind`, and how its values become those of `kind` (None: they are the same)."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is datetime:
        return _Instant, _instant_reader(path)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        form = _Form(kind, path)
        return form.wire_type, form.build
    if origin in (UnionType, Union):
        inner, reader = _wire(next(part for part in parts if part is not NoneType), path)
        return inner | None, reader
    if origin is Annotated:
        inner, reader = _wire(parts[0], path)
        return Annotated[(inner, *parts[1:])], reader
    if origin is tuple:
        inner, reader = _wire(parts[0], f"{path}[...]")
        return _TUPLE[inner, ...], None if reader is None else _each(reader)
    return kind, None


def _each(reader: _Reader) -> _Reader:
    def read(values: Any, latest: datetime) -> Any:
        return tuple([reader(value, latest) for value in values])

    return read


def _instant_reader(path: str) -> _Reader:
    def read(text: str, latest: datetime) -> datetime:
        at = _instant(text, path)
        if at > latest:
            raise InvalidEvent("limit", f"{path}: more than a day after the record's own time")
        return at

    return read


_FORMS: dict[str, _Form] = {name: _Form(cls, "data") for name, cls in TYPES.items()}
