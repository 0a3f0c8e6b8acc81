"""Which dead letters of one partition are processed, and how: as runs of offsets, in what a consumer group can store.

The committed offset of the group says what every tool understands: everything before it is processed. Letters behind it that
were chosen singly are in the metadata of the commit, a text of at most 4096 bytes (the broker's
`offset.metadata.max.bytes`), together with the disposition of those before it. So both change in one request, and nothing but
Kafka is needed. Format: `1:120r17p3-4r1` means from offset 120 on 17 replayed, 3 purged, 4 open, 1 replayed.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self, get_args

from services.common.errors import ReplyrateError

Disposition = Literal["replayed", "left", "purged", "done"]
"""`left`: could not be replayed, which was reported; `done`: replayed, left or purged, the detail is no longer stored."""
State = Literal["open", "replayed", "left", "purged", "done"]

MAX_METADATA_BYTES: Final = 4000
VERSION: Final = "1:"
_DISPOSITIONS: Final[dict[str, Disposition]] = {disposition[0]: disposition for disposition in get_args(Disposition)}
_RUN: Final = re.compile(r"([rlpd-])(\d+)")
_METADATA: Final = re.compile(r"1:(\d+)((?:[rlpd-]\d+)*)")


class TooScattered(ReplyrateError):
    """More gaps between chosen letters than the metadata of a group can hold."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Runs of offsets (first, end, disposition): sorted and without overlaps; `end` is behind the last offset."""

    runs: tuple[tuple[int, int, Disposition], ...] = ()

    @classmethod
    def from_commit(cls, offset: int, metadata: str) -> Self:
        """What a commit says. Without metadata, or with that of another program, everything before `offset` is `done`."""
        progress = cls().mark([(0, offset)], "done")
        if (parsed := _METADATA.fullmatch(metadata)) is not None:
            start = int(parsed[1])
            for letter, length in _RUN.findall(parsed[2]):
                if letter != "-":
                    progress = progress.mark([(start, start + int(length))], _DISPOSITIONS[letter])
                start += int(length)
        return progress

    def mark(self, spans: Iterable[tuple[int, int]], disposition: Disposition) -> Self:
        """The progress with these spans (first, end) processed."""
        runs = list(self.runs)
        for first, end in spans:
            if first >= end:
                continue
            before = [(a, min(b, first), state) for a, b, state in runs if a < first]
            after = [(max(a, end), b, state) for a, b, state in runs if b > end]
            runs = sorted([*before, *after, (first, end, disposition)])
        merged: list[tuple[int, int, Disposition]] = []
        for first, end, state in runs:
            if merged and merged[-1][1] == first and merged[-1][2] == state:
                merged[-1] = (merged[-1][0], end, state)
            else:
                merged.append((first, end, state))
        return type(self)(tuple(merged))

    def state(self, offset: int) -> State:
        """The state of one letter."""
        return next((state for first, end, state in self.runs if first <= offset < end), "open")

    def open_spans(self, first: int, end: int) -> list[tuple[int, int]]:
        """The spans between `first` and `end` that are not processed."""
        spans, start = [], first
        for run_first, run_end, _ in self.runs:
            if start < min(run_first, end):
                spans.append((start, min(run_first, end)))
            start = max(start, run_end)
        return [*spans, (start, end)] if start < end else spans

    def offset(self, first: int) -> int:
        """The offset to commit: everything before it that still exists (from `first` on) is processed."""
        offset = first
        for run_first, run_end, _ in self.runs:
            if run_first <= offset:
                offset = max(offset, run_end)
        return offset

    def to_metadata(self, first: int) -> str:
        """The metadata to commit. Details that do not fit are dropped, the oldest first; TooScattered when it is still too
        long."""
        existing = type(self)(tuple((max(a, first), b, state) for a, b, state in self.runs if b > first))
        without_oldest = existing.mark([(first, existing.offset(first))], "done")
        for progress in (existing, without_oldest, existing._without_detail()):
            if len(text := progress._text(first)) <= MAX_METADATA_BYTES:
                return text
        raise TooScattered(
            "there are too many gaps between the chosen letters to store the progress; process the older letters first:"
            " replyrate dlq purge --through PARTITION/OFFSET, or replyrate dlq replay for all"
        )

    def _without_detail(self) -> Self:
        return type(self)().mark([(first, end) for first, end, _ in self.runs], "done")

    def _text(self, first: int) -> str:
        text, start = f"{VERSION}{first}", first
        for run_first, run_end, state in self.runs:
            text += (f"-{run_first - start}" if run_first > start else "") + f"{state[0]}{run_end - run_first}"
            start = run_end
        return text


def open_letters(
    spans: Mapping[tuple[str, int], tuple[int, int]], commits: Mapping[tuple[str, int], tuple[int, str]]
) -> dict[tuple[str, int], list[tuple[int, int]]]:
    """The open spans of each partition, from the offsets that exist and what the group committed."""
    return {tp: Progress.from_commit(*commits.get(tp, (0, ""))).open_spans(*span) for tp, span in spans.items()}
