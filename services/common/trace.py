"""W3C Trace Context in Kafka headers: what comes in with a fact goes out with the state it changed, as it came.

No span is made here: an intermediary that does not record may hand `traceparent` on unchanged
(https://www.w3.org/TR/trace-context/#mutating-the-traceparent-field). A trace that its sender samples is logged once by
each service, so that a fact is found again by its trace id. Without the header nothing of this costs anything.
"""

import re
from collections.abc import Iterable
from typing import Final

TRACEPARENT: Final = "traceparent"
_FORM: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent(headers: Iterable[tuple[str, bytes]]) -> bytes | None:
    """The header, if there is one of the one allowed form; anything else is as if it were not there."""
    for name, value in headers:
        if name == TRACEPARENT and value is not None and _FORM.fullmatch(value):
            return value
    return None


def sampled(headers: Iterable[tuple[str, bytes]]) -> bytes | None:
    """The header, if its sender asks for this trace to be recorded."""
    found = traceparent(headers) if headers else None
    return found if found is not None and is_sampled(found) else None


def trace_id(value: bytes) -> str:
    """The trace a header belongs to."""
    return value[3:35].decode("ascii")


def is_sampled(value: bytes) -> bool:
    """Whether the sender asks for this trace to be recorded."""
    return bool(int(value[-2:], 16) & 1)
