"""Values that several resources of the API have in their requests and answers."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

from services.common.codec import EARLIEST
from services.common.language import Bilingual
from services.portal.api.problems import ApiProblem, FieldProblem
from services.portal.id_paths import path_id

Instant = AwareDatetime
"""An instant with its zone (RFC 3339)."""


def _not_too_early(at: datetime) -> datetime:
    if at < EARLIEST:
        raise PydanticCustomError("too-early", "before {earliest}", {"earliest": f"{EARLIEST:%Y-%m-%d}"})
    return at


StoredInstant = Annotated[AwareDatetime, AfterValidator(_not_too_early)]
"""An instant of a request that is stored: not before the earliest one that facts may have."""

ID_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f]+$"
"""services/registry/companies.py, check_id."""
PREFIX_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"

ITEM_SCHEMA: Final = "x-itemSchema"
"""Beside the schema of a body of lines: that of one line, as `itemSchema` of OpenAPI 3.2."""

PlatformId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=ID_PATTERN)]
"""The id that the platform gave a company or an account, or that replyrate gave a mailbox."""
PathId = Annotated[PlatformId, BeforeValidator(path_id)]
"""Such an id as a part of a path, percent-encoded (RFC 3986)."""
IdPrefix = Annotated[str, StringConstraints(max_length=128, pattern=PREFIX_PATTERN)]
"""The beginning of an id."""
PageSize = Annotated[int, Query(ge=1, le=500, description="Most entries of the page.")]
CURSOR_CHARACTERS: Final = 2000
Cursor = Annotated[
    str | None,
    Query(max_length=CURSOR_CHARACTERS, description="`next` of the previous page; the first page without it."),
]


class ApiModel(BaseModel):
    """A document of the API: unknown members of a request are refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class BilingualText(ApiModel):
    """A text in both languages."""

    en: str
    zh: str

    @classmethod
    def of(cls, text: Bilingual) -> "BilingualText":
        """From a text of a data file."""
        return cls(en=text.en, zh=text.zh)


def encode_cursor(*key: str | int) -> str:
    """The cursor of a page that begins after a key."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


_KEY: Final = msgspec.json.Decoder(list[str | int])
"""Of a cursor. Without the types, deep nesting would end in a RecursionError."""


def decode_cursor(cursor: str | None, first: tuple[Any, ...]) -> tuple[Any, ...]:
    """The key of a cursor; `first` when there is none. ApiProblem when it is none of ours: its parts have the types of `first`."""
    if cursor is None:
        return first
    try:
        # Routes refuse a longer one themselves; pages pass on what they are sent.
        is_short = len(cursor) <= CURSOR_CHARACTERS
        key = _KEY.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))) if is_short else None
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        key = None
    if (
        key is None
        or [type(part) for part in key] != [type(part) for part in first]
        or any(isinstance(part, str) and "\x00" in part for part in key)
        or any(isinstance(part, int) and not 0 <= part < 2**63 for part in key)
    ):
        raise ApiProblem("invalid-request", fields=[FieldProblem("after", "query", "cursor")])
    return tuple(key)
