"""The texts of the panel: the pages use each of them, and use no other."""

import re
from collections.abc import Iterator
from importlib import resources

from services.portal.panel import texts
from services.portal.panel.findings import STEPS
from services.portal.panel.frame import NOTES

PLAIN = re.compile(r'\b(?:p|says|text)\("([a-z_]+\.[a-z0-9_-]+)"')
OF_A_CODE = re.compile(r'\b(?:p\("([a-z_]+)\." ~|(?:says|text)\(f"([a-z_]+)\.\{)')
CODES = {
    "frame": tuple(NOTES),
    "rate": ("final", "provisional"),
    "mailboxes": ("registered", "backup"),
    "step": tuple(set(STEPS.values())),
}
"""Table → the codes that name its texts. In the tables that are not here every text is named by a code."""


def sources() -> Iterator[str]:
    """Templates and modules of the panel."""
    portal = resources.files("services.portal")
    for folder in ("templates", "panel"):
        for file in (portal / folder).iterdir():
            if file.name.endswith((".py", ".html")) and not file.name.startswith("console"):
                yield file.read_text(encoding="utf-8")


def test_pages_use_every_text_and_no_other() -> None:
    used: set[str] = set()
    table_names: set[str] = set()
    for source in sources():
        used |= set(PLAIN.findall(source))
        table_names |= {name for names in OF_A_CODE.findall(source) for name in names if name}
    tables = texts.load()
    for name in table_names:
        used |= {f"{name}.{code}" for code in CODES.get(name, tables[name])}
    assert used == {f"{name}.{key}" for name, table in tables.items() for key in table}
