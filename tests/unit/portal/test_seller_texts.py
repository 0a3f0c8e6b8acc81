"""Every text that a seller can see on the connect page and the panel names no command, option, setting or code: a seller has none of them."""

import re
from collections.abc import Callable, Iterator

import pytest

from services.aggregator import texts as number_texts
from services.aggregator.doctor import diagnosis
from services.aggregator.doctor.causes import CAUSES
from services.aggregator.judge.rules import RuleSet
from services.cli.__main__ import main
from services.common.language import Language
from services.common.tables import read_table
from services.connect import consent, texts
from services.connect.report import EARLIER, ConnectionTestReport, StageResult
from services.portal.pages import texts as page_texts
from services.portal.panel import texts as panel_texts
from services.portal.panel.findings import shown_facts
from services.providers import catalog
from services.registry import holdings, personal_data, states
from services.standalone.servers.paths import ROOT

COMMANDS = "|".join(main.commands)
CODES = "|".join(code for code in texts.load()["code"] if "-" in code)
OPERATORS_WORDS = re.compile(rf"replyrate ({COMMANDS})\b|(?<![-\w])--\w|REPLYRATE_|replyrate\.|\b({CODES})\b")
AT_THE_COMMAND_LINE = re.compile(r"how-|label-|faq|unconfirmed|ask-provider|next|provider|note|sent-over|passed|failed")
"""Phrases that only commands print."""
ADVICE_ROW = re.compile(r"\('([a-z_-]+)', '((?:[^']|'')*)', '((?:[^']|'')*)'\)")
JARGON = re.compile(r"(?<![{_])\bunits\b|计数单位|[Mm]atcher|[Aa]ggregator")
"""Words of the developers in sentences about numbers."""


def _of_tests() -> Iterator[str]:
    sentences = texts.load()
    for entry in sentences["code"].values():
        for language in texts.LANGUAGES:
            yield entry[language]["says"]
            yield entry[language].get("page", entry[language]["next"])
    for kind in ("stage", "request", "warning", "word"):
        for entry in sentences[kind].values():
            for language in texts.LANGUAGES:
                yield from entry[language].values() if isinstance(entry[language], dict) else (entry[language],)
    for name, entry in sentences["phrase"].items():
        if not AT_THE_COMMAND_LINE.match(name):
            yield from entry.values()


def _of_mailboxes() -> Iterator[str]:
    table = states.load()
    for name in (*table.names.values(), *(event.says for event in table.events.values() if event.says is not None)):
        yield from (name.en, name.zh)
    for provider in catalog.load().providers:
        for text in (provider.reason, provider.advice):
            yield from (text.en, text.zh)
        if provider.caution is not None:
            yield from (provider.caution.en, provider.caution.zh)


def _of_consent_and_stored_data() -> Iterator[str]:
    current = consent.load()
    for language in texts.LANGUAGES:
        yield current.current.texts[language]
        yield from current.remains[language]
        yield from holdings.outside_postgres(language, 60)
    stored = personal_data.load()
    for sentences in (*stored.kinds.values(), *stored.retentions.values()):
        yield from sentences.values()


def _of_pages() -> Iterator[str]:
    for table in page_texts.load().values():
        for entry in table.values():
            yield from (entry["en"], entry["zh"])


def _of_panel() -> Iterator[str]:
    for table in panel_texts.load().values():
        for entry in table.values():
            yield from (entry["en"], entry["zh"])
    for cause in CAUSES:
        cause_texts = diagnosis.texts()[cause.code]
        for_operators = [
            name for name in cause_texts if name.replace("advice", "seller") in cause_texts and "advice" in name
        ]
        for name in set(cause_texts) - set(for_operators):
            yield from (cause_texts[name]["en"], cause_texts[name]["zh"])


def _of_stored_advice() -> Iterator[str]:
    """What the panel says of a mailbox: rows of ledger.advice, which migrations write. The advice on causes is that of _of_panel."""
    inserts = [
        part.partition(";\n")[0]
        for file in sorted((ROOT / "schemas" / "database").glob("*.sql"))
        for part in file.read_text("utf-8").split("INSERT INTO ledger.advice VALUES")[1:]
    ]
    advice = [entry for insert in inserts for entry in ADVICE_ROW.findall(insert)]
    of_mailboxes = [entry for entry in advice if entry[0] not in {cause.code for cause in CAUSES}]
    assert set(states.load().names) <= {code for code, _, _ in of_mailboxes}
    for _, english, chinese in of_mailboxes:
        yield from (english.replace("''", "'"), chinese)
    yield from read_table("services.portal.api", "advice.toml")["company"]["by_account"].values()


def _of_numbers() -> Iterator[str]:
    explain = {
        name: section for name, section in number_texts.load("explain").items() if name not in ("unknown", "label")
    }
    rate = number_texts.load("rate")
    for section in (*explain.values(), rate["no_rate"], rate["next_step"]):
        for entry in section.values():
            yield from (entry["en"], entry["zh"])
    for entry in diagnosis.texts()["fact"].values():
        yield from (entry["en"], entry["zh"])


@pytest.mark.parametrize(
    "texts_of",
    [_of_tests, _of_mailboxes, _of_consent_and_stored_data, _of_pages, _of_panel, _of_stored_advice, _of_numbers],
)
def test_no_text_for_sellers_names_commands_options_settings_or_codes(
    texts_of: Callable[[], Iterator[str]],
) -> None:
    shown = list(texts_of())
    assert len(shown) > 20
    assert [text for text in shown if OPERATORS_WORDS.search(text)] == []


@pytest.mark.parametrize("texts_of", [_of_panel, _of_stored_advice, _of_numbers])
def test_sentences_about_numbers_have_no_words_of_developers(texts_of: Callable[[], Iterator[str]]) -> None:
    assert [text for text in texts_of() if JARGON.search(text)] == []


def test_every_parameter_of_an_explanation_has_a_name() -> None:
    assert list(number_texts.load("explain")["parameter"]) == list(RuleSet.__struct_fields__)


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_reasons_for_exclusion_are_words(language: Language) -> None:
    reasons = number_texts.load("explain")["excluded"]
    facts = {"inquiries": 2, "excluded_by": {"mainland-china-buyer": 2}}
    (shown,) = (value for name, value in shown_facts("all-excluded", facts, language) if value != "2")
    assert shown == reasons["mainland-china-buyer"][language].format(within="").rstrip(".。") + ": 2"


def report_of(code: str, **values: str) -> ConnectionTestReport:
    return ConnectionTestReport("imap.mail.test", 993, None, (StageResult("login", code, 0.1),), values)


def test_operators_read_of_the_command_and_sellers_of_the_page() -> None:
    ended = report_of("oauth2-grant-ended")
    spent = report_of("tries-spent", again_at="12:00", **{EARLIER: "oauth2-grant-ended"})
    for report in (ended, spent):
        for language in texts.LANGUAGES:
            assert "replyrate mailbox reconnect" in str(texts.next_step(report, language))
            assert "replyrate" not in texts.as_data(report, on_page=True)["next"][language]
    assert texts.next_step(ended, "en", on_page=True) == "Connect the mailbox again and sign in at your provider."
