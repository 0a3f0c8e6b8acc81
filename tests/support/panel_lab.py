"""Sellers of the tests with a panel: links, browsers without scripts that have opened one, and the figures that a page shows."""

import re
from html.parser import HTMLParser
from math import isclose
from typing import Any

from services.common.postgres import connect
from services.registry.portal_sessions import LinkRequest, PortalSessions
from tests.support.connect_lab import Browser
from tests.support.portal_lab import Portal


def panel_link(dsn: str, company_id: str = "c1", account_id: str = "main", **wanted: Any) -> str:
    """The path of a new link to the panel; `dsn` is the owner's."""
    request = LinkRequest(company_id, account_id, "tests", purpose="panel", **wanted)
    with connect(dsn, "tests") as connection:
        return PortalSessions(connection).make_link(request, 30).url("", request.language)


def panel_browser(portal: Portal, dsn: str, company_id: str = "c1", account_id: str = "main", **wanted: Any) -> Browser:
    """A browser that has opened such a link."""
    return Browser(portal.origin).get(panel_link(dsn, company_id, account_id, **wanted)).fill_in("/link/.*")


def number(text: str) -> float | None:
    """A figure of a page; None when it is missing."""
    return None if text == "" else float(text)


def same(shown: str, expected: Any) -> bool:
    """Whether a figure of a page is what was recounted; missing is equal to missing alone."""
    value = number(shown)
    return value is expected if value is None or expected is None else isclose(value, float(expected), rel_tol=1e-9)


def shows_share(text: str, expected: Any, missing: str = "–") -> bool:
    """Whether a text is a share in percent with one digit; `missing` is what it says without one."""
    if expected is None:
        return text == missing
    shown = re.fullmatch(r"(\d+\.\d) %", text)
    return shown is not None and abs(float(shown[1]) - 100 * float(expected)) < 0.0501


def shows_duration(text: str, expected: Any) -> bool:
    """Whether a text is a duration, to the minute below two days and to the hour above."""
    if expected is None:
        return text == "–"
    shown = re.fullmatch(r"(?:(\d+) d)? ?(?:(\d+) h)? ?(?:(\d+) min)?", text)
    if shown is None or text == "":
        return False
    days, hours, minutes = (int(part or 0) for part in shown.groups())
    tolerance = 1831 if days else 31
    return (
        hours < 48 and minutes < 60 and abs(86400 * days + 3600 * hours + 60 * minutes - float(expected)) <= tolerance
    )


class ShownFigures(HTMLParser):
    """The elements of a page that have an id: their texts and the values for machines, and the tables among them."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        """Id → the attribute `value` of the first `data` element inside."""
        self.value_texts: dict[str, str] = {}
        """Id → what the same element shows."""
        self.texts: dict[str, str] = {}
        """Id → the text inside."""
        self.tables: dict[str, list[list[str]]] = {}
        """Id → the cells of its body: the value for machines where there is one, else the text."""
        self.cells: dict[str, list[list[str]]] = {}
        """The same with what each cell shows."""
        self.attributes: list[dict[str, str]] = []
        self._open: list[tuple[str, str]] = []
        self._valued: list[str] = []
        self._cell: list[str] | None = None
        self._cell_value: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.attributes.append({"tag": tag, **values})
        if tag == "data":
            for _, name in self._open:
                if name and name not in self.values:
                    self.values[name] = values["value"]
                    self._valued.append(name)
            if self._cell is not None:
                self._cell_value = values["value"]
        if tag in ("th", "td"):
            self._cell, self._cell_value = [], None
        if tag == "tr" and (table := self._table()):
            self.tables.setdefault(table, []).append([])
            self.cells.setdefault(table, []).append([])
        if tag not in self.VOID:
            self._open.append((tag, values.get("id", "")))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass
        if tag == "data":
            self._valued.clear()
        if tag in ("th", "td") and self._cell is not None:
            if table := self._table():
                shown = " ".join("".join(self._cell).split())
                self.cells[table][-1].append(shown)
                self.tables[table][-1].append(shown if self._cell_value is None else self._cell_value)
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)
        for name in self._valued:
            self.value_texts[name] = f"{self.value_texts.get(name, '')}{data}"
        for _, name in self._open:
            if name:
                self.texts[name] = f"{self.texts.get(name, '')}{data}"

    def _table(self) -> str:
        """The table whose body is open."""
        if not any(tag == "tbody" for tag, _ in self._open):
            return ""
        return next((name for tag, name in reversed(self._open) if tag == "table"), "")
