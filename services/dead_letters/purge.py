"""Purge: dead letters are discarded without a replay."""

from services.dead_letters.letters import DeadLetters, Spans
from services.dead_letters.selection import overlap


def purge(letters: DeadLetters, spans: Spans, *, delete: bool = False) -> None:
    """Mark letters as purged; those that were processed before keep their state.

    With `delete` every letter up to the last one of `spans` is also deleted from the topic, for every reader. TooScattered, TransientError.
    """
    letters.mark({"purged": overlap(letters.waiting(), spans)})
    if delete and (ends := {partition: runs[-1][1] for partition, runs in spans.items() if runs}):
        letters.delete(ends)
