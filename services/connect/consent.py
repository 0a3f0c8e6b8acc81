"""What the owner of a mailbox consents to: the texts of consent.toml, each pinned by its hash.

A stored consent names a version and a language, so a text must stay what it was when its reader agreed: a text that was
changed does not load.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from services.common import tables
from services.common.errors import ConfigError
from services.common.hashing import SEPARATOR
from services.common.language import Language
from services.registry.connection_attempts import GivenConsent
from services.registry.errors import RegistryError

NAME_CHARACTERS: Final = 200
"""The longest name of a person who consents or acts."""


@dataclass(frozen=True, slots=True)
class ConsentText:
    """One version: language → text."""

    version: str
    since: str
    sha256: str
    texts: Mapping[Language, str]


@dataclass(frozen=True, slots=True)
class ConsentTexts:
    """Every version, oldest first, and what remains after a consent is withdrawn."""

    versions: Sequence[ConsentText]
    remains: Mapping[Language, Sequence[str]]

    @property
    def current(self) -> ConsentText:
        """The version that is shown now."""
        return self.versions[-1]


def digest(en: str, zh: str = "") -> str:
    """The hash that pins a text."""
    return hashlib.sha256(f"{en}{SEPARATOR}{zh}".encode()).hexdigest()


def parse(text: str, origin: str) -> ConsentTexts:
    """The texts from TOML. ConfigError that names `origin`, the key or the version, and what to do."""
    data = tables.parse_table(text, origin)
    problems = tables.schema_problems(data, "consent", origin)
    if not problems:
        for number, version in enumerate(data["text"], 1):
            problems += _version_problems(origin, number, version)
        if "zh" not in data["text"][-1]:
            problems.append(f"{origin}: the newest text must exist in Chinese too: zh")
    if problems:
        raise ConfigError(problems)
    versions = []
    for version in data["text"]:
        texts: dict[Language, str] = {"en": version["en"].strip()}
        if "zh" in version:
            texts["zh"] = version["zh"].strip()
        versions.append(ConsentText(version["version"], version["since"], version["sha256"], texts))
    return ConsentTexts(tuple(versions), data["remains"])


def _version_problems(origin: str, number: int, version: Mapping[str, str]) -> list[str]:
    problems = []
    if version["version"] != str(number):
        problems.append(f"{origin}: version {version['version']}: versions are 1, 2, 3, … in order; write {number}")
    if digest(version["en"], version.get("zh", "")) != version["sha256"]:
        problems.append(
            f"{origin}: version {version['version']}: the text is not the one that was consented to (sha256);"
            " restore it, and add what is new as the next version"
        )
    return problems


@cache
def load() -> ConsentTexts:
    """services/connect/consent.toml."""
    return parse(tables.read_text("services.connect", "consent.toml"), "services/connect/consent.toml")


def give(by: str, language: Language, text_version: str | None = None, session_id: str | None = None) -> GivenConsent:
    """A consent to the current text, in a session of the web pages if any. RegistryError when it has no name, or is a consent to another text."""
    name, current = by.strip(), load().current
    if not name:
        raise RegistryError("nobody consented, and without consent no mailbox is read", "consent-give")
    check_name("--consent-by", name)
    if text_version is not None and text_version != current.version:
        raise RegistryError(
            f"consent text {text_version} is not the current one, which is {current.version}", "consent-show-again"
        )
    if language not in current.texts:
        raise RegistryError(f"there is no consent text in {language}; choose one of {', '.join(current.texts)}")
    return GivenConsent(name, current.version, language, current.sha256, session_id)


def check_name(option: str, name: str) -> None:
    """RegistryError when a name must not be stored readable."""
    if not 1 <= len(name) <= NAME_CHARACTERS or not name.isprintable():
        raise RegistryError(f"{option} must have 1 to {NAME_CHARACTERS} characters and no control character")
    if "@" in name:
        raise RegistryError(f"{option} is stored readable, so it must be a name or an account, not an address")
