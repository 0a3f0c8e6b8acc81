"""Sentences of texts.toml in English and Chinese: connection tests, mailbox states, forecasts and look-ups. Pure."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from services.common.language import Language
from services.common.tables import read_table
from services.connect.completeness import NumbersForecast, SettlingRule
from services.connect.report import EARLIER, PASSED, SKIPPED, ConnectionTestReport, MailboxWarning, StageResult
from services.imap.folders import folder_text
from services.providers.typed_server import HostMistake
from services.registry import states

LANGUAGES: tuple[Language, ...] = ("en", "zh")


@cache
def load() -> dict[str, Any]:
    """services/connect/texts.toml."""
    return read_table("services.connect", "texts.toml")


def phrase(name: str, language: Language, **values: str) -> str:
    """A phrase with its placeholders filled in."""
    text: str = load()["phrase"][name][language]
    return text.format_map(values)


def stage_name(stage: str, language: Language) -> str:
    """The name of a stage."""
    name: str = load()["stage"][stage][language]["name"]
    return name


def stage_result(report: ConnectionTestReport, stage: StageResult, language: Language) -> str:
    """What a stage found, or why it failed."""
    if stage.code == SKIPPED:
        return phrase("skipped", language)
    if stage.code == PASSED:
        text: str = load()["stage"][stage.name][language]["passed"]
        values = {**report.values, "newest": _newest(report, language)}
        return text.format_map(values)
    return _filled(stage.code, "says", report.values, language)


def next_step(report: ConnectionTestReport, language: Language, *, on_page: bool = False) -> str | None:
    """What to do about the stage that failed, at the command line or on the seller's page; None when none failed."""
    return (
        None if report.failed is None else _filled(report.failed.code, "next", report.values, language, on_page=on_page)
    )


def code_sentence(code: str, language: Language) -> str | None:
    """The sentence of a code that has no placeholders; None when it has no sentence."""
    sentences = load()["code"].get(code)
    return None if sentences is None else str(sentences[language]["says"])


def request_sentences(code: str, language: Language) -> tuple[str, str] | None:
    """What became of a connect request that ended before or beside its connection test, and what to do next; None for a code of
    the connection test."""
    sentences = load()["request"].get(code)
    return None if sentences is None else (sentences[language]["says"], sentences[language]["next"])


def state_reason(code: str | None, language: Language) -> str:
    """Why a mailbox is in its state, as a sentence: of the event, else of the connection test's code; the code itself where
    neither has one, "" without a code."""
    if code is None:
        return ""
    event = states.load().events.get(code)
    if event is not None and event.says is not None:
        return event.says.text(language)
    return code_sentence(code, language) or code


def warning(shown: MailboxWarning, language: Language) -> str:
    """The sentence of a warning."""
    text: str = load()["warning"][shown.code][language]
    values = shown.values_zh if language == "zh" and shown.values_zh is not None else shown.values
    return text.format_map(values)


def sentence(report: ConnectionTestReport, language: Language) -> str:
    """What failed and what to do, in one line; "" when nothing failed."""
    failed = report.failed
    return "" if failed is None else f"{stage_result(report, failed, language)} {next_step(report, language)}"


def word(name: str, language: Language) -> str:
    """A value of the provider catalogue (support, a kind of secret, a key) in words."""
    return str(load()["word"][name][language])


def mistake(typed: HostMistake, language: Language) -> str:
    """What is wrong with a server that was typed and what to write instead, in one line."""
    return " ".join(_filled(typed.code, part, {"host": typed.host}, language) for part in ("says", "next"))


def forecast(numbers: NumbersForecast, rule: SettlingRule, language: Language) -> str:
    """From when on the numbers of a mailbox are complete, and when they can be seen."""
    values = {
        "first_day": f"{numbers.first_day}", "visible_on": f"{numbers.visible_on}", "whole_on": f"{numbers.whole_on}",
        "days": str(rule.window_days), "zone": rule.zone.key, "settle_days": str(rule.settle_days),
    }  # fmt: skip
    names = (
        "complete-from",
        "visible-now" if numbers.visible_on == numbers.today else "visible-on",
        "whole-now" if numbers.whole_on == numbers.today else "whole-on",
    )
    return ("" if language == "zh" else " ").join(phrase(name, language, **values) for name in names)


def as_data(report: ConnectionTestReport, *, on_page: bool = False) -> dict[str, Any]:
    """The report as plain values, every text in both languages; `on_page`: for sellers and platforms, who have no command line."""
    return {
        "passed": report.passed,
        "host": report.host or None,
        "port": report.port,
        "security": "tls" if report.tls == "implicit" else report.tls,
        "provider": report.provider.id if report.provider is not None else None,
        "code": report.failed.code if report.failed is not None else PASSED,
        "stages": [
            {
                "stage": stage.name,
                "code": stage.code,
                "seconds": stage.seconds,
                "says": {language: stage_result(report, stage, language) for language in LANGUAGES},
            }
            for stage in report.stages
        ],
        "next": {language: next_step(report, language, on_page=on_page) for language in LANGUAGES}
        if report.failed
        else None,
        "reason": {language: report.provider.reason.text(language) for language in LANGUAGES}
        if report.provider
        else None,
        "advice": {language: report.provider.advice.text(language) for language in LANGUAGES}
        if report.provider
        else None,
        "sent_folders": [
            {
                "name": folder_text(folder.name),
                "raw": _raw(folder.name),
                "found_by": folder.found_by,
                "messages": folder.messages,
                "earliest_at": folder.earliest_at,
                "newest_at": folder.newest_at,
            }
            for folder in report.folders
        ],
        "candidates": [{"name": folder_text(name), "raw": _raw(name)} for name in report.candidates],
        "warnings": [
            {"code": shown.code, "text": {language: warning(shown, language) for language in LANGUAGES}}
            for shown in report.warnings
        ],
    }


def _raw(name: bytes) -> str | None:
    """A folder's name as its server lists it (RFC 3501 section 5.1.3); None when it is not valid there, so it cannot be chosen."""
    return name.decode("ascii") if name.isascii() and name.decode("ascii").isprintable() else None


def _filled(code: str, part: str, values: Mapping[str, str], language: Language, *, on_page: bool = False) -> str:
    sentences = load()["code"]
    entry = sentences.get(code, sentences["server-broken"])[language]
    if EARLIER in values:
        values = {**values, EARLIER: _earlier(values[EARLIER], language, on_page=on_page)}
    return str(_next(entry, on_page=on_page) if part == "next" else entry[part]).format_map(values)


def _earlier(code: str, language: Language, *, on_page: bool) -> str:
    """Why an earlier test failed and, where that needs no details of that test, what to do; empty where it is not known."""
    sentences = load()["code"].get(code)
    if sentences is None:
        return ""
    entry = sentences[language]
    texts = [text for text in (entry["says"], _next(entry, on_page=on_page)) if "{" not in text]
    return phrase("earlier-failure", language, why=("" if language == "zh" else " ").join(texts))


def _next(entry: Mapping[str, str], *, on_page: bool) -> str:
    """What to do, at the command line or on the seller's page."""
    return entry.get("page", entry["next"]) if on_page else entry["next"]


def _newest(report: ConnectionTestReport, language: Language) -> str:
    earliest = min((folder.earliest_at for folder in report.folders if folder.earliest_at), default=None)
    newest = max((folder.newest_at for folder in report.folders if folder.newest_at), default=None)
    if not sum(folder.messages for folder in report.folders):
        return phrase("empty", language)
    if earliest is None or newest is None:
        return phrase("undated", language)
    return phrase("newest", language, newest_at=f"{newest:%Y-%m-%d %H:%M} UTC", earliest_at=f"{earliest:%Y-%m-%d}")
