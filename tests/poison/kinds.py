"""The kinds of records of the poison table, as data: what is unusual, and what becomes of it on each topic that we read.

Outcomes: `counts`; a reason of metrics.REASONS (one dead letter); `moved` (sent to the right partition, where it counts);
`nothing` (no consumer sees it, or it says nothing); `refused` (the broker does not take it).
"""

import base64
import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from services.common.codec import instant_text
from services.common.topics import INQUIRIES, REPLIES, SENT
from tests.poison.raw_records import INTACT, Damage, RawRecord
from tests.support.matching import NOW

TOPICS: Final = (INQUIRIES, SENT, REPLIES)
Document = dict[str, Any]
Change = Callable[[RawRecord], RawRecord]


@dataclass(frozen=True, slots=True)
class RecordKind:
    """One kind. Either each record is changed, or the batch around three good records is."""

    group: str
    name: str
    outcome: str | Mapping[str, str]
    """On every topic, or by topic."""
    change: Change = lambda record: record
    codec: str = "none"
    damage: Damage = INTACT
    is_batch: bool = False
    """Whether the batch is unusual, and not a record in it."""
    transaction: str = ""
    """How the transaction ends in which it is sent: `commit`, `abort`, or `open`: by the broker, when its time is over."""
    in_log: bool = field(default=False)
    """Whether no broker takes it: it is written into the log of a stopped one."""

    def on(self, topic: str) -> str:
        """What becomes of it on a topic."""
        return self.outcome if isinstance(self.outcome, str) else self.outcome[topic]


def by_topic(inquiries: str, sent: str, replies: str) -> dict[str, str]:
    """An outcome for each topic."""
    return dict(zip(TOPICS, (inquiries, sent, replies), strict=True))


def text(make: Callable[[bytes], bytes]) -> Change:
    """Change the value as bytes."""
    return lambda record: record.but(value=make(record.value or b""))


def edit(change: Callable[[Document], object]) -> Change:
    """Change the document in place."""

    def changed(record: RawRecord) -> RawRecord:
        document = json.loads(record.value or b"")
        change(document)
        return record.but(value=json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass"))

    return changed


def envelope(**attributes: Any) -> Change:
    """Set attributes of the envelope."""
    return edit(lambda document: document.update(attributes))


def data(**fields: Any) -> Change:
    """Set fields of the data."""
    return edit(lambda document: document["data"].update(fields))


def without(*path: str) -> Change:
    """Remove a field."""

    def change(document: Document) -> None:
        for name in path[:-1]:
            document = document[name]
        del document[path[-1]]

    return edit(change)


def fact_at(at: str, envelope_too: bool = False) -> Change:
    """Set the instant of the fact; `envelope_too`: and the envelope's."""

    def change(document: Document) -> None:
        name = "sent_at" if "sent_at" in document["data"] else "received_at"
        document["data"][name] = at
        if envelope_too:
            document["time"] = at

    return edit(change)


def inserted(where: str, raw: bytes) -> Change:
    """Write raw JSON members at the beginning of the envelope or of its data."""
    marker = b"{" if where == "envelope" else b'"data":{'

    def make(value: bytes) -> bytes:
        at = value.index(marker) + len(marker)
        return value[:at] + raw + b"," + value[at:]

    return text(make)


NESTED: Final = b'"more":' + b"[" * 8_000 + b"]" * 8_000
FAR: Final = instant_text(NOW + timedelta(days=30))
OLD: Final = instant_text(NOW - timedelta(days=200))

JSON_KINDS: Final = (
    ("an empty value", "not-json", text(lambda value: b"")),
    ("not JSON", "not-json", text(lambda value: b"\x00\x01\x02")),
    ("cut off in the middle", "not-json", text(lambda value: value[: len(value) // 2])),
    ("the last brace missing", "not-json", text(lambda value: value[:-1])),
    ("two documents in one record", "not-json", text(lambda value: value + b"\n" + value)),
    ("white space around the document", "counts", text(lambda value: b" \n" + value + b"\r\n" + b" " * 10_000)),
    ("byte order mark", "not-json", text(lambda value: b"\xef\xbb\xbf" + value)),
    ("UTF-16", "not-json", text(lambda value: value.decode().encode("utf-16"))),
    ("UTF-32", "not-json", text(lambda value: value.decode().encode("utf-32"))),
    ("Latin-1", "not-json", inserted("data", '"more":"ü"'.encode("latin-1"))),
    ("overlong UTF-8", "not-json", inserted("data", b'"more":"\xc0\xaf"')),
    ("a surrogate in UTF-8", "not-json", inserted("data", b'"more":"\xed\xa0\x80"')),
    ("half a surrogate pair in a known field", "not-json", inserted("data", b'"account_id":"\\ud800"')),
    ("a raw NUL in a text", "not-json", inserted("data", b'"more":"\x00"')),
    ("an escaped NUL in an id", "schema", data(account_id="a\x00")),
    ("an escaped NUL in an unknown field", "counts", data(more="a\x00")),
    ("duplicate keys in the envelope: the last one counts", "counts", inserted("envelope", b'"type":"other","id":"x"')),
    ("duplicate keys in the data: the last one counts", "counts", inserted("data", b'"company_id":"other"')),
    ("nested 8,000 deep in the envelope", "not-json", inserted("envelope", NESTED)),
    ("nested 8,000 deep in the data", "not-json", inserted("data", NESTED)),
    ("NaN", "not-json", inserted("data", b'"more":NaN')),
    ("Infinity", "not-json", inserted("data", b'"more":-Infinity')),
    ("an integer of 5,000 digits in an unknown field", "counts", inserted("data", b'"more":' + b"9" * 5000)),
    ("an integer of 5,000 digits in an id", "schema", text(lambda value: value.replace(b'"id":"', b'"id":' + b"9" * 5000 + b',"was":"', 1))),
    ("1e999 in an unknown field", "counts", inserted("data", b'"more":1e999')),
    ("a list", "schema", text(lambda value: b"[" + value + b"]")),
    ("a text that contains the document", "schema", text(lambda value: json.dumps(value.decode()).encode())),
    ("null", "schema", text(lambda value: b"null")),
    ("single quotes", "not-json", text(lambda value: value.replace(b'"', b"'"))),
    ("Confluent's framing: magic byte and schema id", "not-json", text(lambda value: b"\0\0\0\0\x07" + value)),
    ("gzip inside the value", "not-json", text(gzip.compress)),
    ("base64", "not-json", text(base64.b64encode)),
)  # fmt: skip

EVENT_KINDS: Final = (
    ("specversion 0.3", "schema", envelope(specversion="0.3")),
    ("an unknown type", "schema", envelope(type="somebody.else.v1")),
    ("a later version of the type", "schema", edit(lambda document: document.update(type=document["type"].replace(".v1", ".v2")))),
    ("a type of another topic", "schema", envelope(type="replyrate.dead-letter.v1")),
    ("without type", "schema", without("type")),
    ("without id", "schema", without("id")),
    ("an id of 129 characters", "limit", envelope(id="x" * 129)),
    ("an empty source", "schema", envelope(source="")),
    ("without time", "schema", without("time")),
    ("datacontenttype of XML", "schema", envelope(datacontenttype="application/xml")),
    ("without data", "schema", without("data")),
    ("data as a text", "schema", edit(lambda document: document.update(data=json.dumps(document["data"])))),
    ("unknown attributes and fields", "counts", edit(lambda document: (document.update(dataschema="x", trace={"a": [1]}), document["data"].update(more={"x": None})))),
    ("without company", "schema", without("data", "company_id")),
    ("an empty company", "schema", data(company_id="")),
    ("a company of 129 characters", "limit", data(company_id="c" * 129)),
    ("a company as a number", "schema", data(company_id=7)),
    ("a company with a line break", "schema", data(company_id="c\n1")),
    ("a company of another partition", by_topic("moved", "misrouted", "counts"), data(company_id="elsewhere")),
    ("an account with a terminal escape", "schema", data(account_id="\x1b[31m")),
    ("an account in another script and with direction marks", "counts", data(account_id="会社\u202e\u200b😀")),
)  # fmt: skip

INSTANT_KINDS: Final = (
    ("year 9999 for “no date”", "limit", fact_at("9999-12-31T23:59:59Z", envelope_too=True)),
    ("year 9999 in the data only", "limit", fact_at("9999-12-31T23:59:59Z")),
    ("year 1", "limit", fact_at("0001-01-01T00:00:00Z")),
    ("a negative year", "schema", fact_at("-001-01-01T00:00:00Z")),
    ("a year of five digits", "schema", fact_at("12026-01-01T00:00:00Z")),
    ("1969", "limit", fact_at("1969-12-31T23:59:59Z")),
    ("1999", "limit", fact_at("1999-12-31T23:59:59Z")),
    ("a month ahead", "limit", fact_at(FAR, envelope_too=True)),
    ("200 days ago, behind the horizon", by_topic("late", "late", "counts"), fact_at(OLD, envelope_too=True)),
    ("a leap second", "schema", fact_at("2026-06-30T23:59:60Z")),
    ("24 o'clock", "schema", fact_at("2026-06-30T24:00:00Z")),
    ("30 February", "schema", fact_at("2026-02-30T00:00:00Z")),
    ("an offset instead of Z", "schema", fact_at("2026-06-30T08:00:00+08:00")),
    ("a small z", "schema", fact_at("2026-06-30T08:00:00z")),
    ("nanoseconds", "schema", fact_at("2026-06-30T08:00:00.123456789Z")),
    ("milliseconds since 1970", "schema", fact_at(1_790_000_000_000)),  # type: ignore[arg-type]
    ("Arabic digits", "schema", fact_at("٢٠٢٦-06-30T08:00:00Z")),
)  # fmt: skip


def keyed(key: bytes | None) -> Change:
    """Another key."""
    return lambda record: record.but(key=key)


def headers(*pairs: tuple[bytes, bytes | None]) -> Change:
    """Other headers."""
    return lambda record: record.but(headers=pairs)


def at_ms(timestamp_ms: int) -> Change:
    """Another CreateTime."""
    return lambda record: record.but(timestamp_ms=timestamp_ms)


FRAME_KINDS: Final = (
    ("a null key", by_topic("counts", "counts", "refused"), keyed(None)),
    ("an empty key", "counts", keyed(b"")),
    ("a key that is not UTF-8", "counts", keyed(b"\xff\xfe\x00")),
    ("a key of 15,000 bytes", "counts", keyed(b"k" * 15_000)),
    ("the key of another company", "counts", keyed(b"somebody-else")),
    ("a tombstone", by_topic("not-json", "not-json", "nothing"), lambda record: record.but(value=None)),
    ("a null key and no value", by_topic("not-json", "not-json", "refused"), lambda record: record.but(key=None, value=None)),
    ("larger than the topic allows", "refused", text(lambda value: value + b" " * 1_100_000)),
    ("a header name that is not UTF-8", "not-json", headers((b"\xff\xfe", b"x"))),
    ("a header without value", "counts", headers((b"trace", None))),
    ("an empty header name", "counts", headers((b"", b"x"))),
    ("1,000 headers", "counts", headers(*[(b"h%d" % number, b"x") for number in range(1000)])),
    ("a header of 15,000 bytes", "counts", headers((b"h", b"x" * 15_000))),
    ("the headers `replayed`, `rerouted` and `traceparent` with nonsense", "counts", headers((b"replayed", b"\xff"), (b"replayed", None), (b"rerouted", b"\0"), (b"traceparent", b"00-zz"))),
    ("an invalid record with such headers", "not-json", lambda record: record.but(value=b"{", headers=((b"replayed", None), (b"traceparent", b"\xff" * 40)))),
    ("CreateTime -1 (none)", "counts", at_ms(-1)),
    ("CreateTime 0", "counts", at_ms(0)),
    ("CreateTime in the year 5138", "counts", at_ms(99_999_999_999_999)),
    ("CreateTime of 63 bits", "counts", at_ms(2**62)),
)  # fmt: skip

WIDE: Final = text(lambda value: value[:-1] + b',"more":"' + b"x" * 3_000_000 + b'"}')
BOMB: Final = text(lambda value: value + b" " * 8_000_000)
BATCH_KINDS: Final = (
    *(RecordKind("Batches", f"compressed with {name}", "counts", codec=name, is_batch=True) for name in ("gzip", "snappy", "lz4", "zstd")),
    RecordKind("Batches", "records of 3 MB in 10 kB of gzip", "counts", WIDE, codec="gzip", is_batch=True),
    *(RecordKind("Batches", f"more than 16 MiB unpacked from {name}", "limit", BOMB, codec=name, is_batch=True) for name in ("gzip", "zstd")),
    *(RecordKind("Batches", f"damaged data of {name}", "refused", codec=name, damage=Damage(payload=b"\xff" * 500), is_batch=True) for name in ("gzip", "zstd")),
    RecordKind("Batches", "a codec that Kafka does not have", "refused", damage=Damage(codec_bits=6), is_batch=True),
    RecordKind("Batches", "a wrong number of records", "refused", damage=Damage(count=7), is_batch=True),
    RecordKind("Batches", "without records", "refused", damage=Damage(count=0, payload=b""), is_batch=True),
)  # fmt: skip
LOG_KINDS: Final = (
    *(RecordKind("Damaged on disk", f"damaged data of {name}", "not-json", codec=name, damage=Damage(payload=b"\xff" * 500), is_batch=True, in_log=True) for name in ("gzip", "snappy", "lz4", "zstd")),
    *(RecordKind("Damaged on disk", f"data of {name} cut off", "not-json", codec=name, damage=Damage(cut=20), is_batch=True, in_log=True) for name in ("gzip", "snappy", "lz4", "zstd")),
    RecordKind("Damaged on disk", "a wrong checksum", "not-json", damage=Damage(crc=0x5A5A), is_batch=True, in_log=True),
    RecordKind("Damaged on disk", "a wrong checksum of a compressed batch", "not-json", codec="zstd", damage=Damage(crc=1), is_batch=True, in_log=True),
    RecordKind("Damaged on disk", "more records stated than there are", "counts", damage=Damage(count=7), is_batch=True, in_log=True),
    RecordKind("Damaged on disk", "a record that is longer than the batch", "not-json", damage=Damage(record_prefix=b"\xfe\xff\xff\x0f"), is_batch=True, in_log=True),
    RecordKind("Damaged on disk", "a record of negative length", "not-json", damage=Damage(record_prefix=b"\x03"), is_batch=True, in_log=True),
    RecordKind("Damaged on disk", "a batch without records, as compaction leaves it", "nothing", damage=Damage(count=0, payload=b""), is_batch=True, in_log=True),
    RecordKind("Damaged on disk", "offsets with gaps, as compaction leaves them", "counts", damage=Damage(offset_deltas=(0, 5, 9)), is_batch=True, in_log=True),
)  # fmt: skip
TRANSACTION_KINDS: Final = (
    RecordKind("Transactions", "committed", "counts", transaction="commit"),
    RecordKind("Transactions", "aborted", "nothing", transaction="abort"),
    RecordKind("Transactions", "left open, until the broker aborts it", "nothing", transaction="open"),
)
KINDS: Final = (
    *(RecordKind("JSON", *kind) for kind in JSON_KINDS),
    *(RecordKind("Events", *kind) for kind in EVENT_KINDS),
    *(RecordKind("Instants", *kind) for kind in INSTANT_KINDS),
    *(RecordKind("Keys, headers, broker time", *kind) for kind in FRAME_KINDS),
    *BATCH_KINDS,
    *LOG_KINDS,
    *TRANSACTION_KINDS,
)
