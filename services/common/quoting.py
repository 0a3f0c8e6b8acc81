"""Quoted strings and comments in mail headers (RFC 5322 §3.2): which characters of a text mean something. Pure."""

from collections.abc import Iterator
from typing import Final, Literal

Zone = Literal["plain", "quoted", "comment"]
PLAIN: Final = "plain"
QUOTED: Final = "quoted"
COMMENT: Final = "comment"


def zones(text: str) -> Iterator[tuple[str, Zone]]:
    """Each character with its zone, in one pass, whatever the text is.

    Quotes belong to the quoted string and parentheses to the comment. Comments nest; a backslash escapes the next character in
    both. A quoted string or comment that is not closed reaches to the end.
    """
    depth = 0
    quoted = escaped = False
    for char in text:
        if escaped:
            escaped = False
            yield char, QUOTED if quoted else COMMENT
        elif char == "\\" and (quoted or depth):
            escaped = True
            yield char, QUOTED if quoted else COMMENT
        elif quoted:
            quoted = char != '"'
            yield char, QUOTED
        elif char == "(":
            depth += 1
            yield char, COMMENT
        elif depth:
            depth -= char == ")"
            yield char, COMMENT
        elif char == '"':
            quoted = True
            yield char, QUOTED
        else:
            yield char, PLAIN
