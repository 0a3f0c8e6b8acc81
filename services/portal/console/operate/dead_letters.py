"""Dead letters: the list, a letter, and the forms that begin a dry run and confirm it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form
from starlette.responses import RedirectResponse, Response

from services.dead_letters import content, reasons
from services.dead_letters.letters import DeadLetterRecord, DeadLetters, NoSuchLetter, parse
from services.dead_letters.selection import LetterQuery, Selection, count, overlap
from services.portal.console.operate import letter_work
from services.portal.console.operate.letter_work import TOPICS, Operation, recorded
from services.portal.console.operate.started_work import begin
from services.portal.console.problems import ConsoleProblem
from services.portal.console.staff import Staff, StaffGate

PATH: Final = "/dead-letters"
NAME: Final = "letters"
PAGE_LETTERS: Final = 50
MOST_READ: Final = 5_000
"""Letters that a page reads at most; the next page goes on behind them."""
AGES: Final = (1, 24, 24 * 7)
"""Ages to choose from, in hours."""
Age = Literal["", "1", "24", "168"]
Digest = Annotated[str, Form(pattern="^[0-9a-f]{32}$")]
Text = Annotated[str, Form(max_length=100)]


@dataclass(frozen=True, slots=True)
class ListChoice:
    """What the list is limited to, as its form sends it."""

    topic: str = ""
    reason: str = ""
    age: Age = ""
    state: Literal["open", "all"] = "open"

    def query(self, now: datetime) -> LetterQuery:
        """The letters of the list."""
        return LetterQuery(self.topic, self.reason, now - timedelta(hours=int(self.age)) if self.age else None)

    def path(self, after: str = "") -> str:
        """The list behind a position."""
        values = {"topic": self.topic, "reason": self.reason, "age": self.age, "state": self.state, "after": after}
        return f"{PATH}?{urlencode({name: value for name, value in values.items() if value})}"


def routes(gate: StaffGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get(PATH)
    def show_list(
        staff: Annotated[Staff, Depends(gate.operating_reader)],
        choice: Annotated[ListChoice, Depends()],
        after: str = "",
    ) -> Response:
        query = choice.query(staff.resources.clock())
        with DeadLetters(staff.resources.settings.kafka) as letters:
            waiting = count(letters.waiting())
            shown, following = _page_of(letters, choice, query, after)
        staff.note_letters(
            "letters", {content.company_id(letter) for letter in shown}, **recorded(query), state=choice.state,
            letters=len(shown),
        )  # fmt: skip
        return staff.page(
            "console_letters.html", NAME, letters=shown, waiting=waiting, choice=choice, topics=TOPICS, ages=AGES,
            reasons=sorted(reasons.load()), following=choice.path(following) if following else "", is_continued=bool(after),
            company_id=content.company_id,
        )  # fmt: skip

    @router.get(PATH + "/{partition}/{offset}")
    def show(staff: Annotated[Staff, Depends(gate.operating_reader)], partition: str, offset: str) -> Response:
        try:
            with DeadLetters(staff.resources.settings.kafka) as letters:
                letter = letters.at(f"{partition}/{offset}")
        except NoSuchLetter:
            raise ConsoleProblem("not-found") from None
        staff.note_letters("letter", {content.company_id(letter)}, position=letter.position)
        return staff.page(
            "console_letter.html", NAME, letter=letter, explained=reasons.explain(letter.reason),
            size=content.size(letter), fields=content.fields(letter),
            company_id=content.company_id(letter),
        )  # fmt: skip

    _add_changes(router, gate)
    return router


def _add_changes(router: APIRouter, gate: StaffGate) -> None:
    @router.post(PATH + "/check")
    def check(
        staff: Annotated[Staff, Depends(gate.operating_sender)],
        operation: Annotated[Operation, Form()],
        topic: Text = "",
        reason: Text = "",
        age: Annotated[Age, Form()] = "",
        position: Text = "",
    ) -> Response:
        query = ListChoice(topic, reason, age).query(staff.resources.clock())
        return _begin_check(staff, operation, LetterQuery(query.topic, query.reason, query.before, position))

    @router.post(PATH + "/carry-out")
    def carry_out(
        staff: Annotated[Staff, Depends(gate.operating_sender)],
        operation: Annotated[Operation, Form()],
        ends: Annotated[str, Form(max_length=20_000)],
        letters: Annotated[int, Form(ge=1)],
        digest: Digest,
        topic: Text = "",
        reason: Text = "",
        before: Text = "",
        position: Text = "",
    ) -> Response:
        try:
            instant = datetime.fromisoformat(before) if before else None
            selection = Selection(letter_work.ends_from(ends), letters, digest)
        except ValueError:
            raise ConsoleProblem("form-incomplete") from None
        query = LetterQuery(topic, reason, instant, position)
        return begin(staff, operation, partial(letter_work.carry_out, staff, operation, query, selection))


def _begin_check(staff: Staff, operation: Operation, query: LetterQuery) -> RedirectResponse:
    kind: Literal["replay-check", "purge-check"] = "replay-check" if operation == "replay" else "purge-check"
    return begin(staff, kind, partial(letter_work.check, staff, operation, query))


def _page_of(
    letters: DeadLetters, choice: ListChoice, query: LetterQuery, after: str
) -> tuple[list[DeadLetterRecord], str]:
    """The letters of a page, and the position behind which the next one begins; "" when there is none."""
    spans = letters.waiting() if choice.state == "open" else letters.everything()
    if after:
        try:
            partition, offset = parse(after)
        except NoSuchLetter:
            raise ConsoleProblem("not-found") from None
        behind = {
            number: [(offset + 1 if number == partition else 0, 2**63)] for number in spans if number >= partition
        }
        spans = overlap(spans, behind)
    shown: list[DeadLetterRecord] = []
    last = ""
    for number, letter in enumerate(letters.read(spans)):
        if len(shown) == PAGE_LETTERS or number == MOST_READ:
            return shown, last
        last = letter.position
        if query.matches(letter):
            shown.append(letter)
    return shown, ""
