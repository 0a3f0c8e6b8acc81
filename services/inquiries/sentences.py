"""What is wrong with a fact and what to write instead, in both languages: the sentences of sentences.toml. Pure."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Final, Literal

import msgspec

from services.common.language import Bilingual, filled
from services.common.tables import read_table

_SUBJECT: Final = re.compile(r"^[^:：;；]+[:：] ?")
"""Which types of facts a column belongs to, in front of its description."""


class Validation(msgspec.Struct, frozen=True):
    """The Chinese of validation messages of one form (a regular expression of the whole message)."""

    form: str
    zh: str


class Sentences(msgspec.Struct, frozen=True):
    """The tables of sentences.toml."""

    detail: Mapping[str, Bilingual]
    fault: Mapping[str, Bilingual]
    cure: Mapping[str, Bilingual]
    words: Mapping[str, Bilingual]
    column: Mapping[str, Bilingual]
    validation: tuple[Validation, ...]


@cache
def load() -> Sentences:
    """All sentences."""
    return msgspec.convert(read_table("services.inquiries", "sentences.toml"), Sentences)


@cache
def columns() -> Mapping[str, Bilingual]:
    """Column of a CSV file (and flat field of NDJSON) → what to write into it."""
    return {name: filled(text, instant=load().words["instant"]) for name, text in load().column.items()}


def sentence(table: Literal["detail", "fault", "cure"], code: str, **values: str | int | Bilingual) -> Bilingual:
    """The sentence of a code with its placeholders filled in."""
    sentences: Mapping[str, Bilingual] = getattr(load(), table)
    return filled(sentences[code], **values)


def validation(message: str) -> Bilingual:
    """A message of the codec, without the path before it, in both languages."""
    for entry in load().validation:
        if match := re.fullmatch(entry.form, message, re.DOTALL):
            return Bilingual(message, entry.zh.format_map(match.groupdict()))
    raise LookupError("the last form of sentences.toml is that of every message")


def cure_of(column: str | None, types: list[str]) -> Bilingual:
    """What to write into a column; `types`: names of the types of facts that are accepted."""
    cures = load().cure
    if column is not None and column in cures:
        return filled(cures[column], instant=load().words["instant"], types=", ".join(types))
    if column is not None and column in columns():
        text = columns()[column]
        return Bilingual(_SUBJECT.sub("", text.en), _SUBJECT.sub("", text.zh))
    return cures["as-described"]
