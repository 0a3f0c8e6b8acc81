"""Encoded words in mail headers (RFC 2047), decoded in time linear in the text. Pure; no text makes it raise."""

import binascii
import quopri
import re
from typing import Final

_CHARSETS: Final = {
    # Programs write the name of a subset and use its superset (WHATWG Encoding Standard §4.2 maps them in the same way).
    "gb2312": "gb18030", "gbk": "gb18030", "x-gbk": "gb18030", "cp936": "gb18030", "euc-cn": "gb18030", "gb_2312-80": "gb18030",
    "big5": "big5hkscs", "x-x-big5": "big5hkscs",
    "shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932", "x-sjis": "cp932", "x-euc-jp": "euc_jp",
    "euc-kr": "cp949", "ks_c_5601-1987": "cp949", "ks_c_5601": "cp949",
    # Names that Python's codecs do not have.
    "windows-874": "cp874", "x-windows-874": "cp874",
    "iso-8859-8-i": "iso-8859-8", "iso-8859-8-e": "iso-8859-8", "iso-8859-6-i": "iso-8859-6", "iso-8859-6-e": "iso-8859-6",
    "unicode-1-1-utf-7": "utf-7", "unicode-1-1-utf-8": "utf-8", "x-mac-roman": "mac_roman",
}  # fmt: skip
_WORD: Final = r"=\?([^?]{1,40})\?\s{0,4}([bBqQ])\s{0,4}\?([^?]{0,2000})\?="
# Either a run without an encoded word, or an encoded word. Each alternative consumes what it matched, so there is no
# backtracking over the text; every part is bounded, so the look-ahead is as well.
_WORDS: Final = re.compile(rf"([^=]+|=(?!{_WORD[1:].replace('(', '(?:')}))|{_WORD}")


def decode_words(text: str) -> str:
    """`text` with its encoded words decoded; a word that cannot be decoded stays as it is.

    Neighbouring words of one charset are decoded together: some programs split a character between two of them.
    """
    if "=?" not in text:
        return text
    parts: list[str] = []
    run: list[tuple[str, str, bytes]] = []
    gap = ""
    for match in _WORDS.finditer(text):
        plain, charset, encoding, payload = match.groups()
        if charset is not None and (data := _bytes_of(encoding, payload)) is not None:
            codec = _codec(charset)
            if run and run[-1][1] != codec:
                parts.append(_decoded(run))
                run = []
            # Blanks between two encoded words are not part of the text (RFC 2047 §6.2).
            gap = ""
            run.append((match.group(), codec, data))
        elif run and not gap and plain is not None and plain.isspace():
            gap = plain
        else:
            parts += [_decoded(run), gap, match.group()]
            run, gap = [], ""
    return "".join([*parts, _decoded(run), gap])


def _codec(charset: str) -> str:
    name = charset.partition("*")[0].strip().lower()  # `utf-8*en` names a language (RFC 2231 §5)
    return _CHARSETS.get(name, name)


def _bytes_of(encoding: str, payload: str) -> bytes | None:
    try:
        raw = payload.encode("ascii")
        if encoding in "bB":
            raw = b"".join(raw.split())
            return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))
        return quopri.decodestring(raw.strip().replace(b"_", b" ").replace(b"\r", b"").replace(b"\n", b""))
    except (ValueError, UnicodeError):
        return None


def _decoded(run: list[tuple[str, str, bytes]]) -> str:
    """The text of neighbouring words of one codec."""
    if not run:
        return ""
    try:
        return b"".join(data for _, _, data in run).decode(run[0][1], "replace")
    except (LookupError, ValueError, UnicodeError):
        return " ".join(word for word, _, _ in run)
