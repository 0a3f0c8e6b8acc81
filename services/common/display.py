"""Values as people read them: shares, durations and bars. Pure."""

from typing import Any


def percent(value: Any) -> str:
    """`94.7 %`, or a dash for "not measured", which is not 0."""
    return "–" if value is None else f"{float(value) * 100:.1f} %"


def duration(seconds: Any) -> str:
    """`3:20 h`, or minutes when it is less than an hour; a dash for None."""
    if seconds is None:
        return "–"
    minutes = round(float(seconds) / 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02} h" if hours else f"{minutes} min"


def bar(share: float, width: int = 24) -> str:
    """A bar of at most `width` cells, in eighths of a cell."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full_cells, remaining_eighths = divmod(eighths, 8)
    return "█" * full_cells + ("▏▎▍▌▋▊▉"[remaining_eighths - 1] if remaining_eighths else "")


def printable(text: str) -> str:
    """Text from outside for a terminal: control characters and invisible ones are replaced, so that none is interpreted."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
