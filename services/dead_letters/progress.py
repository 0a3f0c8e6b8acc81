"""Which dead letters of one partition are done with, and how: as runs, in what a consumer group can hold.

The committed offset of the group says what every tool understands: everything before it is done with. Letters behind it
that were chosen one by one stand in the commit's metadata, a text of at most 4096 bytes (the broker's
`offset.metadata.max.bytes`), together with what became of those before it. So both move in one request, and nothing
but Kafka is needed. Format: `1:120r17p3-4r1` is from offset 120 on 17 replayed, 3 purged, 4 open, 1 replayed.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self, get_args

from services.common.errors import ReplyrateError

Become = Literal["replayed", "left", "purged", "done"]
"""`left`: could not be replayed, and was told; `done`: replayed or purged, which of them is not known any more."""
State = Literal["open", "replayed", "left", "purged", "done"]

MOST_BYTES: Final = 4000
VERSION: Final = "1:"
_STATES: Final[dict[str, Become]] = {one[0]: one for one in get_args(Become)}
_RUN: Final = re.compile(r"([rlpd-])(\d+)")
_NOTE: Final = re.compile(r"1:(\d+)((?:[rlpd-]\d+)*)")


class TooScattered(ReplyrateError):
    """More gaps between chosen letters than the group's metadata can hold."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Runs of offsets (first, behind the last, what became of them): sorted, apart from each other."""

    runs: tuple[tuple[int, int, Become], ...] = ()

    @classmethod
    def read(cls, offset: int, note: str) -> Self:
        """What a commit says. Without a note (or with another program's) everything before `offset` is `done`."""
        found = cls().mark([(0, offset)], "done")
        if (said := _NOTE.fullmatch(note)) is not None:
            at = int(said[1])
            for letter, length in _RUN.findall(said[2]):
                if letter != "-":
                    found = found.mark([(at, at + int(length))], _STATES[letter])
                at += int(length)
        return found

    def mark(self, spans: Iterable[tuple[int, int]], become: Become) -> Self:
        """The same with these spans (first, behind the last) done with."""
        runs = list(self.runs)
        for first, behind in spans:
            if first >= behind:
                continue
            kept = [(a, min(b, first), state) for a, b, state in runs if a < first]
            kept += [(max(a, behind), b, state) for a, b, state in runs if b > behind]
            runs = sorted([*kept, (first, behind, become)])
        merged: list[tuple[int, int, Become]] = []
        for a, b, state in runs:
            if merged and merged[-1][1] == a and merged[-1][2] == state:
                merged[-1] = (merged[-1][0], b, state)
            else:
                merged.append((a, b, state))
        return type(self)(tuple(merged))

    def state(self, offset: int) -> State:
        """What became of one letter."""
        return next((state for first, behind, state in self.runs if first <= offset < behind), "open")

    def open(self, first: int, end: int) -> list[tuple[int, int]]:
        """The spans between `first` and `end` that nobody is done with."""
        found, at = [], first
        for a, b, _ in self.runs:
            if at < min(a, end):
                found.append((at, min(a, end)))
            at = max(at, b)
        return [*found, (at, end)] if at < end else found

    def offset(self, first: int) -> int:
        """The offset to commit: everything that still exists (from `first` on) before it is done with."""
        at = first
        for a, b, _ in self.runs:
            if a <= at:
                at = max(at, b)
        return at

    def note(self, first: int) -> str:
        """The metadata to commit. What does not fit is told less exactly, the oldest first; TooScattered when not even
        that fits."""
        there = type(self)(tuple((max(a, first), b, state) for a, b, state in self.runs if b > first))
        before = there.offset(first)
        for known in (there, there.mark([(first, before)], "done"), there._alike()):
            if len(text := known._text(first)) <= MOST_BYTES:
                return text
        raise TooScattered(
            "too many letters were chosen apart from each other to remember them; first be done with the older ones:"
            " replyrate dlq purge --through PARTITION/OFFSET, or replyrate dlq replay for all"
        )

    def _alike(self) -> Self:
        return type(self)().mark([(a, b) for a, b, _ in self.runs], "done")

    def _text(self, first: int) -> str:
        text, at = f"{VERSION}{first}", first
        for a, b, state in self.runs:
            text += (f"-{a - at}" if a > at else "") + f"{state[0]}{b - a}"
            at = b
        return text


def waiting(
    spans: Mapping[tuple[str, int], tuple[int, int]], held: Mapping[tuple[str, int], tuple[int, str]]
) -> dict[tuple[str, int], list[tuple[int, int]]]:
    """What is open in each partition, by what exists there and what its group committed."""
    return {where: Progress.read(*held.get(where, (0, ""))).open(*span) for where, span in spans.items()}
