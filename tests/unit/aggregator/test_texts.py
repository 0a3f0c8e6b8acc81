"""Every sentence for sellers exists in both languages, with the same names in braces."""

import re
from string import Formatter

import pytest

from services.aggregator import texts

SENTENCES = [
    (name, section, code, sentence)
    for name in texts.names()
    for section, codes in texts.load(name).items()
    for code, sentence in codes.items()
]


@pytest.mark.parametrize(("name", "section", "code", "sentence"), SENTENCES, ids=lambda value: str(value)[:30])
def test_both_languages_have_the_same_names_in_braces(
    name: str, section: str, code: str, sentence: dict[str, str]
) -> None:
    assert set(sentence) == set(texts.LANGUAGES)
    named = [
        {field for _, field, _, _ in Formatter().parse(sentence[language]) if field} for language in texts.LANGUAGES
    ]
    assert named[0] == named[1]
    assert not re.search("[\u4e00-\u9fff]", sentence["en"])
    assert re.search("[\u4e00-\u9fff]|^[A-Z0-9{} ]+$", sentence["zh"]), f"{name} {section}.{code} has no Chinese"


def test_a_code_without_a_sentence_is_printed_as_it_is() -> None:
    assert texts.Texts("explain", "en")("outcome", "no-such-code") == "no-such-code"
