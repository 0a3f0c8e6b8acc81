"""W3C Trace Context in Kafka headers: the `traceparent` of a fact is passed on with the state that the fact changed.

No span is created here: an intermediary that does not record may pass `traceparent` on unchanged
(https://www.w3.org/TR/trace-context/#mutating-the-traceparent-field). Each service logs a trace that its sender samples
once, so that a fact can be found by its trace id. Records without the header cost nothing.
"""

import re
from collections.abc import Iterable
from typing import Final

TRACEPARENT: Final = "traceparent"
_FORM: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent(headers: Iterable[tuple[str, bytes]]) -> bytes | None:
    """The header if it has the one allowed form; anything else counts as absent."""
    for name, value in headers:
        if name == TRACEPARENT and value is not None and _FORM.fullmatch(value):
            return value
    return None


def sampled(headers: Iterable[tuple[str, bytes]]) -> bytes | None:
    """The header if its sender asks for this trace to be recorded."""
    header = traceparent(headers) if headers else None
    return header if header is not None and is_sampled(header) else None


def trace_id(header: bytes) -> str:
    """The id of the trace, in hex."""
    return header[3:35].decode("ascii")


def is_sampled(header: bytes) -> bool:
    """Whether the sender asks for this trace to be recorded."""
    return bool(int(header[-2:], 16) & 1)
