"""Addresses and Message-IDs in the form in which two of them are compared. Pure.

The same for what a platform publishes and for what a mailbox shows. docs/matching.md says what is removed, what is kept and what
is dropped. Total, and linear in the text: no text makes it raise or slow.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final

import idna

from services.common.encoded_words import decode_words
from services.common.quoting import COMMENT, PLAIN, QUOTED, Zone, zones

MAX_ADDRESS: Final = 320
"""64 + 1 + 255 (RFC 5321 §4.5.3.1), with some margin: mail to a longer address is not delivered."""
MAX_MESSAGE_ID: Final = 998
"""One line of a mail (RFC 5322 §2.1.1)."""
AROUND_ID: Final = " \t\r\n<>,;"
"""What may stand around a Message-ID that has no angle brackets."""
MAX_RAW: Final = 4096
"""An address or id with display name and comments."""

_ORDINARY: Final = re.compile(r"[A-Za-z0-9._+=~-]+@(?!.*[Xx][Nn]--)(?:[A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}")
AT_SIGNS: Final = "@\uff20\ufe6b"
"""Also the wide and the small one of Chinese and Japanese keyboards."""
_IN_BRACKETS: Final = re.compile(
    rf'(?>[\t\n\r ]*(?:"[\t\n\r !#-\[\]-~]*")?[\t\n\r !#-\'*-;=?-\[\]-~]*)<({_ORDINARY.pattern})>[\t\n\r ]*'
)
"""An ordinary address in brackets, behind a name in ASCII that is quoted or has no sign of quotes, comments or brackets."""
_ORDINARY_ID: Final = re.compile(r"<([!-;=?-~]{1,998})>")
_NARROW: Final = str.maketrans(
    {wide: chr(wide - 0xFEE0) for wide in range(0xFF01, 0xFF5F)}
    | {ord(sign): "@" for sign in AT_SIGNS}
    | {ord(sign): "<" for sign in "\uff1c\u3008\u300a\uff08\u3010\u300c\u300e\u3014\uff3b"}
    | {ord(sign): ">" for sign in "\uff1e\u3009\u300b\uff09\u3011\u300d\u300f\u3015\uff3d"}
)
"""Wide letters and signs as ASCII, and each bracket that such a keyboard puts around an address as an angle bracket."""
_ADDRESS_IN_COMMENT: Final = re.compile(r"\(\s*([^()<>\s,;@]{1,320}@[^()<>\s,;@]{1,320})\s*\)\s*$")
"""`Bob (bob@x.example)`: an address written as a comment behind a name. Alone it stays a comment (RFC 5322 section 3.2.2)."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff9-\ufffc\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
"""Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties) except the two joiners; the blank Braille pattern; the place of an
object in copied text."""
_STRAY_JOINER: Final = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])")
"""ZWNJ and ZWJ belong to names in Persian or Indic scripts (RFC 5892 A.1, A.2), and to nothing beside ASCII."""
_UNREADABLE: Final = re.compile(r"[\x00-\x1f\x7f\ufffd]")
"""Control characters, and the sign for bytes that are no text."""
_FOLD: Final = re.compile(r"[\r\n]+[ \t]*")
AROUND_AT: Final = re.compile(r"(?<!\s)\s+(?=@)|(?<=@)\s+")
_AROUND_DOT: Final = re.compile(r"(?<!\s)\s+(?=[.\u3002\uff0e\uff61])|(?<=[.\u3002\uff0e\uff61])\s+")
_SCHEME: Final = re.compile(r"(?:(?:mailto|smtp|e-?mail|mail):\s*)+", re.IGNORECASE)
_QUOTES: Final = "\\\"'`\u00b4\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2039\u203a\u00ab\u00bb\uff02\uff07"
_AFTER: Final = "\uff0c\uff1b\u3001\uff1a .,;:>)]}!?*\\\u3002\uff0e\uff61" + _QUOTES
_IN_PAIRS: Final = _QUOTES + "{*"
"""What may begin a local part, and is removed only if its partner was removed at the end."""
_BEFORE: Final = " <([,;:\u00b4\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2039\u203a\u00ab\u00bb\uff02\uff07"
_PARTNERS: Final = {"{": "}"}
_QUOTED_BLANK: Final = "\uf8ff"
"""White space inside a quoted string while a text is tidied; a character of the private use area."""
_SPECIALS: Final = re.compile(r'[\s()<>\[\]:;@\\,"]')
_QUOTED_LOCAL: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_DOT_ATOM: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_ASCII_DOMAIN: Final = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}|\[[a-z0-9.:_-]+\]")
_NOT_IN_LABELS: Final = re.compile(r"[\x00-,/:-@\[-^`{-\x7f\s\uff0c\uff1b\u3001\uff1a\uff1c\uff1e\uff20]")
_BRACKETS_AND_QUOTES: Final = frozenset({"Ps", "Pe", "Pi", "Pf"})
_DOTS: Final = re.compile(r"[.\u3002\uff0e\uff61]")
_GLUED: Final = re.compile(r'(?<=\w)["(](?=\w)')
"""A sign inside of a word: taking it away would make up another address."""
_QUOTED_ID: Final = re.compile("[\"'\u2018\u201c\u201d]([^\"'\\s]+@[^\"'\\s]+)[\"'\u2019\u201c\u201d]")
_WHOLE_WORD: Final = re.compile(r"(?:^|(?<=[\s<>,]))=\?[^?]{1,40}\?[^?]{1,9}\?[^?]{0,2000}\?=(?=[\s<>,]|$)")


def normalise_address(text: str) -> str | None:
    """Only `local@domain`: in lower case, the domain as A-labels (UTS 46). None when it cannot be an address.

    A domain that UTS 46 refuses is only put into lower case.
    """
    if len(text) > MAX_RAW:
        return None
    if len(text) <= MAX_ADDRESS and _ORDINARY.fullmatch(text):
        return text.lower()  # nothing to remove and no label to translate: most addresses
    if (ordinary := _IN_BRACKETS.fullmatch(text)) is not None and len(ordinary[1]) <= MAX_ADDRESS:
        return ordinary[1].lower()
    return normalise_any_address(text)


def normalise_any_address(text: str) -> str | None:
    """`normalise_address` of an address of at most MAX_RAW characters, in any form: what ordinary ones need no part of."""
    visible = without_invisible(text)
    if "@" not in visible:
        visible = decode_words(visible)
    if not visible.isascii():
        visible = visible.translate(_NARROW)
    address = _address(visible)
    if address is None and (closed := without_unclosed(visible)) != visible:
        address = _address(closed)
    if address is None and (inner := _ADDRESS_IN_COMMENT.search(visible)) is not None:
        name = visible[: inner.start()].strip()
        address = _address(inner[1]) if name and "@" not in name else None
    return address


def normalise_message_id(text: str) -> str | None:
    """The text between `<` and `>`, or without them the text without comments; no white space, case kept."""
    if len(text) > MAX_RAW:
        return None
    if (ordinary := _ORDINARY_ID.fullmatch(text)) is not None and "=?" not in text:
        return ordinary[1]
    return normalise_any_message_id(text)


def normalise_any_message_id(text: str) -> str | None:
    """`normalise_message_id` of an id of at most MAX_RAW characters, in any form."""
    text = decoded_ids(text)
    start = text.find("<")
    end = text.find(">", start + 1) if start >= 0 else -1
    # `<<id>` and `<one <two>`: the innermost bracket opens the id.
    inner = text[start + 1 : end] if end >= 0 else bare_id(text.strip(AROUND_ID))
    bare = "".join(without_invisible(inner.rpartition("<")[2].partition(">")[0]).split())
    if not bare or len(bare) > MAX_MESSAGE_ID or _CONTROL.search(bare):
        return None
    return bare


def closed_brackets(marked: list[tuple[str, Zone]]) -> dict[int, int]:
    """Each `<` outside of quotes and comments that has its `>`: index → index of the `>`."""
    closed: dict[int, int] = {}
    start = -1
    for index, (char, zone) in enumerate(marked):
        if zone != PLAIN:
            continue
        if char == "<":
            start = index
        elif char == ">" and start >= 0:
            closed[start] = index
            start = -1
    return closed


def without_unclosed(text: str) -> str:
    """`text` without the quotation marks, or the last parentheses, of a quoted string or comment that is never closed.

    Which of several quotation marks is the one too many cannot be known, so all are removed: addresses are found without them. At
    most four passes.
    """
    for _ in range(3):
        start, open_zone = _open_at(text)
        if open_zone is None:
            break
        if open_zone == QUOTED:
            text = _GLUED.sub("\0", text).replace('"', " ")
        else:
            # What is behind the parenthesis may be another address.
            text = text[:start] + _GLUED.sub("\0", text[start:]).replace("(", ",").replace(")", " ")
    return text


def _open_at(text: str) -> tuple[int, Zone | None]:
    """Where the quoted string or comment starts that is open at the end of `text`, and which of them it is."""
    if '"' not in text and "(" not in text:
        return 0, None
    depth = start = 0
    quoted = escaped = False
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\" and (quoted or depth):
            escaped = True
        elif quoted:
            quoted = char != '"'
        elif char == "(":
            start = start if depth else index
            depth += 1
        elif depth:
            depth -= char == ")"
        elif char == '"':
            quoted, start = True, index
    return start, QUOTED if quoted else COMMENT if depth else None


def _address(text: str) -> str | None:
    """The normal form of the address in a text without invisible characters."""
    bare = _without_comments(text)
    inner = _in_angle_brackets(bare)
    if inner is not None:
        candidate = _tidy(_FOLD.sub("", inner))
    else:
        candidate = _tidy(_without_brackets(bare))
        if any(char.isspace() for char in candidate):
            candidate = _last_word(AROUND_AT.sub("", _protected(_without_brackets(bare))))
    candidate = _without_prefix(candidate.replace(_QUOTED_BLANK, " "))
    if "=?" in candidate:
        candidate = decode_words(candidate)  # RFC 2047 §5 forbids it, and programs do it
    local, at, domain = _without_signs_around(candidate).rpartition("@")
    if not at or not local or not domain or len(candidate) > MAX_ADDRESS or _UNREADABLE.search(candidate):
        return None
    if inner is None and ":" in local and '"' not in local:
        local = local.rpartition(":")[2]  # a name before the address: `Bob: bob@x.example`
    normal_local, normal_domain = _local(local), _domain(domain)
    return None if normal_local is None or normal_domain is None else f"{normal_local}@{normal_domain}"


def _without_prefix(candidate: str) -> str:
    """An address without a route (RFC 5322 §4.4) or the scheme of a URI before it."""
    if candidate.startswith("@") and ":" in candidate:
        candidate = candidate.partition(":")[2]
    if scheme := _SCHEME.match(candidate):
        candidate = candidate[scheme.end() :]
        return candidate.partition("?")[0]
    return candidate


def _local(local: str) -> str | None:
    """The local part in lower case and composed; None when it cannot be one."""
    if local.startswith('"'):
        if not _QUOTED_LOCAL.fullmatch(local):
            return None
        unquoted = _QUOTED_PAIR.sub(r"\1", local[1:-1])
        if _DOT_ATOM.fullmatch(unquoted):
            local = unquoted  # quoted without need: the same mailbox (RFC 5321 §4.1.2)
    elif not local or _SPECIALS.search(local):
        return None
    return unicodedata.normalize("NFC", local.lower())


def _tidy(text: str) -> str:
    """`text` without white space at its ends and around @ and dots; in quoted strings it stays, as _QUOTED_BLANK."""
    return _AROUND_DOT.sub("", AROUND_AT.sub("", _protected(text))).strip()


def _protected(text: str) -> str:
    if '"' not in text:
        return text
    return "".join(_QUOTED_BLANK if zone == QUOTED and char.isspace() else char for char, zone in zones(text))


def _last_word(text: str) -> str:
    """The last word, if it is the only one with an @: a name without quotes or brackets comes before the address."""
    words = text.split()
    return words[-1] if words and sum("@" in word for word in words) == 1 and "@" in words[-1] else ""


def _without_signs_around(text: str) -> str:
    """`text` without quotation marks and punctuation around it that cannot be part of an address."""
    if text.endswith("]") and "@[" in text:
        return text  # a literal: user@[192.0.2.1]
    bare = text.rstrip(_AFTER)
    removed = text[len(bare) :]
    if bare.startswith('"') and '"@' in bare and _QUOTED_LOCAL.match(bare):
        return bare
    # An apostrophe may begin a local part: it is removed only if a quotation mark was removed at the end.
    paired = [sign for sign in _IN_PAIRS if _PARTNERS.get(sign, sign) in removed]
    has_quote = any(sign in _QUOTES for sign in paired)
    return bare.lstrip(_BEFORE + "".join(paired) + (_QUOTES if has_quote else ""))


@lru_cache(maxsize=16_384)
def _domain(domain: str) -> str | None:
    lower = domain.lower()
    if lower.isascii() and "xn--" not in lower:
        return lower if _ASCII_DOMAIN.fullmatch(lower) else None
    try:
        return idna.encode(domain, uts46=True, transitional=False).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError, ValueError):
        if _NOT_IN_LABELS.search(lower) or not all(_DOTS.split(lower)):
            return None
        return None if any(unicodedata.category(char) in _BRACKETS_AND_QUOTES for char in lower) else lower


def without_invisible(text: str) -> str:
    """`text` without characters that no reader sees."""
    return text if text.isascii() else _STRAY_JOINER.sub("", _INVISIBLE.sub("", text))


def _without_comments(text: str) -> str:
    """`text` without (comments), nested ones too; quoted strings stay."""
    return text if "(" not in text else "".join(char for char, zone in zones(text) if zone != COMMENT)


def bare_id(text: str) -> str:
    """A Message-ID without angle brackets, without comments and quotes around it; a parenthesis in the middle of it belongs to
    it: `1(2)@x`."""
    if quoted := _QUOTED_ID.fullmatch(text):
        text = quoted[1]
    if "(" not in text:
        return text
    for word in text.split():
        is_closed = word.count("(") == word.count(")")
        if "@" in word and "(" in word and is_closed and not word.startswith("(") and not word.endswith(")"):
            return word
    return _without_comments(text)


def _in_angle_brackets(text: str) -> str | None:
    """The text in the first <…> outside of quotes that contains an @."""
    if "<" not in text:
        return None
    closed = closed_brackets(list(zones(text)))
    return next((text[start + 1 : end] for start, end in closed.items() if "@" in text[start + 1 : end]), None)


def _without_brackets(text: str) -> str:
    """A text that has no <…@…>, without any <…>, and with blanks for single brackets: `Bob <bob@x.example`."""
    if "<" not in text and ">" not in text:
        return text
    marked = list(zones(text))
    closed = closed_brackets(marked)
    chars: list[str] = []
    end = -1
    for index, (char, zone) in enumerate(marked):
        end = closed.get(index, end)
        if index > end:
            chars.append(" " if zone == PLAIN and char in "<>" else char)
    return "".join(chars)


def decoded_ids(text: str) -> str:
    """`text` with the encoded words (RFC 2047) decoded that are words of their own; inside an id, the signs belong to it."""
    if "=?" not in text or not _WHOLE_WORD.search(text):
        return text
    if _WHOLE_WORD.sub("", text).count("=?"):
        return _WHOLE_WORD.sub(lambda match: decode_words(match[0]), text)
    return decode_words(text)
