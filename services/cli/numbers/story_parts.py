"""Parts of a printed explanation (headings, tables, instants), used by `explain` and `explain --message`."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from services.aggregator.texts import Texts


def print_section(out: Console, title: str) -> None:
    """Print a heading."""
    out.print(f"\n{title}", style="bold cyan", markup=False)


def print_table(out: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], text: Texts) -> None:
    """Print a table below a heading; the word for none when it has no rows."""
    print_section(out, title)
    if not rows:
        out.print(text("label", "none"), markup=False)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, head in enumerate(heads):
        table.add_column(head, overflow="fold", no_wrap=number == 0)
    for cells in rows:
        table.add_row(*cells)
    out.print(table, markup=False)
