"""Sentences for the connection test, from texts.toml: English and Chinese, for people and for `--json`. Pure."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from services.common.language import Language
from services.common.tables import read_table
from services.connect.completeness import NumbersForecast, SettlingRule
from services.connect.connection_test import PASSED, SKIPPED, StageResult, TestReport, Warned
from services.imap.folders import folder_text
from services.providers.typed_server import HostMistake
from services.registry import states

LANGUAGES: tuple[Language, ...] = ("en", "zh")


@cache
def texts() -> dict[str, Any]:
    """The content of texts.toml."""
    return read_table("services.connect", "texts.toml")


def phrase(name: str, language: Language, **words: str) -> str:
    """A phrase with its words filled in."""
    text: str = texts()["phrase"][name][language]
    return text.format_map(words)


def stage_name(stage: str, language: Language) -> str:
    """What a stage is called."""
    name: str = texts()["stage"][stage][language]["name"]
    return name


def says(report: TestReport, stage: StageResult, language: Language) -> str:
    """What a stage found out."""
    if stage.code == SKIPPED:
        return phrase("skipped", language)
    if stage.code == PASSED:
        text: str = texts()["stage"][stage.name][language]["passed"]
        words = {**report.words, "newest": _newest(report, language)}
        return text.format_map(words)
    return _filled(stage.code, "says", report.words, language)


def next_step(report: TestReport, language: Language) -> str | None:
    """What the person does about the stage that failed; None when none did."""
    return None if report.failed is None else _filled(report.failed.code, "next", report.words, language)


def says_code(code: str, language: Language) -> str | None:
    """The sentence of a code that needs no words of a test; None when it has none."""
    known = texts()["code"].get(code)
    return None if known is None else str(known[language]["says"])


def state_reason(code: str | None, language: Language) -> str:
    """Why a mailbox is in its state, as a sentence: of the event, else of the connection test's code; the code itself where
    neither has one, "" without a code."""
    if code is None:
        return ""
    event = states.load().events.get(code)
    if event is not None and event.says is not None:
        return event.says.text(language)
    return says_code(code, language) or code


def warning(found: Warned, language: Language) -> str:
    """What is worth knowing."""
    text: str = texts()["warning"][found.code][language]
    return text.format_map(found.zh if language == "zh" and found.zh is not None else found.words)


def sentence(report: TestReport, language: Language) -> str:
    """What failed and what to do, in one line; "" when nothing did."""
    failed = report.failed
    return "" if failed is None else f"{says(report, failed, language)} {next_step(report, language)}"


def word(name: str, language: Language) -> str:
    """A value of the directory of providers (a verdict, a kind of secret, a key) in words."""
    return str(texts()["word"][name][language])


def mistyped(found: HostMistake, language: Language) -> str:
    """What is wrong with a server that was typed and what to write instead, in one line."""
    return " ".join(_filled(found.code, part, {"host": found.host}, language) for part in ("says", "next"))


def told(found: NumbersForecast, settling: SettlingRule, language: Language) -> str:
    """Since when the numbers of a mailbox are complete and when that is seen."""
    words = {
        "first_day": f"{found.first_day}", "visible_on": f"{found.visible_on}", "whole_on": f"{found.whole_on}",
        "days": str(settling.window_days), "zone": settling.zone.key, "settle_days": str(settling.settle_days),
    }  # fmt: skip
    names = (
        "complete-from",
        "visible-now" if found.visible_on == found.today else "visible-on",
        "whole-now" if found.whole_on == found.today else "whole-on",
    )
    return ("" if language == "zh" else " ").join(phrase(name, language, **words) for name in names)


def as_data(report: TestReport) -> dict[str, Any]:
    """The report as plain values, every text in both languages."""
    return {
        "passed": report.passed,
        "host": report.host or None,
        "port": report.port,
        "provider": report.provider.id if report.provider is not None else None,
        "code": report.failed.code if report.failed is not None else PASSED,
        "stages": [
            {
                "stage": stage.name,
                "code": stage.code,
                "seconds": stage.seconds,
                "says": {language: says(report, stage, language) for language in LANGUAGES},
            }
            for stage in report.stages
        ],
        "next": {language: next_step(report, language) for language in LANGUAGES} if report.failed else None,
        "reason": {language: report.provider.reason.text(language) for language in LANGUAGES}
        if report.provider
        else None,
        "advice": {language: report.provider.advice.text(language) for language in LANGUAGES}
        if report.provider
        else None,
        "sent_folders": [
            {
                "name": folder_text(folder.name),
                "found_by": folder.found_by,
                "messages": folder.messages,
                "earliest_at": folder.earliest_at,
                "newest_at": folder.newest_at,
            }
            for folder in report.folders
        ],
        "warnings": [
            {"code": found.code, "text": {language: warning(found, language) for language in LANGUAGES}}
            for found in report.warnings
        ],
    }


def _filled(code: str, part: str, words: Mapping[str, str], language: Language) -> str:
    known = texts()["code"]
    text: str = known.get(code, known["server-broken"])[language][part]
    return text.format_map(words)


def _newest(report: TestReport, language: Language) -> str:
    earliest = min((folder.earliest_at for folder in report.folders if folder.earliest_at), default=None)
    newest = max((folder.newest_at for folder in report.folders if folder.newest_at), default=None)
    if not sum(folder.messages for folder in report.folders):
        return phrase("empty", language)
    if earliest is None or newest is None:
        return phrase("undated", language)
    return phrase("newest", language, newest_at=f"{newest:%Y-%m-%d %H:%M} UTC", earliest_at=f"{earliest:%Y-%m-%d}")
