"""The content of a rejected record without personal text: its fields with their kind and length.

A record that was rejected may hold anything, an address in the place of an id included. So no text of it is shown unless it can only be
an instant or one of our own codes (event types, topics, kinds).
"""

import base64
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from services.common.events import TYPES
from services.dead_letters.letters import DeadLetterRecord

MAX_FIELDS: Final = 100
MAX_DEPTH: Final = 4
MAX_NAME: Final = 40
MAX_ID: Final = 128
"""Characters of an id."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record: its path, its kind, the length of a text or list, and its value if that cannot be personal."""

    path: str
    kind: str
    length: int | None = None
    value: str = ""


def is_company_id(text: str) -> bool:
    """Whether the company of a key is an id that may be shown and recorded: a producer can write anything into a key."""
    return 0 < len(text) <= MAX_ID and text.isprintable() and "@" not in text and "\ufffd" not in text


def company_id(letter: DeadLetterRecord) -> str:
    """The company of a letter; "" when its key is not an id."""
    return letter.company_id if is_company_id(letter.company_id) else ""


def size(letter: DeadLetterRecord) -> int | None:
    """Bytes of the record in a letter; None when the letter has no copy."""
    value = None if letter.data is None else letter.data.value
    return None if value is None else len(value) * 3 // 4 - value[-2:].count("=")


def fields(letter: DeadLetterRecord) -> list[Field]:
    """The fields of the record, at most MAX_FIELDS; none when the letter has no copy or the copy is no JSON document."""
    value = None if letter.data is None else letter.data.value
    if value is None:
        return []
    try:
        document = json.loads(base64.b64decode(value, validate=True))
    except (ValueError, RecursionError):
        return []
    outlined: list[Field] = []
    _outline("", document, 0, outlined)
    return outlined[:MAX_FIELDS]


def _outline(path: str, value: Any, depth: int, outlined: list[Field]) -> None:
    if len(outlined) >= MAX_FIELDS:
        return
    match value:
        case dict() if depth < MAX_DEPTH and value:
            for name, inner in value.items():
                shown = name if len(name) <= MAX_NAME and _NAME.fullmatch(name) else "?"
                _outline(f"{path}.{shown}" if path else shown, inner, depth + 1, outlined)
        case dict() | list():
            outlined.append(Field(path or "?", "object" if isinstance(value, dict) else "list", len(value)))
        case bool() | None:
            outlined.append(Field(path or "?", "null" if value is None else "boolean", value=json.dumps(value)))
        case int() | float():
            # A number may be a telephone number.
            outlined.append(Field(path or "?", "number", value=str(value) if abs(value) < 100_000 else ""))
        case _:
            is_code = value in TYPES or _INSTANT.fullmatch(value) is not None
            outlined.append(Field(path or "?", "text", len(value), value if is_code else ""))
