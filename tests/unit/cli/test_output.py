"""How data and progress are printed."""

import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from rich.console import Console
from rich.table import Table

from services.cli.output import (
    ProgressBars,
    SafeConsole,
    StatusLine,
    echo,
    print_json,
    print_table,
    text,
)
from services.common.display import parameter_text
from services.common.tabular import as_csv, plain


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


HOSTILE = "a\x1b]0;title\x07\x1b[2J\x9b31m\r\x00\u202eb\u2028c\ud800[/b][/x][red]:smile:"
VISIBLE = r"a\x1b]0;title\x07\x1b[2J\x9b31m\r\x00\u202eb\u2028c\ud800[/b][/x][red]:smile:"


def raw_characters(printed: str) -> set[str]:
    """What a terminal would interpret or not show, line feeds aside."""
    return {
        char
        for char in printed
        if char != "\n" and (ord(char) < 32 or 127 <= ord(char) < 160 or char in "\u202e\u2028\ud800")
    }


def test_text_from_outside_is_printed_as_visible_escapes_and_never_as_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = SafeConsole()
    console.width = 300
    console.print(HOSTILE)
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    console.print(table)
    print_table([{"id": HOSTILE + "\n2"}], {"id": HOSTILE}, HOSTILE)
    echo(HOSTILE)
    printed = capsys.readouterr().out
    assert printed.count(VISIBLE) == 8 and VISIBLE + r"\n2" in printed
    assert raw_characters(printed) == set()


def test_progress_prints_text_from_outside_as_visible_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBars() as report:
        report(HOSTILE, 1, 2)
    out = io.StringIO()
    with StatusLine(Console(file=out, force_terminal=False, width=200)) as status:
        status.update(HOSTILE)
    assert out.getvalue() == VISIBLE + "\n"


def test_json_is_the_same_value_without_a_character_that_a_terminal_interprets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json({"id": HOSTILE, "name": "张三 \U000e0041"})
    printed = capsys.readouterr().out
    assert raw_characters(printed) == set() and "张三" in printed and "\U000e0041" not in printed
    assert json.loads(printed) == {"id": HOSTILE, "name": "张三 \U000e0041"}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_a_csv_cell_is_never_a_formula(start: str) -> None:
    cell = as_csv([{"id": f"{start}cmd|' /C calc'!A0"}]).split("\r\n", 1)[1]
    assert cell.lstrip('"').startswith("'")


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "＝", "＠"])
@pytest.mark.parametrize("before", [" ", "   ", "shop;", "shop; ", 'shop;"', "shop;'", 'a;" "', 'a;b;c";'], ids=repr)
def test_no_part_of_a_cell_is_a_formula_whichever_separator_a_spreadsheet_uses(before: str, sign: str) -> None:
    line = as_csv([{"id": f"{before}{sign}1+1", "next": "x"}]).split("\r\n")[1]
    for separator in (",", ";", "\t"):
        for cell in next(csv.reader([line], delimiter=separator)):
            assert not cell.strip(" \"'").startswith(sign) or "'" in cell[: cell.index(sign)], (separator, cell)


def test_a_semicolon_before_other_text_stays_as_it_is() -> None:
    assert as_csv([{"id": "a;b; c-d;e"}]) == "id\r\na;b; c-d;e\r\n"


def test_numbers_dates_and_nulls_in_csv_are_written_as_they_are() -> None:
    cells = {
        "count": -3,
        "rate": Decimal("-0.25"),
        "day": date(2026, 11, 20),
        "none": None,
        "id": "shop-1",
        "control": "a\x1bb",
    }
    header, line = as_csv([cells]).splitlines()
    assert header == "count,rate,day,none,id,control"
    assert line == r"-3,-0.25,2026-11-20,,shop-1,a\x1bb"
