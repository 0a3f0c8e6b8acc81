"""The two languages in which texts are shown to people. Pure."""

from typing import Final, Literal, TypeVar, get_args

import msgspec

Language = Literal["en", "zh"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)


class Bilingual(msgspec.Struct, frozen=True):
    """A text in both languages."""

    en: str
    zh: str

    def text(self, language: Language) -> str:
        """The text in one of them."""
        return self.zh if language == "zh" else self.en


Value = TypeVar("Value")


def in_language(value: Value | Bilingual, language: Language) -> Value | str:
    """A value as it is, or a text in one language."""
    return value.text(language) if isinstance(value, Bilingual) else value


def filled(text: Bilingual, **values: str | int | Bilingual) -> Bilingual:
    """The text with its placeholders filled in; values may read differently in each language."""
    english, chinese = (
        {name: in_language(value, language) for name, value in values.items()} for language in LANGUAGES
    )
    return Bilingual(text.en.format_map(english), text.zh.format_map(chinese))
