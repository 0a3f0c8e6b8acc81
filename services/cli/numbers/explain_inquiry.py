"""The explanation of one inquiry, printed."""

from typing import Any

from services.aggregator.explanation_page import explanation_page
from services.aggregator.texts import Texts
from services.cli.numbers.story_parts import print_section, print_table
from services.cli.output import SafeConsole


def print_explanation(story: dict[str, Any], text: Texts) -> None:
    """Print the whole explanation for people."""
    out, page = SafeConsole(), explanation_page(story, text)
    out.print(f"\n{page.title}", style="bold", markup=False)
    for sentence in page.sentences:
        out.print(sentence, markup=False)
    if page.note:
        out.print(page.note, style="yellow", markup=False)
    if page.unit:
        print_section(out, page.unit_title)
        out.print(page.unit, markup=False)
    for table in page.tables:
        print_table(out, table.title, table.heads, table.rows, text)
