"""How data and progress are printed."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from rich.console import Console

from services.cli.output import StatusLine, parameter_text, plain, print_table, text


def test_a_step_that_repeats_is_printed_once_when_output_is_not_a_terminal() -> None:
    out = io.StringIO()
    with StatusLine(Console(file=out, force_terminal=False)) as status:
        for step in (
            "starting Kafka",
            "first scan: 0 of 9 mailboxes",
            "first scan: 0 of 9 mailboxes",
            "first scan: 4 of 9 mailboxes",
        ):
            status.update(step)
    assert out.getvalue().splitlines() == [
        "starting Kafka", "first scan: 0 of 9 mailboxes", "first scan: 4 of 9 mailboxes",
    ]  # fmt: skip


def test_a_terminal_shows_the_step_on_a_line_that_is_erased() -> None:
    out = io.StringIO()
    with StatusLine(Console(file=out, force_terminal=True, width=80)) as status:
        status.update("first scan: 0 of 9 mailboxes")
    assert "\x1b[2K" in out.getvalue()


def test_each_row_of_a_table_is_one_line_when_output_is_not_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"name": f"{number} " + "long name " * 20} for number in range(3)], {"name": "rule set"})
    assert [line[:1] for line in capsys.readouterr().out.splitlines()] == ["r", "0", "1", "2"]


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (datetime(2026, 11, 20, 10, tzinfo=UTC), "2026-11-20T10:00:00Z"),
        (date(2026, 11, 20), "2026-11-20"),
        (Decimal("3"), 3),
        (Decimal("0.5"), 0.5),
        (b"Sent", "Sent"),
        ({"days": (date(2026, 11, 20),)}, {"days": ["2026-11-20"]}),
    ],
)
def test_json_has_plain_values(value: object, printed: object) -> None:
    assert plain(value) == printed


def test_cells_and_parameters_as_text() -> None:
    assert (text(None), text(datetime(2026, 11, 20, 10, 5, 7, tzinfo=UTC))) == ("–", "2026-11-20 10:05")
    assert parameter_text(["spam", {"status": "trashed", "within": None}]) == "spam, status=trashed"
    assert parameter_text([]) == "–"
