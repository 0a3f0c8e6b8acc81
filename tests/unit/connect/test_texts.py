"""Sentences of the connection test: both languages, every code, every value."""

import re
import string

from services.common import tables
from services.connect import texts
from services.connect.report import STAGES
from services.connect.request_runner import CODES, OTHER_CODES
from services.registry import states
from services.registry.connect_requests import GIVEN_UP
from services.signin.refusals import AT_THE_BROWSER, AT_THE_FETCHER
from tests.support.codes import codes


def _words(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_text_of_the_connection_test_has_both_languages_with_the_same_words() -> None:
    sentences = texts.load()
    assert set(sentences["stage"]) == set(STAGES)
    pairs = [(f"{kind}.{name}", entry) for kind, entries in sentences.items() for name, entry in entries.items()]
    for name, entry in pairs:
        assert set(entry) == {"en", "zh"}, name
        english, chinese = entry["en"], entry["zh"]
        if isinstance(english, str):
            english, chinese = {"text": english}, {"text": chinese}
        assert set(english) == set(chinese), name
        for part in english:
            assert _words(english[part]) == _words(chinese[part]), f"{name} {part}"
            assert english[part].isascii(), name
            assert re.search(r"[\u4e00-\u9fff]", chinese[part]) or english[part].startswith("{"), name


def test_every_value_that_a_look_up_shows_has_a_word() -> None:
    words, properties = set(texts.load()["word"]), tables.schema("provider")["properties"]
    for key in ("support", "files_sent"):
        assert set(properties[key]["enum"]) <= words
    for key in ("auth", "unconfirmed"):
        assert set(properties[key]["items"]["enum"]) <= words


def test_every_code_has_sentences() -> None:
    assert codes() <= set(texts.load()["code"])
    assert set(texts.load()["code"]) - codes() == {
        "folder-missing", "provider-busy", "provider-unsupported", "tries-spent",
    }  # fmt: skip


def test_every_code_of_a_connect_request_has_sentences() -> None:
    # The last one is a code of the connect page, before there is a request.
    assert set(texts.load()["request"]) == {
        *CODES.values(), *OTHER_CODES, *GIVEN_UP, *AT_THE_BROWSER, *AT_THE_FETCHER, "address-not-expected",
    }  # fmt: skip


def test_every_reason_has_a_sentence_in_both_languages() -> None:
    table = states.load()
    for event in table.events.values():
        if event.says is not None:
            assert texts.state_reason(event.name, "en").isascii() and not texts.state_reason(event.name, "zh").isascii()
    for code in table.refusing:
        assert texts.state_reason(code, "en") not in ("", code) and texts.state_reason(code, "zh") not in ("", code)
    assert texts.state_reason(None, "en") == "" and texts.state_reason("internal-KeyError", "en") == "internal-KeyError"
