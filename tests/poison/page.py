"""The table of docs/dev/records.md: kind × topic. `python -m tests.poison.page` writes the page."""

from typing import Final

from services.standalone.servers.paths import ROOT
from tests.poison.kinds import KINDS, TOPICS

PAGE: Final = ROOT / "docs" / "dev" / "records.md"
BEGIN, END = "<!-- kinds: rendered by `python -m tests.poison.page` -->\n", "<!-- end of kinds -->"
WORDS: Final = {
    "counts": "counts",
    "moved": "moved, counts",
    "nothing": "not delivered",
    "refused": "refused by Kafka",
}


def table() -> str:
    """Markdown of every kind; a dead letter is shown by its reason."""
    lines = [f"| Group | Kind | {' | '.join(f'`{topic}`' for topic in TOPICS)} |", "|---" * (len(TOPICS) + 2) + "|"]
    for kind in KINDS:
        outcomes = [kind.on(topic) for topic in TOPICS]
        cells = [WORDS.get(outcome, f"dead letter `{outcome}`") for outcome in outcomes]
        lines.append(f"| {kind.group} | {kind.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def render(page: str) -> str:
    """The page with its table replaced."""
    return page[: page.index(BEGIN) + len(BEGIN)] + table() + page[page.index(END) :]


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text("utf-8")), "utf-8")
