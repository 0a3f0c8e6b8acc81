"""Why the registry refuses a request: the sentences of refusals.toml."""

from collections.abc import Mapping
from functools import cache

import msgspec

from services.common.language import Bilingual, filled
from services.common.tables import read_sentences, read_table


@cache
def load() -> Mapping[str, Bilingual]:
    """The sentence of each code."""
    sentences = {
        code: entry for code, entry in read_table("services.registry", "refusals.toml").items() if code != "words"
    }
    return msgspec.convert(sentences, dict[str, Bilingual])


def words() -> Mapping[str, Bilingual]:
    """Values that read differently in each language: kinds of accounts, roles, what an id names."""
    return read_sentences("services.registry", "refusals.toml", "words")


def reason(code: str, **values: str | Bilingual) -> Bilingual:
    """The sentence of a code with its placeholders filled in, in both languages."""
    return filled(load()[code], **values)
