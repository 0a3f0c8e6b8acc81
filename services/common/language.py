"""The two languages in which texts are shown to people. Pure."""

from typing import Literal

import msgspec

Language = Literal["en", "zh"]


class Bilingual(msgspec.Struct, frozen=True):
    """A text in both languages."""

    en: str
    zh: str

    def text(self, language: Language) -> str:
        """The text in one of them."""
        return self.zh if language == "zh" else self.en
