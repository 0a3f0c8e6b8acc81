"""Facts in lines, CSV or NDJSON, or in a JSON array: each an entry or the reason why it cannot be read.

A line ends at LF or CRLF only. Other line separators of Unicode (U+2028, U+0085, vertical tab, form feed) may be in a JSON
string, and `str.splitlines` would divide it there (https://jsonlines.org, RFC 8259 §7). Bytes that are not UTF-8 are kept as
lone surrogates until their line is read, so one bad line does not hide the others.
"""

import csv
import io
import json
import re
from typing import Any, Final

from services.common.errors import InvalidEvent, ReplyrateError
from services.common.language import Bilingual
from services.inquiries.sentences import columns, sentence

_NOT_UTF8: Final = re.compile("[\udc80-\udcff]")


class InvalidLine(InvalidEvent):
    """A fact that cannot be published. `sentence`: what is wrong with it, and with `path` where; `cure`: what to write instead
    (None: what belongs into the field), in both languages."""

    def __init__(
        self, reason: str, sentence: Bilingual, cure: Bilingual | None = None, *, path: str | None = None
    ) -> None:
        super().__init__(reason, sentence.en if path is None else f"{path}: {sentence.en}")
        self.sentence = sentence
        self.cure = cure


Entry = dict[str, Any] | InvalidLine


def invalid(reason: str, detail: str, cure: str, **values: str | int) -> InvalidLine:
    """A line that cannot be read, by the codes of its sentences."""
    return InvalidLine(reason, sentence("detail", detail, **values), sentence("cure", cure))


def decoded(raw: bytes) -> str:
    """The text of lines, without a byte order mark; bytes that are not UTF-8 as lone surrogates."""
    return raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def check_header(text: str, *, csv_form: bool) -> None:
    """Raise ReplyrateError when a CSV file has a column that is unknown or occurs twice."""
    if not csv_form:
        return
    try:
        header = next(csv.reader(io.StringIO(text, newline="\n")), [])
    except csv.Error as error:
        raise ReplyrateError(f"line 1: not CSV ({error}). Nothing was published") from None
    if _NOT_UTF8.search("".join(header)):
        detail, cure = sentence("detail", "not-utf8").en, sentence("cure", "file-in-utf8").en
        raise ReplyrateError(f"line 1: {detail}; save {cure}. Nothing was published")
    unknown = [name for name in header if name not in columns()]
    if unknown:
        raise ReplyrateError(
            f"line 1: unknown column {', '.join(unknown)}; the columns are {', '.join(columns())}. Nothing was published"
        )
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise ReplyrateError(f"line 1: column {', '.join(repeated)} occurs twice; remove one. Nothing was published")


def lines(text: str, *, csv_form: bool) -> list[tuple[int, Entry]]:
    """(number, entry) of every line that is not empty; the number is that of the line on which the entry starts."""
    if csv_form:
        return _csv_lines(text)
    numbered = enumerate(text.split("\n"), 1)
    return [(number, _json_entry(line)) for number, line in numbered if line.strip(" \t\r")]


def _csv_lines(text: str) -> list[tuple[int, Entry]]:
    reader = csv.reader(io.StringIO(text, newline="\n"))
    header = next(reader, [])
    entries: list[tuple[int, Entry]] = []
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return entries
        except csv.Error as error:
            entries.append((number, invalid("schema", "not-csv", "quotes", problem=str(error))))
            continue
        if _NOT_UTF8.search("".join(cells)):
            entries.append((number, invalid("schema", "not-utf8", "file-in-utf8")))
        elif cells and len(cells) > len(header):
            entries.append((number, invalid("schema", "too-many-cells", "cell-for-column")))
        elif cells:
            named = zip(header, cells, strict=False)
            entries.append((number, {name: value for name, value in named if value}))


def _json_entry(line: str) -> Entry:
    if _NOT_UTF8.search(line):
        return invalid("not-json", "not-utf8", "file-in-utf8")
    try:
        entry = json.loads(line, parse_constant=_refuse_constant)
    except RecursionError:
        return invalid("not-json", "nested-too-deeply", "flat-fields")
    except json.JSONDecodeError as error:
        return invalid("not-json", "line-not-json", "object-in-line", problem=error.msg, character=error.colno)
    except ValueError:  # more digits than sys.int_max_str_digits, or NaN
        return invalid("not-json", "not-a-number", "double-or-string")
    return entry if isinstance(entry, dict) else invalid("not-json", "line-not-object", "object-in-line")


def elements(text: str) -> list[tuple[int, Entry]]:
    """(index from 0, entry) of every element of a JSON array. InvalidLine when the text is not one."""
    if _NOT_UTF8.search(text):
        raise invalid("not-json", "not-utf8", "document-in-utf8")
    try:
        array = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise invalid("not-json", "nested-too-deeply", "flat-fields") from None
    except json.JSONDecodeError as error:
        raise invalid(
            "not-json", "document-not-json", "array-of-objects",
            problem=error.msg, line=error.lineno, character=error.colno,
        ) from None  # fmt: skip
    except ValueError:
        raise invalid("not-json", "not-a-number", "double-or-string") from None
    if not isinstance(array, list):
        raise invalid("not-json", "not-an-array", "array-of-objects")
    return [
        (index, element)
        if isinstance(element, dict)
        else (index, invalid("not-json", "element-not-object", "object-for-fact"))
        for index, element in enumerate(array)
    ]


def as_bytes(document: dict[str, Any]) -> bytes:
    """The document as JSON in UTF-8. Raises InvalidLine when it cannot be written as that."""
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise invalid("not-json", "half-a-character", "whole-characters") from None
    except RecursionError:
        raise invalid("not-json", "nested-too-deeply", "flat-fields") from None
    except ValueError:
        raise invalid("not-json", "not-a-number", "double-or-string") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(name)
