"""What the doctor found about a rate that is 0 or missing, as the seller reads it: the likely cause first, its facts, and the next step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from psycopg import Connection

from services.aggregator.doctor import diagnosis
from services.aggregator.doctor.causes import CAUSES, ORDER
from services.common.language import Language
from services.portal.api.seller_diagnosis import fact_text
from services.portal.panel.scope import PanelScope
from services.portal.panel.steps import Step

STEPS: Final[Mapping[str, Step]] = {
    "pipeline-behind": "wait", "no-valid-inquiries": "wait", "all-excluded": "inquiries", "settling-not-over": "wait",
    "address-changed": "connect", "login-failing-since": "reconnect", "mailbox-not-connected": "connect",
    "only-automatic-replies": "inquiries", "provider-window-too-short": "reconnect", "wrong-sent-folder": "folders",
    "copies-deleted": "test-mail", "clock-trouble": "inquiries", "backup-not-connected": "connect-backup",
    "sent-not-stored": "test-mail", "mailbox-does-not-answer": "connect", "buyers-second-address": "inquiries", "none": "inquiries",
}  # fmt: skip
"""Cause → what helps most; a test compares it with the causes of the doctor."""
MOST_CAUSES: Final = 20


@dataclass(frozen=True, slots=True)
class PanelFinding:
    """A cause that the facts allow. `is_likely`: no other cause has a higher confidence. `facts`: names and values that speak for it."""

    cause: str
    confidence: str
    title: str
    advice: str
    facts: tuple[tuple[str, str], ...]
    step: Step
    is_likely: bool


def findings(scope: PanelScope, connection: Connection) -> list[PanelFinding]:
    """The causes of the newest rate, the likely ones first, in the order in which the doctor lists them."""
    causes, _ = scope.page(connection, "diagnosis", MOST_CAUSES)
    order = [cause.code for cause in CAUSES]
    causes.sort(key=lambda cause: (ORDER.index(cause["confidence"]), order.index(cause["cause"])))
    language = scope.reader.language
    return [
        PanelFinding(
            cause["cause"],
            _word("confidence", cause["confidence"], language),
            cause[f"title_{language}"],
            cause[f"advice_{language}"],
            shown_facts(cause["cause"], cause["facts"], language),
            STEPS[cause["cause"]],
            cause["confidence"] == causes[0]["confidence"],
        )
        for cause in causes
    ]


def shown_facts(cause: str, facts: Mapping[str, Any], language: Language) -> tuple[tuple[str, str], ...]:
    """Names and values of the facts that speak for a cause, the number of inquiries first."""
    names = dict.fromkeys(("units", *next(entry.facts for entry in CAUSES if entry.code == cause)))
    return tuple((_word("fact", name, language), fact_text(facts[name], language)) for name in names if name in facts)


def _word(section: str, code: str, language: Language) -> str:
    return str(diagnosis.texts()[section][code][language])
