"""The demo's report: one line a company, the likely cause first."""

from typing import Any

import pytest

from services.standalone.demo.report import DemoReport, figures, likely_cause, print_differences, print_report


def story(*titles: str) -> dict[str, Any]:
    findings = [{"cause": title, "confidence": "medium", "title": title} for title in titles]
    return {
        "company_id": "bf-valves", "title": "Beifang Valves", "mailboxes": 1, "mailbox_states": "active", "addresses": None,
        "seen": {"human": 64, "bulk": 7}, "matched": 0, "platform_replies": 0, "synced_from": None, "complete_through": None,
        "diagnosis": findings,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("titles", "line"),
    [
        (("Wrong mailbox",), "Wrong mailbox (medium confidence)"),
        (
            ("Wrong mailbox", "No copies"),
            "Wrong mailbox (medium confidence), and 1 other possible cause: replyrate doctor bf-valves",
        ),
        (
            ("Wrong mailbox", "No copies", "Aliases", "Right"),
            "Wrong mailbox (medium confidence), and 3 other possible causes: replyrate doctor bf-valves",
        ),
    ],
)
def test_the_likely_cause_comes_first_and_the_command_names_the_others(titles: tuple[str, ...], line: str) -> None:
    assert likely_cause(story(*titles)) == line


def test_figures_are_one_line_without_conclusions() -> None:
    assert figures(story()) == "mailboxes 1 (active); sent mail seen: 7 bulk, 64 human; replies matched 0"


def test_each_company_with_a_rate_of_0_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    report = DemoReport(stories=[story(), story("Wrong mailbox", "No copies")], checked_rows=2, checked_outcomes=3)
    print_report(report)
    printed = capsys.readouterr().out
    assert printed.count("Wrong mailbox") == 1 and "No copies" not in printed
    assert "2 rates and 3 outcomes agree with the recount" in printed


def test_differences_go_to_standard_error_and_into_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    report = DemoReport(differences=["rate is 0.5, must be 0.6"])
    print_differences(report)
    print_report(report)
    printed = capsys.readouterr()
    assert "must be 0.6" in printed.err and "DO NOT agree with the recount" in printed.out
    assert report.as_json()["agrees"] is False
