"""The product's clocks and the recounted ones agree on drawn mails, and on the ways in which sellers tried to gain by clocks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.events import MessageSent
from services.common.hashing import Hasher
from services.mail import messages, trust
from services.mail.values import FetchedHeader
from tests.oracle.clocks import Clocks, Counted, counted

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
EDGES = [timedelta(minutes=minutes) for minutes in (0, 5, 10, 15, 30, 60, 120, 600, 1440, 10_080, 10_140, 40_000)]

instants = st.builds(
    lambda edge, apart, sign: NOW + sign * edge + timedelta(microseconds=apart),
    st.sampled_from(EDGES), st.sampled_from([-1, 0, 1]), st.sampled_from([-1, -1, -1, 1]),
)  # fmt: skip
beside = st.builds(
    lambda edge, apart: edge + timedelta(microseconds=apart), st.sampled_from(EDGES), st.sampled_from([-1, 0, 1])
)


@st.composite
def drawn_clocks(draw: st.DrawFn) -> Clocks:
    """Clocks on the boundaries of the table: beside the interval's ends, and beside each other."""
    after = draw(st.none() | instants.filter(lambda at: at <= NOW))
    date = draw(st.none() | instants)
    internal = draw(st.none() | instants)
    if date is not None and draw(st.booleans()):
        internal = date + draw(beside) * draw(st.sampled_from([-1, 1]))
    save = draw(st.none() | st.none() | instants)
    if date is not None and save is not None and draw(st.booleans()):
        save = date + draw(beside) * draw(st.sampled_from([-1, 1]))
    return Clocks(date, internal, save, after, NOW, draw(st.booleans()))


def of_the_product(clocks: Clocks) -> Counted:
    sent = trust.trusted_time(
        date=clocks.date, internal=clocks.internal, save=clocks.save, after=clocks.after, first_seen=clocks.seen,
        interrupted=clocks.kept_from_being_read,
    )  # fmt: skip
    return Counted(sent.sent_at, sent.basis, sent.evidence)


@given(drawn_clocks())
def test_the_product_takes_the_clock_that_the_table_names(clocks: Clocks) -> None:
    assert of_the_product(clocks) == counted(clocks)


def event_of(clocks: Clocks) -> MessageSent:
    """The event of a mail with these clocks, from its header on."""
    date = "" if clocks.date is None else f"Date: {clocks.date:%a, %d %b %Y %H:%M:%S} +0000\r\n"
    raw = f"Message-ID: <a@seller.example>\r\n{date}To: buyer@shop.example\r\n\r\n".encode()
    hasher = Hasher(bytes(32))
    fetched = FetchedHeader(1, clocks.internal, clocks.save, 100, False, raw)
    message = messages.parse_message("c", fetched, hasher)
    assert isinstance(message, messages.ParsedMessage)
    event, _ = messages.event(
        "c", "a", "m", message, hasher,
        after=clocks.after, first_seen=clocks.seen, interrupted=clocks.kept_from_being_read,
    )  # fmt: skip
    return event


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


@pytest.mark.parametrize(
    ("clocks", "at", "evidence"),
    [
        # A mailbox moves to another server: SAVEDATE is the time of the move for all of its mail.
        *((Clocks(ago(days=days), ago(days=days), ago(minutes=3), None, NOW), ago(minutes=3), "suspect") for days in (1, 20, 50)),
        (Clocks(ago(days=20), ago(minutes=3), ago(minutes=3), ago(minutes=10), NOW), ago(minutes=3), "suspect"),
        (Clocks(ago(minutes=5), ago(minutes=3), ago(minutes=3), None, NOW), ago(minutes=5), "verified"),
        # An outage that the seller made, then forged clocks that agree.
        (Clocks(ago(hours=20), ago(hours=20), None, ago(hours=26), NOW, True), ago(hours=20), "suspect"),
        (Clocks(ago(hours=20), ago(hours=20), ago(minutes=1), ago(hours=26), NOW, True), ago(minutes=1), "suspect"),
        (Clocks(ago(hours=20), ago(hours=20), None, ago(hours=26), NOW), ago(hours=20), "verified"),
        # Removed and added: a first scan.
        (Clocks(ago(hours=20), ago(hours=20), None, None, NOW), ago(hours=20), "backfill"),
        # Old mail, copied into the folder now.
        *((Clocks(ago(days=days), ago(minutes=3), None, ago(minutes=10), NOW), ago(minutes=3), "suspect") for days in (8, 730, 9_000)),
        (Clocks(ago(days=730), None, None, ago(minutes=10), NOW), NOW, "suspect"),
    ],
)  # fmt: skip
def test_clocks_of_a_seller_who_gains_by_them(clocks: Clocks, at: datetime, evidence: str) -> None:
    assert counted(clocks)[::2] == (at, evidence)
    event: Any = event_of(clocks)
    assert (event.sent_at, event.evidence) == (at, evidence)
    assert Counted(event.sent_at, event.sent_at_basis, event.evidence) == counted(clocks)
