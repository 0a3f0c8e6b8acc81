"""The conditions of the causes, tried on facts written by hand, and their texts."""

from dataclasses import fields, replace
from datetime import date
from string import Formatter
from typing import Any

import pytest

from services.aggregator.doctor.causes import CAUSES, Cause, Finding, by_share, diagnose, facts, of_company
from services.aggregator.doctor.diagnosis import LANGUAGES, advice, texts
from services.aggregator.doctor.symptoms import Symptoms

DAY = date(2026, 11, 1)
SILENT = Symptoms(
    company_id="c", account_id="a", as_of=DAY, window_start=DAY, window_end=DAY, inquiries=10, unanswered=10, silent_units=10,
    mailboxes=1, mailboxes_read=1,
)  # fmt: skip
"""A mailbox that is read completely, and ten inquiries without an answer."""


def top(symptoms: Symptoms) -> tuple[str, set[str]]:
    findings = diagnose(symptoms)
    return findings[0].confidence, {
        finding.cause for finding in findings if finding.confidence == findings[0].confidence
    }


@pytest.mark.parametrize(
    ("changes", "confidence", "causes"),
    [
        ({}, "medium", {"sent-not-stored", "mailbox-does-not-answer", "none"}),
        ({"mailboxes_filing": 1}, "medium", {"mailbox-does-not-answer", "none"}),
        ({"sent": 50}, "medium", {"mailbox-does-not-answer", "buyers-second-address", "none"}),
        (
            {"sent": 50, "backups_unconnected": 1},
            "medium", {"backup-not-connected", "mailbox-does-not-answer", "buyers-second-address", "none"},
        ),
        ({"other_messages": 30, "other_folders": 1, "other_grown": 9}, "high", {"wrong-sent-folder"}),
        ({"gone": 8}, "high", {"copies-deleted"}),
        # Even if a folder is certainly the wrong one, it explains no more than was read.
        (
            {"other_messages": 30, "other_grown": 9, "gone": 9, "silent_units": 1, "unmeasured": 9, "unanswered": 1,
             "mailboxes_failing": 1, "units_blind": 9},
            "high", {"login-failing-since"},
        ),
        ({"gone": 2}, "medium", {"sent-not-stored", "mailbox-does-not-answer", "none"}),
        ({"silent_units": 1, "automatic_units": 9, "sent": 9}, "high", {"only-automatic-replies"}),
        ({"mailboxes_changed": 1, "units_changed": 9, "silent_units": 1}, "high", {"address-changed"}),
        ({"mailboxes_changed": 1}, "medium", {"address-changed", "sent-not-stored", "mailbox-does-not-answer", "none"}),
        ({"mailboxes_changed": 1, "sent": 9}, "medium", {"mailbox-does-not-answer", "buyers-second-address", "none"}),
        ({"mailboxes_failing": 1, "units_blind": 10, "silent_units": 0}, "high", {"login-failing-since"}),
        ({"mailboxes": 0, "mailboxes_read": 0, "unanswered": 0, "unmeasured": 10, "silent_units": 0}, "high",
         {"mailbox-not-connected"}),
        ({"synced": True, "mailboxes": 0, "silent_units": 0}, "high", {"none"}),
        ({"unanswered": 0, "silent_units": 0, "late": 10, "sent": 10}, "high", {"none"}),
        (
            {"unanswered": 0, "silent_units": 0, "late": 10, "sent": 10, "sent_all": 10, "sent_suspect": 10, "suspect_units": 10},
            "high", {"clock-trouble"},
        ),
        ({"inquiries": 0, "unanswered": 0, "silent_units": 0}, "high", {"no-valid-inquiries"}),
        ({"unanswered": 0, "silent_units": 0, "excluded": 10}, "high", {"all-excluded"}),
        ({"inquiries": 0, "unanswered": 0, "silent_units": 0, "later_inquiries": 3}, "high", {"settling-not-over"}),
        ({"settling": True, "units_before": 10, "mailboxes_scanning": 1}, "high", {"settling-not-over"}),
        ({"settling": True, "units_before": 10, "silent_units": 0, "unanswered": 0, "unmeasured": 10}, "high",
         {"settling-not-over"}),
        ({"settling": True, "units_before": 10}, "medium",
         {"settling-not-over", "sent-not-stored", "mailbox-does-not-answer", "none"}),
        ({"units_invisible": 9, "sent": 90}, "high", {"provider-window-too-short"}),
        ({"waiting_seconds": 1000, "gone": 8}, "high", {"pipeline-behind"}),
        # No rate because too few units were counted, all of them in time.
        ({"timely": 3, "unanswered": 0, "silent_units": 0}, "high", {"none"}),
    ],
)  # fmt: skip
def test_facts_give_the_expected_causes_and_confidence(
    changes: dict[str, Any], confidence: str, causes: set[str]
) -> None:
    assert top(replace(SILENT, **changes)) == (confidence, causes)


def test_no_other_cause_is_sure_while_the_pipeline_is_behind() -> None:
    findings = diagnose(replace(SILENT, gone=8, waiting_seconds=1000))
    assert [finding.cause for finding in findings if finding.confidence == "high"] == ["pipeline-behind"]
    assert ("copies-deleted", "medium") in [(finding.cause, finding.confidence) for finding in findings]


def test_the_share_of_units_decides_the_confidence() -> None:
    assert [by_share(units, 10) for units in (0, 1, 4, 8, 10)] == [None, "low", "medium", "high", "high"]
    assert [by_share(units, units) for units in (1, 2, 3)] == ["medium", "medium", "high"]


def test_a_company_has_the_causes_of_most_of_its_units() -> None:
    """Nine tenths of the units wait for a login, one tenth is unanswered; an account without inquiries has no weight."""
    failing = replace(
        SILENT, account_id="a", unanswered=0, unmeasured=90, silent_units=0, mailboxes_failing=1, units_blind=90
    )
    silent = replace(SILENT, account_id="b", sent=50)
    idle = replace(SILENT, account_id="d", inquiries=0, unanswered=0, silent_units=0)
    findings = of_company([(account, diagnose(account)) for account in (failing, silent, idle)])
    assert (findings[0].cause, findings[0].confidence) == ("login-failing-since", "high")
    assert {finding.confidence for finding in findings[1:]} == {"low"}
    assert "no-valid-inquiries" not in {finding.cause for finding in findings}
    alone = of_company([(idle, diagnose(idle))])
    assert [finding.cause for finding in alone] == ["no-valid-inquiries"]


def test_the_facts_of_a_company_are_added_up_from_its_accounts() -> None:
    first = replace(SILENT, mailboxes_failing=1, units_blind=10, failing_since_on=date(2026, 10, 3))
    second = replace(first, account_id="b", failing_since_on=date(2026, 9, 1), units_blind=9)
    findings = of_company([(first, diagnose(first)), (second, diagnose(second))])
    assert findings[0].facts == {
        "units": 20, "failing_since_on": "2026-09-01", "mailboxes_failing": 2, "units_blind": 19,
    }  # fmt: skip


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.code)
def test_every_cause_has_its_texts_in_both_languages(cause: Cause) -> None:
    shown = {symptom.name for symptom in fields(Symptoms)} | {"units"}
    assert set(cause.facts) <= shown
    for by_language in texts()[cause.code].values():
        assert set(by_language) == set(LANGUAGES)
        named = [{name for _, name, _, _ in Formatter().parse(by_language[language]) if name} for language in LANGUAGES]
        assert named[0] == named[1] <= {*cause.facts, "units"}
    for name in ("units", *cause.facts):
        assert set(texts()["fact"][name]) == set(LANGUAGES)
    finding = Finding(cause.code, "high", facts(SILENT, cause))
    assert all("{" not in advice(finding, language) for language in LANGUAGES)
    seller = texts()[cause.code].get("seller", texts()[cause.code]["advice"])
    assert not any("replyrate" in seller[language] or "--" in seller[language] for language in LANGUAGES)
    assert cause.confidence.__doc__


def test_without_a_mailbox_nothing_is_said_of_what_it_sent() -> None:
    bare = replace(
        SILENT,
        silent_units=0,
        unanswered=0,
        unmeasured=10,
        mailboxes=0,
        mailboxes_read=0,
        sent=0,
        sent_all=0,
        backups_unconnected=1,
    )
    finding = next(finding for finding in diagnose(bare) if finding.cause == "backup-not-connected")
    assert finding.facts == {
        "units": 10, "silent_units": None, "sent": None, "answered_by_mail": None, "backups_unconnected": 1,
    }  # fmt: skip
    assert "no mailbox of it is connected" in advice(finding, "en") and "0" not in advice(finding, "en")
    connected = next(
        finding
        for finding in diagnose(replace(SILENT, backups_unconnected=1))
        if finding.cause == "backup-not-connected"
    )
    assert connected.facts["sent"] == SILENT.sent and "the connected one has answered 0 inquiries" in advice(
        connected, "en"
    )


def test_every_text_belongs_to_a_cause_a_fact_or_a_confidence() -> None:
    codes = {cause.code for cause in CAUSES}
    assert set(texts()) == codes | {"fact", "confidence"}
    assert set(texts()["fact"]) == {"units"} | {name for cause in CAUSES for name in cause.facts}
