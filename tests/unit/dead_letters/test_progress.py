"""Which dead letters are done with, as the group of `replyrate dlq` remembers it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dead_letters.progress import MOST_BYTES, Become, Progress, TooScattered, waiting

STATES: tuple[Become, ...] = ("replayed", "left", "purged", "done")
marks = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12), st.sampled_from(STATES)).map(
        lambda drawn: (drawn[0], drawn[0] + drawn[1], drawn[2])
    ),
    max_size=12,
)


def plain(drawn: list[tuple[int, int, Become]]) -> dict[int, str]:
    """The same, letter by letter."""
    found: dict[int, str] = {}
    for first, behind, state in drawn:
        found |= dict.fromkeys(range(first, behind), state)
    return found


def made(drawn: list[tuple[int, int, Become]]) -> Progress:
    held = Progress()
    for first, behind, state in drawn:
        held = held.mark([(first, behind)], state)
    return held


@given(marks, st.integers(0, 20))
def test_what_is_committed_is_read_again(drawn: list[tuple[int, int, Become]], first: int) -> None:
    held, known = made(drawn), plain(drawn)
    again = Progress.read(held.offset(first), held.note(first))
    for offset in range(first, 80):
        assert held.state(offset) == again.state(offset) == known.get(offset, "open")
    left = {offset for a, b in again.open(first, 80) for offset in range(a, b)}
    assert left == {offset for offset in range(first, 80) if offset not in known}
    # What any tool concludes from the offset alone is true.
    assert all(offset in known for offset in range(first, held.offset(first)))
    assert held.offset(first) not in known


def test_the_note_is_the_one_that_is_written_down() -> None:
    held = Progress().mark([(120, 137)], "replayed").mark([(137, 140)], "purged").mark([(144, 145)], "replayed")
    assert (held.offset(120), held.note(120)) == (140, "1:120r17p3-4r1")
    assert Progress.read(140, "1:120r17p3-4r1").open(120, 150) == [(140, 144), (145, 150)]


@pytest.mark.parametrize("note", ["", "somebody else's", "2:0r5", "1:0x5", "1:r5"])
def test_a_note_that_is_not_ours_leaves_the_offset(note: str) -> None:
    held = Progress.read(7, note)
    assert held.open(0, 9) == [(7, 9)] and held.state(3) == "done"


def test_what_does_not_fit_is_told_less_exactly_before_it_is_refused() -> None:
    turns: list[tuple[int, int, Become]] = [(at, at + 1, STATES[at % 2]) for at in range(3000)]
    held = Progress(tuple(turns)).mark([(3500, 3510)], "replayed")
    note = held.note(0)
    assert len(note) <= MOST_BYTES and Progress.read(3000, note).state(10) == "done"
    assert Progress.read(3000, note).state(3505) == "replayed"
    far = Progress().mark([(at, at + 1) for at in range(1, 2600, 2)], "replayed")
    with pytest.raises(TooScattered, match="replyrate dlq purge"):
        far.note(0)


def test_waiting_is_what_the_metric_counts() -> None:
    spans = {("t", 0): (5, 10), ("t", 1): (0, 3)}
    assert waiting(spans, {("t", 0): (6, "1:5p1-2r1")}) == {("t", 0): [(6, 8), (9, 10)], ("t", 1): [(0, 3)]}
