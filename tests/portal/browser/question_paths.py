"""The way from the panel to the answer of each frequent question, as data; and the table of docs/panel.md that shows them.

`python -m tests.portal.browser.question_paths` writes the table.
"""

from dataclasses import dataclass
from typing import Final

from services.common.language import Language
from services.portal.pages import texts as page_texts
from services.portal.panel import texts
from services.portal.panel.questions import QUESTIONS
from services.standalone.servers.paths import ROOT

PAGE: Final = ROOT / "docs" / "panel.md"
BEGIN: Final = "<!-- questions: rendered by `python -m tests.portal.browser.question_paths` -->"
END: Final = "<!-- end of questions -->"
MOST_CLICKS: Final = 3


@dataclass(frozen=True, slots=True)
class QuestionPath:
    """Where a seller sees the answer for the own case. `clicks`: what is clicked from the overview on, each as a selector and the name of its
    text; `place`: what is on screen then; `text`: a text of it, "" for figures of the seller. `reader`: a company of the demo world
    whose main account it shows."""

    code: str
    clicks: tuple[tuple[str, str], ...]
    place: str
    text: str = ""
    reader: str = "bf-valves"


def _paths() -> dict[str, QuestionPath]:
    questions = ("nav.tabs a[href*='/questions']", "nav.questions")

    def path(
        code: str, place: str, text: str = "", *further: tuple[str, str], reader: str = "bf-valves"
    ) -> QuestionPath:
        page = next(question.page for question in QUESTIONS if question.code == code)
        link = (f"section[aria-labelledby=question-{code}] a", f"nav.{page}")
        return QuestionPath(code, (questions, link, *further), place, text, reader)

    stored = ("a[href$='/stored']", "mailboxes.stored")
    paths = (
        path("content", "main", "stored.title", stored),
        path("when", ".hero", "rate.window"),
        path("gmail", "section[aria-labelledby=gmail] .facts"),
        path("pop3", "main", "providers.pop3"),
        path("sub_accounts", "main", "mailboxes.own_only"),
        path("addresses", "form[action='/connect/new']", "mailboxes.which"),
        path("password", "section[aria-labelledby=netease-163] .facts", "providers.secret"),
        path("own_mail", ".result", "mailboxes.synced", reader="jh-marine"),
        path("where", "#rate data"),
        path("zero", ".finding .actions :is(a.button, button)"),
    )
    return {question_path.code: question_path for question_path in paths}


PATHS: Final = _paths()
"""Question → its path, in the order of the page."""


def shown_text(name: str, language: Language) -> str:
    """A text of the panel or the connect page, up to its first placeholder."""
    if not name:
        return ""
    table, _, key = name.partition(".")
    tables = texts.load() if table in texts.load() and key in texts.load()[table] else page_texts.load()
    return str(tables[table][key][language]).partition("{")[0]


def render() -> str:
    """The table."""
    lines = [
        "| Question | 问题 | Clicks | 点击 |",
        "|---|---|---|---|",
    ]
    for path in PATHS.values():
        cells = [shown_text(f"question.{path.code}", language) for language in ("en", "zh")]
        steps = [" → ".join(shown_text(name, language) for _, name in path.clicks) for language in ("en", "zh")]
        lines.append(f"| {' | '.join(cells)} | {len(path.clicks)}: {' | '.join(steps)} |")
    return "\n".join([BEGIN, *lines, END])


def main() -> None:
    page = PAGE.read_text("utf-8")
    before, _, after = page.partition(BEGIN)
    PAGE.write_text(before + render() + after.partition(END)[2], "utf-8")


if __name__ == "__main__":
    main()
