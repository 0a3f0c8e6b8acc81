"""UID SEARCH and UID FETCH of a lab server, with the defects that concern messages."""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from tests.imap_lab.mailbox import Message, header_fields
from tests.imap_lab.profiles import Defect
from tests.imap_lab.wire import DRIP_SECONDS, ENDLESS, PIECE, SessionEnd, Wire


async def search(wire: Wire, tag: bytes, criteria: bytes) -> None:
    """Answer UID SEARCH."""
    if wire.folder is not None and not wire.mailbox.has(Defect.STALE):
        wire.view = wire.mailbox.visible(wire.folder)
    await asyncio.sleep(wire.mailbox.search_seconds)
    if wire.mailbox.has(Defect.NEGATIVE_UID, Defect.HUGE_UID):
        await wire.complete(tag, b"SEARCH 1 " + (b"-5" if wire.mailbox.has(Defect.NEGATIVE_UID) else b"9" * 40))
        return
    words = criteria.upper().split()
    chosen = list(enumerate(wire.view, 1))
    while words:
        word = words.pop(0)
        if word == b"ALL":
            continue
        if word == b"SINCE" and wire.mailbox.has(Defect.SINCE_BAD):
            await wire.end(tag, b"BAD invalid command or parameters")
            return
        if word == b"SINCE" and wire.mailbox.has(Defect.SINCE_EMPTY):
            chosen = []
            break
        if word == b"SINCE" and words:
            since = _since_day(wire, words.pop(0))
            chosen = [(number, message) for number, message in chosen if message.filed_at >= since]
        elif word == b"UID" and words:
            uids = [message.uid for message in wire.view]
            uid_range = words.pop(0)
            if wire.mailbox.has(Defect.OPEN_RANGE_BAD) and uid_range.endswith(b":*"):
                await wire.end(tag, b"BAD invalid search criteria")
                return
            if wire.mailbox.has(Defect.OPEN_RANGE_EMPTY) and uid_range.endswith(b":*"):
                chosen = []
                break
            low, high = _range(uid_range, max(uids, default=0), reverse=not wire.mailbox.has(Defect.RANGE_EMPTY))
            chosen = [(number, message) for number, message in chosen if low <= message.uid <= high]
        elif re.fullmatch(rb"\d+(:(\d+|\*))?", word):
            low, high = _range(word, len(wire.view), reverse=True)
            chosen = [(number, message) for number, message in chosen if low <= number <= high]
        elif wire.mailbox.has(Defect.SEARCH_ALL):
            break
        elif wire.mailbox.has(Defect.SEARCH_EMPTY):
            chosen = []
            break
        else:
            await wire.end(tag, b"BAD invalid command or parameters")
            return
    if wire.mailbox.has(Defect.ALL_EMPTY):
        chosen = []
    uids_found = [b" %d" % message.uid for _, message in chosen]
    if wire.mailbox.has(Defect.SPLIT_SEARCH):
        middle = len(uids_found) // 2
        lines = [
            b"SEARCH" + b"".join(uids_found[:middle]),
            b'ESEARCH (TAG "other") UID ALL 1:9999',
            b"SEARCH" + b"".join(uids_found[middle:]),
        ]
        await wire.complete(tag, *lines)
        return
    if wire.mailbox.has(Defect.BLANKS_IN_SEARCH):
        uids_found = [b" " + uid for uid in [*uids_found, b" "]]
    await wire.complete(tag, b"SEARCH" + b"".join(uids_found))


def _since_day(wire: Wire, text: bytes) -> datetime:
    day = datetime.strptime(text.decode().strip('"').title(), "%d-%b-%Y").date()
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if wire.mailbox.has(Defect.SINCE_LATE):
        return start + timedelta(days=1)
    return start - timedelta(hours=8) if wire.mailbox.has(Defect.SINCE_EARLY) else start


async def fetch(wire: Wire, tag: bytes, arguments: bytes) -> None:
    """Answer UID FETCH of headers or of times."""
    uid_list, _, items = arguments.partition(b" ")
    uids = [int(uid) for uid in uid_list.split(b",")]
    if wire.mailbox.has(Defect.UID_ORDER) and uids != sorted(uids):
        await wire.end(tag, b"BAD Sequence set is invalid")
        return
    requested = set(uids)
    fields = re.search(rb"BODY\.PEEK\[HEADER\.FIELDS \(([^)]*)\)\](?:<0\.(\d+)>)?", items)
    if fields is None and items != b"(UID INTERNALDATE)":
        await wire.end(tag, b"BAD only headers and times are served here")
        return
    chosen = [(number, message) for number, message in enumerate(wire.view, 1) if message.uid in requested]
    if await _hostile_answer(wire, tag, chosen):
        return
    stop = len(chosen) // 2 if wire.mailbox.has(Defect.LIMIT_IN_FETCH, Defect.BYE_IN_FETCH) else None
    for position, (number, message) in enumerate(chosen):
        if position == stop:
            if wire.mailbox.has(Defect.BYE_IN_FETCH):
                await wire.send(b"* BYE [UNAVAILABLE] come back later\r\n")
                raise SessionEnd
            await wire.end(tag, b"NO [LIMIT] FETCH Rate limit hit.")
            return
        is_refused = wire.mailbox.refuses(message.uid)
        if is_refused:
            await _end_at_message(wire)
        if wire.mailbox.has(Defect.BROKEN_MESSAGE) and is_refused:
            await wire.send(b"* %d FETCH (UID %d BODY[HEADER.FIELDS ((((\r\n" % (number, message.uid))
            continue
        if fields is None:
            line = b"* %d FETCH (%s)\r\n" % (number, _attributes(wire, message, items))
            await wire.send(line * (2 if wire.mailbox.has(Defect.DUPLICATE_UID) else 1) + _unsolicited(wire, number))
            continue
        header = header_fields(message.raw, fields[1], int(fields[2] or len(message.raw)))
        if wire.mailbox.has(Defect.OMITTED_MESSAGE) and is_refused:
            continue
        if wire.mailbox.has(Defect.EMPTY_HEADERS) or (wire.mailbox.has(Defect.EMPTY_PARTIAL) and fields[2]):
            header = b""
        if wire.mailbox.has(Defect.EMPTY_HEADER) and is_refused:
            header = b""
        if wire.mailbox.has(Defect.NIL_HEADERS) or (wire.mailbox.has(Defect.NIL_PARTIAL) and fields[2]):
            attributes = _attributes(wire, message, items)
            await wire.send(b"* %d FETCH (%s BODY[HEADER.FIELDS (%s)] NIL)\r\n" % (number, attributes, fields[1]))
            continue
        line = b"* %d FETCH (%s BODY[HEADER.FIELDS (%s)]%s {%d}\r\n" % (
            number, _attributes(wire, message, items), fields[1], b"<0>" if fields[2] else b"", len(header),
        )  # fmt: skip
        if wire.mailbox.has(Defect.WRONG_LITERAL_SIZE):
            header += b"X-More: than was announced\r\n"
        if wire.mailbox.has(Defect.DRIP_LITERAL):
            await wire.send(line)
            for byte in header:
                await wire.send(bytes([byte]))
                await asyncio.sleep(DRIP_SECONDS)
        await wire.send(line + header + b")\r\n")
        if wire.mailbox.has(Defect.DUPLICATE_UID):
            await wire.send(line + header + b")\r\n")
        await wire.send(_unsolicited(wire, number))
    await wire.complete(tag)


async def _end_at_message(wire: Wire) -> None:
    """Stop answering, or end the session, where the answer about one particular message begins."""
    if wire.mailbox.has(Defect.SILENT_AT_MESSAGE):
        await asyncio.sleep(3600)
    if wire.mailbox.has(Defect.HUGE_MESSAGE):
        await wire.send(b"* 1 FETCH (UID 1 BODY[HEADER.FIELDS (DATE)] {%d}\r\n" % ENDLESS)
        await wire.send_endlessly(b"x" * PIECE)
    if wire.mailbox.has(Defect.BYE_AT_MESSAGE):
        await wire.send(b"* BYE Internal error occurred. Refer to server log for more information.\r\n")
    if wire.mailbox.has(Defect.BUSY_AT_MESSAGE):
        await wire.send(b"* BYE [UNAVAILABLE] Temporarily unavailable\r\n")
    if wire.mailbox.has(Defect.BYE_AT_MESSAGE, Defect.EOF_AT_MESSAGE, Defect.BUSY_AT_MESSAGE):
        raise SessionEnd


def _unsolicited(wire: Wire, number: int) -> bytes:
    """Answers about messages that were not requested, after the answer about a requested one."""
    if not wire.mailbox.has(Defect.UNSOLICITED_FETCH):
        return b""
    return b"* %d FETCH (FLAGS (\\Seen))\r\n* %d FETCH (UID %d FLAGS ())\r\n" % (number, number + 1, 999_999)


async def _hostile_answer(wire: Wire, tag: bytes, chosen: Sequence[tuple[int, Message]]) -> bool:
    """Answer as the hostile defects demand; False when none of them is on."""
    if (wire.mailbox.has(Defect.NO_IN_FETCH) and _takes_refusal(wire)) or (
        wire.mailbox.has(Defect.REFUSED_MESSAGE) and any(wire.mailbox.refuses(message.uid) for _, message in chosen)
    ):
        await wire.end(tag, wire.mailbox.refusal)
    elif wire.mailbox.has(Defect.SILENT_COMMAND) and any(wire.mailbox.refuses(message.uid) for _, message in chosen):
        await asyncio.sleep(3600)
    elif wire.mailbox.has(Defect.OK_WITHOUT_DATA):
        await wire.complete(tag)
    elif wire.mailbox.has(Defect.OK_WITHOUT_DATA_ONCE):
        wire.mailbox.defects.discard(Defect.OK_WITHOUT_DATA_ONCE)
        await wire.complete(tag)
    elif wire.mailbox.has(Defect.GARBAGE):
        await wire.complete(
            tag, *(b"%d FETCH (UID %d BODY[HEADER ((( \x00\xff" % (number, message.uid) for number, message in chosen)
        )
    elif wire.mailbox.has(Defect.DEEP_NESTING):
        deep = b"(" * 4000 + b")" * 4000
        await wire.complete(
            tag, *(b"%d FETCH (UID %d BODY[HEADER] %b)" % (number, message.uid, deep) for number, message in chosen)
        )
    elif wire.mailbox.has(Defect.HUGE_LITERAL):
        await wire.send(b"* 1 FETCH (UID 1 BODY[HEADER.FIELDS (DATE)] {%d}\r\n" % ENDLESS)
        await wire.send_endlessly(b"x" * PIECE)
    elif wire.mailbox.has(Defect.MISSING_CRLF):
        await wire.send(b"* 1 FETCH (UID 1 FLA")
        raise SessionEnd
    else:
        return False
    return True


def _takes_refusal(wire: Wire) -> bool:
    left = wire.mailbox.refusals_left
    if left is not None:
        wire.mailbox.refusals_left = max(left - 1, 0)
    return left is None or left > 0


def _attributes(wire: Wire, message: Message, items: bytes) -> bytes:
    attributes = [] if wire.mailbox.has(Defect.FETCH_WITHOUT_UID) else [b"UID %d" % message.uid]
    if not wire.mailbox.has(Defect.NO_INTERNALDATE):
        attributes.append(b'INTERNALDATE "' + _internal_date(wire, message.filed_at) + b'"')
    if b"RFC822.SIZE" in items:
        attributes += [b"RFC822.SIZE %d" % len(message.raw), b"FLAGS (" + message.flags + b")"]
    if b"SAVEDATE" in items:
        attributes.append(b'SAVEDATE "' + _internal_date(wire, message.filed_at) + b'"')
    return b" ".join(attributes)


def _internal_date(wire: Wire, at: datetime) -> bytes:
    if wire.mailbox.has(Defect.OLD_INTERNALDATE):
        at = at.replace(year=2009, day=min(at.day, 28))
    if wire.mailbox.has(Defect.ONE_DIGIT_DAY):
        return f"{at.day}-{at:%b-%Y %H:%M:%S} +0000".encode()
    return f"{at.day:2}-{at:%b-%Y %H:%M:%S} +0000".encode()


def _range(text: bytes, last: int, *, reverse: bool) -> tuple[int, int]:
    """`a`, `a:b` or `a:*`; where `reverse`, a range is read in either direction (RFC 3501 §9, seq-range)."""
    first, colon, second = text.partition(b":")
    low = int(first)
    high = low if not colon else last if second == b"*" else int(second)
    return (min(low, high), max(low, high)) if reverse else (low, high)
