"""Every sentence for a seller is there in both languages, with the same names in it."""

import re
from string import Formatter

import pytest

from services.cli import texts

SENTENCES = [
    (name, section, code, found)
    for name in texts.names()
    for section, codes in texts.load(name).items()
    for code, found in codes.items()
]


@pytest.mark.parametrize(("name", "section", "code", "found"), SENTENCES, ids=lambda one: str(one)[:30])
def test_both_languages_say_the_same_names(name: str, section: str, code: str, found: dict[str, str]) -> None:
    assert set(found) == set(texts.LANGUAGES)
    named = [{field for _, field, _, _ in Formatter().parse(found[language]) if field} for language in texts.LANGUAGES]
    assert named[0] == named[1]
    assert not re.search("[\u4e00-\u9fff]", found["en"])
    assert re.search("[\u4e00-\u9fff]|^[A-Z0-9{} ]+$", found["zh"]), f"{name} {section}.{code} has no Chinese"


def test_a_code_without_a_sentence_stands_for_itself() -> None:
    assert texts.Texts("explain", "en")("outcome", "no-such-code") == "no-such-code"
