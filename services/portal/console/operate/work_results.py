"""The page of each kind of result of long work: its template and values."""

from typing import Any

from services.portal.console.long_work import Work
from services.portal.console.operate import letter_work
from services.portal.console.operate.letter_work import LetterReport
from services.portal.console.operate.rule_work import RuleComparison


def page_of(work: Work) -> tuple[str, dict[str, Any]]:
    """Template and values of finished work."""
    result = work.result
    if isinstance(result, RuleComparison):
        return "console_rules_diff.html", {"comparison": result}
    assert isinstance(result, LetterReport)
    if work.kind in ("replay-check", "purge-check"):
        return "console_letters_check.html", {"report": result, "hidden": letter_work.form_values(result)}
    return "console_letters_done.html", {"report": result}
