"""Which dead letters are processed, as the group of `replyrate dlq` stores it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dead_letters.progress import MAX_METADATA_BYTES, Disposition, Progress, TooScattered, open_letters

DISPOSITIONS: tuple[Disposition, ...] = ("replayed", "left", "purged", "done")
Marks = list[tuple[int, int, Disposition]]
marks = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12), st.sampled_from(DISPOSITIONS)).map(
        lambda drawn: (drawn[0], drawn[0] + drawn[1], drawn[2])
    ),
    max_size=12,
)


def states_of(drawn: Marks) -> dict[int, str]:
    """The state of each letter, letter by letter."""
    states: dict[int, str] = {}
    for first, end, state in drawn:
        states |= dict.fromkeys(range(first, end), state)
    return states


def progress_of(drawn: Marks) -> Progress:
    progress = Progress()
    for first, end, state in drawn:
        progress = progress.mark([(first, end)], state)
    return progress


@given(marks, st.integers(0, 20))
def test_what_is_committed_is_read_back(drawn: Marks, first: int) -> None:
    progress, states = progress_of(drawn), states_of(drawn)
    read_back = Progress.from_commit(progress.offset(first), progress.to_metadata(first))
    for offset in range(first, 80):
        assert progress.state(offset) == read_back.state(offset) == states.get(offset, "open")
    open_offsets = {offset for a, b in read_back.open_spans(first, 80) for offset in range(a, b)}
    assert open_offsets == {offset for offset in range(first, 80) if offset not in states}
    # What any tool concludes from the offset alone is true.
    assert all(offset in states for offset in range(first, progress.offset(first)))
    assert progress.offset(first) not in states


def test_the_metadata_has_the_documented_form() -> None:
    progress = Progress().mark([(120, 137)], "replayed").mark([(137, 140)], "purged").mark([(144, 145)], "replayed")
    assert (progress.offset(120), progress.to_metadata(120)) == (140, "1:120r17p3-4r1")
    assert Progress.from_commit(140, "1:120r17p3-4r1").open_spans(120, 150) == [(140, 144), (145, 150)]


@pytest.mark.parametrize("metadata", ["", "of another program", "2:0r5", "1:0x5", "1:r5"])
def test_metadata_of_another_form_leaves_the_offset(metadata: str) -> None:
    progress = Progress.from_commit(7, metadata)
    assert progress.open_spans(0, 9) == [(7, 9)] and progress.state(3) == "done"


def test_details_that_do_not_fit_are_dropped_before_the_commit_is_refused() -> None:
    alternating: Marks = [(offset, offset + 1, DISPOSITIONS[offset % 2]) for offset in range(3000)]
    progress = Progress(tuple(alternating)).mark([(3500, 3510)], "replayed")
    metadata = progress.to_metadata(0)
    assert len(metadata) <= MAX_METADATA_BYTES and Progress.from_commit(3000, metadata).state(10) == "done"
    assert Progress.from_commit(3000, metadata).state(3505) == "replayed"
    scattered = Progress().mark([(offset, offset + 1) for offset in range(1, 2600, 2)], "replayed")
    with pytest.raises(TooScattered, match="replyrate dlq purge"):
        scattered.to_metadata(0)


def test_open_letters_are_what_the_metric_counts() -> None:
    spans = {("t", 0): (5, 10), ("t", 1): (0, 3)}
    open_spans = open_letters(spans, {("t", 0): (6, "1:5p1-2r1")})
    assert open_spans == {("t", 0): [(6, 8), (9, 10)], ("t", 1): [(0, 3)]}
