"""Values and rows as other programs read them: the types of JSON, and CSV whose cells are no formulas. Pure."""

import csv
import io
import re
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from services.common.display import printable

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a cell starts with that a spreadsheet evaluates (OWASP, CSV Injection), the full-width forms included."""

_INNER_FORMULA: Final = re.compile(f"""(;[ "']*)([{re.escape("".join(FORMULA))}])""")
"""The same behind a `;`, where a spreadsheet of many European languages begins a new cell, whatever quotes are around it."""


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV (RFC 4180) with a header line; a null is an empty cell.

    Text that a spreadsheet would take for a formula has a `'` before it (docs/command-line.md); numbers are written as they are.
    """
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows([{name: _csv_cell(plain(value)) for name, value in cells.items()} for cells in rows])
    return out.getvalue()


def _csv_cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    is_formula = value.lstrip(" ").startswith(FORMULA)
    text_in_cell = _INNER_FORMULA.sub(r"\1'\2", printable(value))
    return f"'{text_in_cell}" if is_formula else text_in_cell


def plain(value: Any) -> Any:
    """`value` in the types that JSON has."""
    match value:
        case dict():
            return {str(name): plain(part) for name, part in value.items()}
        case list() | tuple():
            return [plain(part) for part in value]
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Decimal():
            return int(value) if value == value.to_integral_value() and abs(value) >= 1 else float(value)
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case _:
            return value
