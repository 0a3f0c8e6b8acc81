"""The table of conditions on facts written by hand, and the texts that go with it."""

from dataclasses import fields, replace
from datetime import date
from string import Formatter
from typing import Any

import pytest

from services.aggregator.doctor.causes import CAUSES, Cause, Finding, Symptoms, diagnose, facts, of_company, part
from services.aggregator.doctor.diagnosis import LANGUAGES, advice, texts

DAY = date(2026, 11, 1)
SILENT = Symptoms(
    company_id="c", account_id="a", as_of=DAY, window_start=DAY, window_end=DAY, inquiries=10, unanswered=10, silent_units=10,
    mailboxes=1, mailboxes_read=1,
)  # fmt: skip
"""A mailbox that is read to the end, and ten inquiries that nothing answers."""


def top(e: Symptoms) -> tuple[str, set[str]]:
    found = diagnose(e)
    return found[0].confidence, {one.cause for one in found if one.confidence == found[0].confidence}


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
        # However surely a folder is the wrong one, it explains no more than was read.
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
        # A rate that is missing because too few were counted, all of them in time.
        ({"timely": 3, "unanswered": 0, "silent_units": 0}, "high", {"none"}),
    ],
)  # fmt: skip
def test_facts_lead_to_causes(changes: dict[str, Any], confidence: str, causes: set[str]) -> None:
    assert top(replace(SILENT, **changes)) == (confidence, causes)


def test_other_causes_are_held_down_while_facts_wait() -> None:
    found = diagnose(replace(SILENT, gone=8, waiting_seconds=1000))
    assert [one.cause for one in found if one.confidence == "high"] == ["pipeline-behind"]
    assert ("copies-deleted", "medium") in [(one.cause, one.confidence) for one in found]


def test_the_part_decides() -> None:
    assert [part(units, 10) for units in (0, 1, 4, 8, 10)] == [None, "low", "medium", "high", "high"]
    assert [part(units, units) for units in (1, 2, 3)] == ["medium", "medium", "high"]


def test_a_company_is_what_most_of_its_units_are() -> None:
    """Nine tenths of the units wait for a login, one tenth is not answered; an account without inquiries says nothing."""
    failing = replace(
        SILENT, account_id="a", unanswered=0, unmeasured=90, silent_units=0, mailboxes_failing=1, units_blind=90
    )
    silent = replace(SILENT, account_id="b", sent=50)
    idle = replace(SILENT, account_id="d", inquiries=0, unanswered=0, silent_units=0)
    found = of_company([(one, diagnose(one)) for one in (failing, silent, idle)])
    assert (found[0].cause, found[0].confidence) == ("login-failing-since", "high")
    assert {one.confidence for one in found[1:]} == {"low"}
    assert "no-valid-inquiries" not in {one.cause for one in found}
    alone = of_company([(idle, diagnose(idle))])
    assert [one.cause for one in alone] == ["no-valid-inquiries"]


def test_facts_of_a_company_are_those_of_its_accounts_together() -> None:
    one = replace(SILENT, mailboxes_failing=1, units_blind=10, failing_since_on=date(2026, 10, 3))
    other = replace(one, account_id="b", failing_since_on=date(2026, 9, 1), units_blind=9)
    found = of_company([(one, diagnose(one)), (other, diagnose(other))])
    assert found[0].facts == {
        "units": 20, "failing_since_on": "2026-09-01", "mailboxes_failing": 2, "units_blind": 19,
    }  # fmt: skip


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.code)
def test_every_cause_has_its_texts_in_both_languages(cause: Cause) -> None:
    known = {one.name for one in fields(Symptoms)} | {"units"}
    assert set(cause.facts) <= known
    for part_of in ("title", "advice"):
        held = texts()[cause.code][part_of]
        assert set(held) == set(LANGUAGES)
        named = [{name for _, name, _, _ in Formatter().parse(held[one]) if name} for one in LANGUAGES]
        assert named[0] == named[1] <= {*cause.facts, "units"}
    for name in ("units", *cause.facts):
        assert set(texts()["fact"][name]) == set(LANGUAGES)
    finding = Finding(cause.code, "high", facts(SILENT, cause))
    assert all("{" not in advice(finding, language) for language in LANGUAGES)
    assert cause.confidence.__doc__


def test_no_text_stands_for_nothing() -> None:
    codes = {cause.code for cause in CAUSES}
    assert set(texts()) == codes | {"fact", "confidence"}
    assert set(texts()["fact"]) == {"units"} | {name for cause in CAUSES for name in cause.facts}
