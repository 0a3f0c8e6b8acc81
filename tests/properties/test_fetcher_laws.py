"""The fetcher's pure half: headers total and linear, clocks that never help a forger, marks that survive any crash."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.parser import BytesHeaderParser
from email.policy import compat32
from email.utils import format_datetime
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from imapclient.response_parser import parse_fetch_response

from services.common.hashing import normalise_address
from services.imap.fetch_answers import from_lexer, parse_fast
from services.mail import headers, plan, trust
from services.mail.classify import classify
from services.mail.headers import Headers, Skipped, decode_words, parse
from services.mail.plan import Cursor
from services.mail.values import FolderView

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
pieces = st.sampled_from(
    [b"From: ", b"To: ", b"Subject: ", b"Message-ID: ", b"References: ", b"Date: ", b"\r\n", b"\n ", b"<", b">", b"@", b'"', b"(", b")",
     b",", b";", b":", b"\\", b"=?", b"?=", b"=?utf-8?B?", b"a", b"\xff", b"\x00", b"x@y.z", b"5byg", b" "]
)  # fmt: skip
soup = st.lists(pieces, max_size=60).map(b"".join) | st.binary(max_size=400)


@given(soup)
@settings(max_examples=300)
def test_no_bytes_make_the_parser_raise(raw: bytes) -> None:
    headers = parse(raw)
    assert isinstance(headers, Headers | Skipped)
    if isinstance(headers, Headers):
        kind, reason = classify(headers)
        assert kind in ("human", "automatic", "bulk", "bounce", "forward")
        assert (reason is None) == (kind == "human")
        assert len(headers.recipients) <= 64 and len(headers.references) <= 20 and len(headers.in_reply_to) <= 4
        for address in headers.recipients:
            normal = normalise_address(address)
            assert normal is None or normal.count("@") >= 1


lines = st.sampled_from(
    ["From seller Mon", "From: a@x", "To : b@x", ": nameless", "Subject: one", " folded", "\tfolded", "", "no field", "X-\x7f: 1",
     "subject:two", "To:\x0bc@x", "Cc:", "\xa0odd: 1", "Date:  \t x ", "To: \u5f20"]
)  # fmt: skip
blocks = st.lists(st.tuples(lines, st.sampled_from(["\r\n", "\n", "\r", "\r\r\n", "\x0c", "\x85"])), max_size=12)


@given(blocks.map(lambda parts: "".join(line + end for line, end in parts).encode()) | soup)
@settings(max_examples=500)
def test_fields_are_cut_as_the_standard_library_cuts_them(raw: bytes) -> None:
    expected: dict[str, list[str]] = {}
    for name, value in BytesHeaderParser(policy=compat32).parsebytes(raw).raw_items():
        expected.setdefault(name.strip().lower(), []).append(headers._as_text(str(value)))
    assert headers.split_fields(raw) == expected


@given(st.lists(pieces.map(lambda piece: piece.decode("latin-1")), max_size=30).map("".join))
def test_the_short_way_through_an_address_list_gives_what_the_scanner_gives(value: str) -> None:
    assert headers.split_addresses(value) == headers._split_full(value)


FORMS = st.fixed_dictionaries(
    {
        b"UID": st.integers(1, 4_294_967_295).map(lambda uid: str(uid).encode()),
        b"INTERNALDATE": st.sampled_from([b'" 1-Nov-2026 09:08:07 +0800"', b'"17-Feb-2025 23:59:59 -0530"', b"NIL"]),
        b"RFC822.SIZE": st.integers(0, 10**9).map(lambda size: str(size).encode()),
        b"FLAGS": st.sampled_from([b"()", b"(\\Seen)", b"(\\Seen \\Draft $Label)", b"(\\DRAFT)"]),
        b"SAVEDATE": st.sampled_from([b"NIL", b'" 1-Nov-2026 09:08:07 +0000"', b'"31-Feb-2026 09:08:07 +0000"']),
    }
)


@given(st.lists(FORMS, min_size=1, max_size=4, unique_by=lambda form: form[b"UID"]), st.randoms(use_true_random=False))
def test_the_fixed_form_of_an_answer_says_what_the_lexer_says(forms: list[dict[bytes, bytes]], chance: Random) -> None:
    """Attributes in any order before and behind the literal: read without a lexer, or left to it, never differently."""
    data: list[object] = []
    for sequence, form in enumerate(forms, 1):
        literal = f"Subject: {sequence} (UID 7)\r\n\r\n".encode()
        attributes = [name + b" " + value for name, value in form.items()]
        chance.shuffle(attributes)
        cut = chance.randint(0, len(attributes))
        head = b" ".join([*attributes[:cut], b"BODY[HEADER.FIELDS (SUBJECT)]<0> {%d}" % len(literal)])
        data.append((b"%d (" % sequence + head, literal))
        data.append(b"".join(b" " + one for one in attributes[cut:]) + b")")
    answer = parse_fetch_response(list(data), normalise_times=False)
    fixed = parse_fast(data)
    if any(form[b"INTERNALDATE"] == b"NIL" for form in forms):
        assert fixed is None
    else:
        assert fixed == {uid: from_lexer(uid, found) for uid, found in answer.items()}


@pytest.mark.parametrize(
    "data",
    [
        [None],
        [b"1 (UID 5 FLAGS ())"],
        [(b"1 (UID 5 BODY[HEADER.FIELDS (X)]<0> {1}", b"x"), b")", b"2 (FLAGS (\\Seen))"],
        [(b"1 (UID 5 FLAGS {5}", b"\\Seen"), (b" BODY[HEADER.FIELDS (X)] {1}", b"x"), b")"],
        [(b"1 (BODY[HEADER.FIELDS (X)] {1}", b"x"), b")"],
        [(b"1 (UID 5 BODY[HEADER.FIELDS (X)] {1}", b"x"), b")", (b"1 (UID 5 BODY[HEADER.FIELDS (X)] {1}", b"y"), b")"],
        [(b'1 (UID 5 INTERNALDATE "31-Feb-2026 10:00:00 +0000" BODY[HEADER.FIELDS (X)] {1}', b"x"), b")"],
        [(b"1 (UID 5 X-NEW 3 BODY[HEADER.FIELDS (X)] {1}", b"x"), b")"],
    ],
)
def test_every_other_form_is_left_to_the_lexer(data: list[object]) -> None:
    assert parse_fast(data) is None


def work(call: Callable[[], object]) -> int:
    """Lines of our own code that a call runs: a measure that no busy machine can change."""
    count = 0

    def trace(frame: object, event: str, arg: object) -> object:
        nonlocal count
        count += 1
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        call()
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize(
    "pattern", [b'"', b"(", b"<", b"a@b,", b"<@", b"=?", b"=?a?b?", b"=?a?q?x", b"\n ", b":;", b"(\\", b"a,"]
)
def test_the_work_grows_no_faster_than_the_text(pattern: bytes) -> None:
    def cost(size: int) -> int:
        text = pattern * (size // len(pattern))
        return sum(work(lambda name=name: parse(name + b": " + text)) for name in (b"To", b"Subject", b"References"))  # type: ignore[misc]

    assert cost(16_000) < 3 * cost(8_000) + 2_000


@given(st.text(max_size=60))
def test_decoding_a_subject_never_fails(text: str) -> None:
    assert isinstance(decode_words(text), str)


instants = st.integers(-4_000_000, 100_000).map(lambda seconds: NOW + timedelta(seconds=seconds))
maybe = st.none() | instants


@given(maybe, maybe, st.none() | st.integers(1, 4_000_000))
def test_a_clock_counts_only_inside_of_what_we_know(
    date: datetime | None, internal: datetime | None, gap: int | None
) -> None:
    after = None if gap is None else NOW - timedelta(seconds=gap)
    sent = trust.trusted_time(date=date, internal=internal, save=None, after=after, first_seen=NOW)
    assert sent.sent_at <= NOW + trust.LATE_TOLERANCE
    if after is not None:
        assert sent.sent_at >= after - trust.EARLY_TOLERANCE
    if sent.evidence == "verified":
        assert after is not None


@given(instants, instants, st.integers(1, 4_000_000), instants)
def test_a_forged_date_never_gains_more_than_the_tolerance(
    true: datetime, internal: datetime, gap: int, forged: datetime
) -> None:
    """Filed inside of the interval: whatever Date says, the message counts no earlier than the interval − 15 min."""
    after = NOW - timedelta(seconds=gap)
    sent = trust.trusted_time(date=forged, internal=internal, save=None, after=after, first_seen=NOW)
    assert sent.sent_at >= after - trust.EARLY_TOLERANCE


@given(instants, instants, maybe)
def test_savedate_beats_every_other_clock(save: datetime, date: datetime, internal: datetime | None) -> None:
    sent = trust.trusted_time(date=date, internal=internal, save=save, after=None, first_seen=NOW)
    assert abs(sent.sent_at - save) <= trust.SAVE_TOLERANCE
    assert (sent.evidence == "verified") == (sent.basis == "date")


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("date", "internal", "save", "after", "expected"),
    [
        (0, None, 10, None, ("date", "verified", 0)),
        (-60, None, 0, None, ("save-date", "suspect", 0)),
        (-20, -20, None, -30, ("date", "verified", -20)),
        (-45, -20, None, -30, ("date", "verified", -45)),
        (-46, -20, None, -30, ("internal-date", "verified", -20)),
        (5, None, None, -30, ("date", "verified", 5)),
        (6, None, None, -30, ("interval-end", "suspect", 0)),
        (-100, -95, None, -180, ("date", "verified", -100)),
        (-100, -50, None, -180, ("internal-date", "suspect", -50)),
        (-100, -500, None, -180, ("date", "suspect", -100)),
        (-500, -500, None, -180, ("interval-end", "suspect", 0)),
        (-500, -495, None, None, ("date", "backfill", -500)),
        (-500, -400, None, None, ("internal-date", "suspect", -400)),
        (None, -400, None, None, ("internal-date", "suspect", -400)),
        (None, None, None, None, ("interval-end", "suspect", 0)),
    ],
)
def test_the_table_of_clocks(
    date: int | None, internal: int | None, save: int | None, after: int | None, expected: tuple[str, str, int]
) -> None:
    def at(minutes: int | None) -> datetime | None:
        return None if minutes is None else NOW + timedelta(minutes=minutes)

    sent = trust.trusted_time(date=at(date), internal=at(internal), save=at(save), after=at(after), first_seen=NOW)
    assert (sent.basis, sent.evidence, sent.sent_at) == (expected[0], expected[1], at(expected[2]))


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (["Subject: Re: price"], "human"),
        (["Subject: Re: price", "Auto-Submitted: auto-replied"], "automatic"),
        (["Subject: Re: price", "Auto-Submitted: no"], "human"),
        (["Subject: Re: price", "X-Auto-Response-Suppress: All"], "human"),
        (["Subject: Automatic reply: x", "In-Reply-To: <a@b>"], "automatic"),
        (["Subject: Automatic reply: x"], "human"),
        (["Subject: =?utf-8?B?6Ieq5Yqo5Zue5aSN?=: x", "In-Reply-To: <a@b>"], "automatic"),
        (["Subject: news", "List-Id: <x>"], "bulk"),
        (["Subject: news", "Precedence: bulk"], "bulk"),
        (["Subject: many", "To: " + ", ".join(f"a{number}@b.c" for number in range(21))], "bulk"),
        (["Subject: many", "To: " + ", ".join(f"a{number}@b.c" for number in range(20))], "human"),
        (["Subject: x", "Content-Type: multipart/report; report-type=delivery-status"], "bounce"),
        (["From: <>", "Subject: x"], "bounce"),
        (["Subject: Fwd: x"], "forward"),
        (["Subject: 转发: x"], "forward"),
        (["Subject: 转发：x"], "forward"),
    ],
)
def test_kinds_of_mail(lines: list[str], kind: str) -> None:
    headers = parse("\r\n".join([*lines, f"Date: {format_datetime(NOW)}", "", ""]).encode())
    assert isinstance(headers, Headers)
    assert classify(headers)[0] == kind


@given(st.integers(1, 40), st.integers(0, 20), st.sets(st.integers(1, 60)))
def test_what_is_gone_is_counted_between_two_polls(before: int, more: int, found: set[int]) -> None:
    marks = Cursor(1, before - 1, None, before)
    given_away, there = plan.count_assigned(marks, FolderView(1, before + more, len(found)), sorted(found))
    assert given_away == more
    assert there == len(found & set(range(before, before + more))) <= given_away
    # A message that came after EXAMINE has its turn in the next poll; a server that does not tell is not counted.
    assert plan.count_assigned(marks, FolderView(1, None, 0), sorted(found)) == (0, 0)
    assert plan.count_assigned(Cursor(1, before, None, None), FolderView(1, before, 0), sorted(found)) == (0, 0)


class MarksMachine(RuleBasedStateMachine):
    """A Sent folder that grows, a server that shows some mail late, a fetcher that dies anywhere.

    Law: whatever stays in the folder for one complete poll is published.
    """

    LOOK_BACK = 4

    @initialize()
    def begin(self) -> None:
        self.visible: set[int] = set()
        self.hidden: set[int] = set()
        self.next_uid = 1
        self.published: set[int] = set()
        self.marks: Cursor | None = None
        self.complete_with: set[int] = set()

    @rule(count=st.integers(1, 5))
    def mail(self, count: int) -> None:
        for _ in range(count):
            self.visible.add(self.next_uid)
            self.next_uid += 1

    @rule()
    def late_mail(self) -> None:
        """A UID is given now and seen only later."""
        self.hidden.add(self.next_uid)
        self.next_uid += 1
        self.visible.add(self.next_uid)
        self.next_uid += 1

    @rule()
    def show(self) -> None:
        newest = sorted(self.visible | self.hidden)[-self.LOOK_BACK :]
        for uid in [uid for uid in self.hidden if uid in newest]:
            self.hidden.discard(uid)
            self.visible.add(uid)

    @rule()
    def renumber(self) -> None:
        """Another UIDVALIDITY: every message has another UID. The published set follows the messages."""
        order = sorted(self.visible)
        moved = {uid: number + 1 for number, uid in enumerate(order)}
        self.published = {moved[uid] for uid in self.published if uid in moved}
        self.visible, self.hidden = set(moved.values()), set()
        self.next_uid = len(order) + 1
        self.complete_with = set()
        self.validity = getattr(self, "validity", 1) + 1

    @rule(steps=st.integers(0, 12), chunk=st.integers(1, 3))
    def poll(self, steps: int, chunk: int) -> None:
        """A poll that dies after so many saves (12: mostly not at all)."""
        view = FolderView(getattr(self, "validity", 1), self.next_uid, len(self.visible))
        left = steps

        def save(marks: Cursor, uids: list[int]) -> bool:
            nonlocal left
            self.published |= set(uids)  # acknowledged, perhaps before a crash that forgets the marks
            left -= 1
            if left < 0:
                return False
            self.marks = marks
            return True

        at_start = set(self.visible)
        if plan.why_scan(self.marks, view, reconcile=False):
            newest = sorted(self.visible)[-max(self.LOOK_BACK, 1) :]
            if not save(plan.start_scan(view, newest, self.LOOK_BACK), []):
                return
        else:
            assert self.marks is not None
            found = [uid for uid in self.visible if uid >= plan.search_low(self.marks, self.LOOK_BACK)]
            uids = plan.unseen_uids(self.marks, found, 100)
            for at in range(0, len(uids), chunk):
                part = uids[at : at + chunk]
                if not save(plan.advance(self.marks, part, self.LOOK_BACK), part):
                    return
            if not save(plan.remember_uidnext(self.marks, view), []):
                return
        while uids := plan.older_uids(self.marks or Cursor(0), sorted(self.visible), chunk):
            assert self.marks is not None
            if not save(plan.advance_scan(self.marks, uids), uids):
                return
        assert self.marks is not None
        if not self.marks.complete and not save(plan.finish_scan(self.marks), []):
            return
        self.complete_with = at_start

    @invariant()
    def what_stayed_for_a_complete_poll_is_published(self) -> None:
        if hasattr(self, "complete_with"):
            assert self.complete_with & self.visible <= self.published


TestMarks = MarksMachine.TestCase
