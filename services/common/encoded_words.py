"""Encoded words in mail headers (RFC 2047), decoded in time linear in the text. Pure; no text makes it raise."""

import binascii
import quopri
import re
from typing import Final

_CHARSETS: Final = {
    # Programs write the name of a subset and use its superset (WHATWG Encoding Standard §4.2 maps them in the same way).
    "gb2312": "gb18030", "gbk": "gb18030", "x-gbk": "gb18030", "cp936": "gb18030", "euc-cn": "gb18030", "gb_2312-80": "gb18030",
    "gb2312-80": "gb18030", "csgb2312": "gb18030", "cn-gb": "gb18030", "windows-936": "gb18030", "chinese": "gb18030",
    "iso-ir-58": "gb18030", "csiso58gb231280": "gb18030",
    "big5": "big5hkscs", "x-x-big5": "big5hkscs", "cn-big5": "big5hkscs", "csbig5": "big5hkscs", "windows-950": "big5hkscs", "cp950": "big5hkscs",
    "shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932", "x-sjis": "cp932", "windows-31j": "cp932", "cswindows31j": "cp932",
    "ms_kanji": "cp932", "x-euc-jp": "euc_jp", "iso-2022-jp-ms": "iso2022_jp_ext", "cp50220": "iso2022_jp_ext", "cp50221": "iso2022_jp_ext",
    "euc-kr": "cp949", "ks_c_5601-1987": "cp949", "ks_c_5601": "cp949", "ks_c_5601-1989": "cp949", "ksc5601": "cp949", "ksc_5601": "cp949",
    "cseuckr": "cp949", "csksc56011987": "cp949", "korean": "cp949", "windows-949": "cp949", "x-windows-949": "cp949",
    "iso-8859-1": "cp1252", "latin1": "cp1252", "iso8859-1": "cp1252", "iso_8859-1": "cp1252", "iso-latin-1": "cp1252", "l1": "cp1252",
    "iso-8859-9": "cp1254", "iso8859-9": "cp1254", "latin5": "cp1254", "iso-8859-9e": "cp1254",
    "iso-8859-11": "cp874", "iso8859-11": "cp874", "tis-620": "cp874", "windows-874": "cp874", "x-windows-874": "cp874", "dos-874": "cp874",
    # Names that Python's codecs do not have.
    "iso-8859-8-i": "iso-8859-8", "iso-8859-8-e": "iso-8859-8", "iso-8859-6-i": "iso-8859-6", "iso-8859-6-e": "iso-8859-6",
    "logical": "iso-8859-8", "visual": "iso-8859-8", "dos-862": "cp862",
    "unicode-1-1-utf-7": "utf-7", "unicode-1-1-utf-8": "utf-8", "utf-8mb4": "utf-8", "x-unicode20utf8": "utf-8",
    "x-mac-roman": "mac_roman", "x-mac-cyrillic": "mac_cyrillic", "x-mac-ukrainian": "mac_cyrillic", "x-mac-ce": "mac_latin2",
    "x-mac-greek": "mac_greek", "x-mac-turkish": "mac_turkish",
    "gb18030": "gb18030", "ms936": "gb18030", "big5hkscs": "big5hkscs", "ms950": "big5hkscs", "ms932": "cp932", "ms949": "cp949",
    "cp50222": "iso2022_jp_ext", "cp51932": "euc_jp", "eucjp-ms": "euc_jp", "eucjp-win": "euc_jp", "cseucpkdfmtjapanese": "euc_jp",
    "iso-ir-149": "cp949", "ksc5601-1987": "cp949", "ms-cyrl": "cp1251", "8859-1": "cp1252", "sun_eu_greek": "iso8859-7",
    "iso-8859-1-windows-3.1-latin-1": "cp1252", "utf-7": "utf-7",
    "koi8r": "koi8-r", "koi": "koi8-r", "koi8": "koi8-r", "koi8-ru": "koi8-u", "koi8u": "koi8-u", "ansi": "cp1252", "x-ansi": "cp1252",
}  # fmt: skip
_WINDOWS: Final = re.compile(r"(?:x-)?(?:ms-?)?(?:windows|win|cp|ibm|dos|ansi)[-_]?(\d{3,4})")
_ISO: Final = re.compile(r"iso8859(\d{1,2})")
_SIGNS: Final = re.compile(r"[-_. ]")


def _squeezed(name: str) -> str:
    return _SIGNS.sub("", name)


_SQUEEZED: Final = {_squeezed(name): codec for name, codec in _CHARSETS.items()}
_ASCII: Final = frozenset({"us-ascii", "ascii", "ansi_x3.4-1968", "646"})
# A question mark inside a word is not allowed and common: `=?utf-8?Q?Price??=`. It is one unless it ends the word or starts another.
_WORD: Final = r"=\?([^?]{1,40})\?\s{0,4}([bBqQ])\s{0,4}\?((?:[^?=]|\?(?!=)|=(?!\?[^=])){0,2000})\?="
_GROUP: Final = re.compile(r"\((?!\?)")
# Either a run without an encoded word, or an encoded word. Each alternative consumes what it matched, so there is no
# backtracking over the text; every part is bounded, so the look-ahead is as well.
_WORDS: Final = re.compile(rf"([^=]+|=(?!{_GROUP.sub('(?:', _WORD[1:])}))|{_WORD}")


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
    name = charset.partition("*")[0].strip(" \t\r\n\"';").lower()  # `utf-8*en` names a language (RFC 2231 §5)
    if (codec := _CHARSETS.get(name)) is not None:
        return codec
    for alias in (name, name.removeprefix("cs"), name.removeprefix("x-")):
        if numbered := _WINDOWS.fullmatch(alias):
            return _CHARSETS.get(f"cp{numbered[1]}", f"cp{numbered[1]}")  # win-1251, x-cp1251, cp-866, csWindows1251
        squeezed = _squeezed(alias)
        if (codec := _SQUEEZED.get(squeezed)) is not None:
            return codec  # gb-2312, iso88591, csISO88598I
        if iso := _ISO.fullmatch(squeezed):
            return f"iso8859-{iso[1]}"
    return name


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
    data, codec = b"".join(part for _, _, part in run), run[0][1]
    try:
        return data.decode(codec, "strict" if codec in _ASCII else "replace")
    except (LookupError, ValueError, UnicodeError):
        pass
    words = " ".join(word for word, _, _ in run)
    try:
        # `unknown-8bit`, a misspelt name, or text that is not ASCII after all: UTF-8 is not valid by chance.
        return words if data.isascii() else data.decode("utf-8")
    except UnicodeError:
        return words
