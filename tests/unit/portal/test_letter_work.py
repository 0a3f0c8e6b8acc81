"""What the console keeps of the letters of a dry run, without a broker."""

from datetime import UTC, datetime

from services.common.events import DeadLetter
from services.dead_letters.letters import DeadLetterRecord, spans_of
from services.dead_letters.refusals import NONE
from services.dead_letters.replay import ReplayResult
from services.dead_letters.selection import LetterQuery, Selection
from services.portal.console.operate.letter_work import SHOWN, ShownLetter, Tally, recorded

AT = datetime(2026, 11, 30, tzinfo=UTC)


def result(offset: int, key: bytes = b"c1") -> ReplayResult:
    data = DeadLetter(
        reason="schema", detail="", service="matcher", service_version="0", at=AT, topic="sent-messages.v1", partition=1,
        offset=offset, value="e30=" * 9,
    )  # fmt: skip
    return ReplayResult(DeadLetterRecord(0, offset, key, data, 0), "replayed")


def test_a_dry_run_keeps_runs_of_positions_and_the_first_letters_without_content() -> None:
    tally, letters = Tally(), 3 * SHOWN
    spans = spans_of(tally.counted(("replayed", result(offset)) for offset in range(letters)))
    assert spans == {0: [(0, letters)]} and Selection.of(spans).letters == letters
    assert tally.counts == {"replayed": letters} and len(tally.shown) == SHOWN
    assert tally.shown[7] == ShownLetter("0/7", "schema", "sent-messages.v1", "c1", "replayed", NONE)


def test_a_key_that_is_not_an_id_is_not_shown() -> None:
    for key in (b"a@b.example", b"", b"c\xff", b"c\x1b[0m", b"x" * 129):
        assert ShownLetter.of(result(0, key)).company_id == "", key


def test_the_audit_has_no_text_that_somebody_typed() -> None:
    assert recorded(LetterQuery("sent-messages.v1", "schema", AT)) == {
        "topic": "sent-messages.v1", "reason": "schema", "before": "2026-11-30T00:00:00+00:00", "position": "",
    }  # fmt: skip
    assert set(recorded(LetterQuery("a@b.example", "a@b.example")).values()) == {""}
