"""What the owner of a mailbox consents to: the texts of consent.toml, each pinned by its hash. Pure.

A recorded consent names a version and a language. So a text must stay what it was when somebody said yes to it: a changed
one does not load, whoever changed it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from services.common import tables
from services.common.errors import ConfigError
from services.common.language import Language


@dataclass(frozen=True, slots=True)
class ConsentText:
    """One version: language → text."""

    version: str
    since: str
    sha256: str
    texts: Mapping[Language, str]


@dataclass(frozen=True, slots=True)
class ConsentTexts:
    """Every version, oldest first, and what remains when one is withdrawn."""

    versions: Sequence[ConsentText]
    remains: Mapping[Language, Sequence[str]]

    @property
    def current(self) -> ConsentText:
        """The one that is shown now."""
        return self.versions[-1]


def digest(en: str, zh: str = "") -> str:
    """The hash that pins a text."""
    return hashlib.sha256(f"{en}\x1f{zh}".encode()).hexdigest()


def parse(text: str, origin: str) -> ConsentTexts:
    """The texts from TOML. ConfigError that names `origin`, the key or the version, and the cure."""
    data = tables.parse_table(text, origin)
    problems = tables.schema_problems(data, "consent", origin)
    if not problems:
        for number, one in enumerate(data["text"], 1):
            if one["version"] != str(number):
                problems.append(f"{origin}: version {one['version']}: versions are 1, 2, 3, … in order; write {number}")
            if digest(one["en"], one.get("zh", "")) != one["sha256"]:
                problems.append(
                    f"{origin}: version {one['version']}: the text is not the one that was consented to (sha256);"
                    " put it back, and write what is new as the next version"
                )
        if "zh" not in data["text"][-1]:
            problems.append(f"{origin}: the newest text must be there in Chinese too: zh")
    if problems:
        raise ConfigError(problems)
    versions = []
    for one in data["text"]:
        texts: dict[Language, str] = {"en": one["en"].strip()}
        if "zh" in one:
            texts["zh"] = one["zh"].strip()
        versions.append(ConsentText(one["version"], one["since"], one["sha256"], texts))
    return ConsentTexts(tuple(versions), data["remains"])


@cache
def load() -> ConsentTexts:
    """services/connect/consent.toml."""
    return parse(tables.read_text("services.connect", "consent.toml"), "services/connect/consent.toml")
