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

INSTANT = "an instant with its offset, like 2026-11-20T10:00:00Z or 2026-11-20T18:00:00+08:00"
COLUMNS = {
    "type": "inquiry (when empty), status, reply or erase",
    "company_id": "the seller's id, as in `replyrate company add`",
    "account_id": "the account that received the inquiry or replied, as in `replyrate account add`",
    "inquiry_id": "the platform's id of the inquiry",
    "received_at": "inquiry: when it was received; " + INSTANT,
    "buyer_id": "inquiry: the platform's id of the buyer",
    "buyer_addresses": "inquiry: the buyer's addresses, separated by spaces; hashed before they are stored",
    "buyer_region": "inquiry: country where the buyer is based, like US",
    "buyer_sent_from_region": "inquiry: country where it was sent from, like CN",
    "message_ids": "inquiry: Message-IDs of the notification mails, separated by spaces",
    "reply_addresses": "inquiry: relay addresses that replies may go to, separated by spaces",
    "thread_id": "inquiry: the platform's id of the conversation",
    "channel": "inquiry and reply: the channel it was sent through, like inquiry, mail or chat",
    "status": "status: the new status, like spam, rejected, withdrawn, reassigned",
    "at": "status: when it changed; erase: the instant up to which facts are forgotten; " + INSTANT,
    "reply_id": "reply: the platform's id of the reply",
    "replied_at": "reply: when it was sent; " + INSTANT,
    "automatic": "reply: yes when no person wrote it",
}
"""Column of a CSV file (and flat field of NDJSON) → what to write into it."""
_NOT_UTF8: Final = re.compile("[\udc80-\udcff]")
NOT_UTF8: Final = "not UTF-8"
UTF8: Final = "the file as UTF-8 (spreadsheets call it `CSV UTF-8`)"
ONE_OBJECT: Final = "one JSON object per line, in UTF-8"
WHOLE_CHARACTERS: Final = "the character itself in UTF-8, both halves as \\uXXXX\\uXXXX, or leave it out"
FINITE: Final = "a number that a double can hold, or a string"


class InvalidLine(InvalidEvent):
    """A line that cannot be published, with its cure: what to write instead."""

    def __init__(self, reason: str, detail: str, cure: str) -> None:
        super().__init__(reason, detail)
        self.cure = cure


Entry = dict[str, Any] | InvalidLine


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
        raise ReplyrateError(f"line 1: {NOT_UTF8}; save {UTF8}. Nothing was published")
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        raise ReplyrateError(
            f"line 1: unknown column {', '.join(unknown)}; the columns are {', '.join(COLUMNS)}. Nothing was published"
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
            entries.append((number, InvalidLine("schema", f"not CSV ({error})", "a quote at both ends of a cell")))
            continue
        if _NOT_UTF8.search("".join(cells)):
            entries.append((number, InvalidLine("schema", NOT_UTF8, UTF8)))
        elif cells and len(cells) > len(header):
            detail = "more cells than columns; put a cell that contains a comma into quotes"
            entries.append((number, InvalidLine("schema", detail, "one cell for each column")))
        elif cells:
            named = zip(header, cells, strict=False)
            entries.append((number, {name: value for name, value in named if value}))


def _json_entry(line: str) -> Entry:
    if _NOT_UTF8.search(line):
        return InvalidLine("not-json", NOT_UTF8, UTF8)
    try:
        entry = json.loads(line, parse_constant=_refuse_constant)
    except RecursionError:
        return InvalidLine("not-json", "nested too deeply", "the fields of schemas/events, which are not nested deeply")
    except json.JSONDecodeError as error:
        return InvalidLine("not-json", f"not JSON ({error.msg}, character {error.colno})", ONE_OBJECT)
    except ValueError:  # more digits than sys.int_max_str_digits, or NaN
        return InvalidLine("not-json", "a number is too large, or is not one that JSON has", FINITE)
    return entry if isinstance(entry, dict) else InvalidLine("not-json", "the line is not a JSON object", ONE_OBJECT)


def elements(text: str) -> list[tuple[int, Entry]]:
    """(index from 0, entry) of every element of a JSON array. InvalidLine when the text is not one."""
    if _NOT_UTF8.search(text):
        raise InvalidLine("not-json", NOT_UTF8, "the document in UTF-8")
    try:
        array = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidLine(
            "not-json", "nested too deeply", "the fields of schemas/events, which are not nested deeply"
        ) from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, character {error.colno}"
        raise InvalidLine("not-json", f"not JSON ({error.msg}, {place})", "a JSON array of objects, in UTF-8") from None
    except ValueError:
        raise InvalidLine("not-json", "a number is too large, or is not one that JSON has", FINITE) from None
    if not isinstance(array, list):
        raise InvalidLine("not-json", "the document is not a JSON array", "a JSON array of objects, in UTF-8")
    return [
        (index, element)
        if isinstance(element, dict)
        else (index, InvalidLine("not-json", "the element is not a JSON object", "one JSON object for each fact"))
        for index, element in enumerate(array)
    ]


def as_bytes(document: dict[str, Any]) -> bytes:
    """The document as JSON in UTF-8. Raises InvalidLine when it cannot be written as that."""
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        detail = "contains half of a surrogate pair (\\ud800 to \\udfff), which is not a character"
        raise InvalidLine("not-json", detail, WHOLE_CHARACTERS) from None
    except RecursionError:
        raise InvalidLine("not-json", "nested too deeply", ONE_OBJECT) from None
    except ValueError:
        raise InvalidLine("not-json", "a number is too large, or is not one that JSON has", FINITE) from None


def _refuse_constant(name: str) -> float:
    raise ValueError(name)
