"""Values as people read them: shares, durations, instants, bars, and text from outside made safe for a terminal. Pure."""

import json
from datetime import datetime
from typing import Any, Final

from services.common.language import Language

DURATION_UNITS: Final[dict[Language, tuple[str, str, str]]] = {"en": (" d", " h", " min"), "zh": ("天", "小时", "分钟")}
"""Days, hours and minutes."""


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


def duration_in_words(seconds: Any, language: Language) -> str:
    """`2 d 3 h`, `3 h 20 min` or `5 min`, to the hour from two days on; a dash for None."""
    if seconds is None:
        return "–"
    days, hours, minutes = DURATION_UNITS[language]
    gap = "" if language == "zh" else " "
    total_minutes = round(float(seconds) / 60)
    if total_minutes >= 48 * 60:
        whole_days, left_hours = divmod(round(total_minutes / 60), 24)
        return f"{whole_days}{days}" + (f"{gap}{left_hours}{hours}" if left_hours else "")
    whole_hours, left_minutes = divmod(total_minutes, 60)
    if not whole_hours:
        return f"{left_minutes}{minutes}"
    return f"{whole_hours}{hours}" + (f"{gap}{left_minutes}{minutes}" if left_minutes else "")


def bar(share: float, width: int = 24) -> str:
    """A bar of at most `width` cells, in eighths of a cell."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full_cells, remaining_eighths = divmod(eighths, 8)
    return "█" * full_cells + ("▏▎▍▌▋▊▉"[remaining_eighths - 1] if remaining_eighths else "")


def instant_text(at: datetime | None) -> str:
    """An instant for people: to the second, or to the microsecond when it has a fraction."""
    if at is None:
        return "–"
    return f"{at:%Y-%m-%d %H:%M:%S}" + (f".{at.microsecond:06}" if at.microsecond else "")


def utc_text(at: datetime) -> str:
    """An instant with its time zone."""
    return f"{instant_text(at)} UTC"


def minute_text(at: datetime | None) -> str:
    """An instant to the minute; a dash for None."""
    return "–" if at is None else f"{at:%Y-%m-%d %H:%M}"


def printable(text: str) -> str:
    """Text from outside in one line for a terminal: what it would interpret or not show is visible, like `\\x1b` for ESC."""
    return text if text.isprintable() else "".join(char if char.isprintable() else _escape(char) for char in text)


def printable_lines(text: str) -> str:
    """The same for text that may have several lines: line feeds stay."""
    return "\n".join(printable(line) for line in text.split("\n"))


def escaped_json(document: str) -> str:
    """The same JSON document with these characters as JSON escapes, so that printing it changes no terminal."""
    if document.isprintable():
        return document
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in document)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def parameter_text(value: Any) -> str:
    """A parameter of a rule set in one line: lists with commas, tables as `key=value`."""
    match value:
        case list() | tuple():
            return ", ".join(parameter_text(part) for part in value) or "–"
        case dict():
            return " ".join(f"{key}={parameter_text(part)}" for key, part in value.items() if part is not None)
        case _:
            return printable(str(value))
