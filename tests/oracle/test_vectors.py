"""The oracle alone: the vectors of docs/rules.md, and rules without a vector."""

from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from services.recount.facts import Json
from services.recount.instants import SECOND, first_instant, instant, instant_text
from services.recount.names import hashed, normal_address, normal_message_id
from services.recount.rates import bucket, rounded_percent
from services.recount.recount import recount, rule_set

KEY = bytes(range(32))
PRESETS = Path(__file__).parents[2] / "services" / "aggregator" / "judge" / "rule_sets"
PACIFIC = "America/Los_Angeles"
SETTLED = "2021-02-13"


def rule(name: str, **changes: Any) -> Json:
    """A preset, with some parameters changed."""
    return rule_set(PRESETS / f"{name}.toml") | changes


def event(kind: str, /, **data: Any) -> Json:
    """An event of company c."""
    return {"type": f"replyrate.{kind}.v1", "data": {"company_id": "c", **data}}


def asked(inquiry_id: str, received_at: str, *, buyer: str = "b", account: str = "A", **more: Any) -> Json:
    """An inquiry; the buyer's address is BUYER@example.com."""
    data = {"account_id": account, "inquiry_id": inquiry_id, "received_at": received_at, **more}
    return event("inquiry-received", buyer={"id": buyer, "addresses": [f"{buyer}@example.com"]}, **data)


def mail(name: str, sent_at: str, *, to: str = "b", mailbox: str = "m1", **more: Any) -> Json:
    """A message to a buyer."""
    data: Json = {
        "account_id": "A",
        "mailbox_id": mailbox,
        "message_id": hashed(KEY, "message", "c", name),
        "sent_at": sent_at,
        "sent_at_basis": "date",
        "evidence": "verified",
        "kind": "human",
        "recipients": [hashed(KEY, "address", "c", f"{to}@example.com")],
    }
    return event("message-sent", **(data | more))


def platform(name: str, inquiry_id: str, replied_at: str, **more: Any) -> Json:
    """A reply on the platform."""
    data: Json = {
        "account_id": "A",
        "inquiry_id": inquiry_id,
        "reply_id": name,
        "replied_at": replied_at,
        "channel": "mail",
    }
    return event("reply-recorded", **(data | more))


def status(inquiry_id: str, word: str, at: str, **more: Any) -> Json:
    """A status."""
    return event("inquiry-status-changed", inquiry_id=inquiry_id, status=word, at=at, **more)


def row(mailbox: str | None, low: str | None, high: str | None, recorded_at: str, **more: Any) -> Json:
    """A line of coverage of account A."""
    data: Json = {"company_id": "c", "account_id": "A", "mailbox_id": mailbox, "connected_at": "2020-01-01T00:00:00Z"}
    return data | {"removed_at": None, "from": low, "through": high, "recorded_at": recorded_at} | more


class Recounted:
    """A recount by one rule set, with its rows by account and inquiry."""

    def __init__(
        self,
        rules: Json,
        inquiries: list[Json],
        sent: Sequence[Json] = (),
        *,
        coverage: list[Json] | None = None,
        as_of: str = SETTLED,
    ) -> None:
        recounted = recount(inquiries, sent, coverage, [rules], as_of, KEY)
        self.company = next(line for line in recounted["reply_rate"] if line["level"] == "company")
        self.accounts = {line["account_id"]: line for line in recounted["reply_rate"] if line["level"] == "account"}
        self.outcomes = {line["inquiry_id"]: line for line in recounted["inquiry_outcomes"]}

    def counts(self, account: str | None = None) -> dict[str, int]:
        """The counts that are not 0."""
        chosen = self.company if account is None else self.accounts[account]
        names = ("inquiries", "excluded", "counted", "timely", "late", "unanswered", "unmeasured", "pending")
        return {name: chosen[name] for name in names if chosen[name]}


@pytest.mark.parametrize(
    ("name", "as_of", "start", "end"),
    [
        ("alibaba-2016", "2016-12-28", "2016-11-24", "2016-12-23"),
        ("alibaba-2019", "2019-05-07", "2019-04-01", "2019-04-30"),
        ("alibaba-2021", "2021-01-31", "2021-01-01", "2021-01-30"),
    ],
)
def test_windows_end_settle_days_before_the_day(name: str, as_of: str, start: str, end: str) -> None:
    recounted = Recounted(rule(name), [asked("i", "2016-11-01T20:00:00Z")], as_of=as_of)
    assert (recounted.company["window_start"], recounted.company["window_end"]) == (start, end)


@pytest.mark.parametrize(
    ("day", "starts", "ends", "hours"),
    [
        ("2021-01-15", "2021-01-15T08:00:00Z", "2021-01-16T08:00:00Z", 24),
        ("2021-03-14", "2021-03-14T08:00:00Z", "2021-03-15T07:00:00Z", 23),
        ("2021-11-07", "2021-11-07T07:00:00Z", "2021-11-08T08:00:00Z", 25),
    ],
)
def test_pacific_days_have_23_to_25_hours(day: str, starts: str, ends: str, hours: int) -> None:
    first, after = first_instant(date.fromisoformat(day), PACIFIC), instant(ends)
    assert instant_text(first) == starts
    assert after - first == hours * 3600 * SECOND
    for at, shown in ((first, day), (after - 1, day)):
        recounted = Recounted(rule("default"), [asked("i", instant_text(at))], as_of="2021-12-31")
        assert recounted.outcomes["i"]["unit_day"] == shown
    before = Recounted(rule("default"), [asked("i", instant_text(first - 1))], as_of="2021-12-31")
    later = Recounted(rule("default"), [asked("i", ends)], as_of="2021-12-31")
    assert before.outcomes["i"]["unit_day"] < day < later.outcomes["i"]["unit_day"]


@pytest.mark.parametrize(
    ("day", "starts"),
    [("2026-03-08", "2026-03-08T05:00:00Z"), ("2026-11-01", "2026-11-01T04:00:00Z")],
    ids=["midnight-skipped", "midnight-twice"],
)
def test_days_start_at_the_first_instant_also_without_or_with_two_midnights(day: str, starts: str) -> None:
    assert instant_text(first_instant(date.fromisoformat(day), "America/Havana")) == starts


def test_one_reply_answers_both_units() -> None:
    inquiries = [asked("i1", "2021-01-16T06:50:00Z"), asked("i2", "2021-01-16T08:10:00Z")]  # 22:50 and 00:10 Pacific
    recounted = Recounted(rule("default"), inquiries, [mail("x", "2021-01-16T09:00:00Z")])
    assert recounted.counts() == {"inquiries": 2, "counted": 2, "timely": 2}
    assert [recounted.outcomes[name]["unit_day"] for name in ("i1", "i2")] == ["2021-01-15", "2021-01-16"]
    assert [recounted.outcomes[name]["reply_seconds"] for name in ("i1", "i2")] == [7800, 3000]


def test_two_inquiries_of_a_day_are_one_unit() -> None:
    inquiries = [asked("i1", "2021-01-16T08:00:00Z"), asked("i2", "2021-01-17T07:59:59.999999Z", account="B")]
    recounted = Recounted(rule("default"), inquiries, [mail("x", "2021-01-17T08:00:00Z")])
    assert recounted.counts() == {"inquiries": 2, "counted": 1, "timely": 1}
    assert recounted.counts("B") == {"inquiries": 1}
    assert (recounted.outcomes["i2"]["outcome"], recounted.outcomes["i2"]["account_id"]) == ("merged", "A")


@pytest.mark.parametrize(
    ("sent_at", "outcome", "place"),
    [("2021-01-16T20:00:00Z", "timely", 24), ("2021-01-16T20:00:00.000001Z", "late", 25)],
)
def test_an_answer_exactly_at_the_target_is_in_time(sent_at: str, outcome: str, place: int) -> None:
    recounted = Recounted(rule("default"), [asked("i", "2021-01-15T20:00:00Z")], [mail("x", sent_at)])
    assert recounted.outcomes["i"]["outcome"] == outcome
    seconds = Fraction(instant(sent_at) - instant("2021-01-15T20:00:00Z"), SECOND)
    assert bucket(seconds) == place
    assert recounted.outcomes["i"]["reply_seconds"] == pytest.approx(float(seconds), rel=1e-12)


@pytest.mark.parametrize(
    ("seconds", "place"),
    [(Fraction(0), 1), (Fraction(3600), 1), (Fraction(3600_000001, 10**6), 2), (Fraction(86400), 24)],
)
def test_an_answer_is_in_the_bucket_of_its_hour(seconds: Fraction, place: int) -> None:
    assert bucket(seconds) == place


def test_without_a_denominator_there_is_no_rate() -> None:
    inquiries = [asked("i", "2021-01-15T20:00:00Z"), status("i", "spam", "2021-01-15T21:00:00Z")]
    recounted = Recounted(rule("default"), inquiries)
    assert recounted.counts() == {"inquiries": 1, "excluded": 1}
    assert (
        recounted.company["rate"] is None
        and recounted.company["rate_shown"] is None
        and recounted.company["coverage"] is None
    )


def test_automatic_replies_alone_are_no_answer() -> None:
    sent = [mail("x", "2021-01-15T20:00:01Z", kind="automatic")]
    recounted = Recounted(rule("default"), [asked("i", "2021-01-15T20:00:00Z")], sent)
    assert (recounted.outcomes["i"]["outcome"], recounted.outcomes["i"]["reason"]) == (
        "unanswered",
        "only-automatic-replies",
    )
    assert recounted.company["rate"] == 0
    bounced = Recounted(
        rule("default"), [asked("i", "2021-01-15T20:00:00Z")], [*sent, mail("y", "2021-01-15T20:00:02Z", kind="bounce")]
    )
    assert (bounced.outcomes["i"]["outcome"], bounced.outcomes["i"]["reason"]) == ("unanswered", None)


def test_a_new_owner_does_not_restart_the_clock() -> None:
    inquiries = [asked("i", "2021-01-15T20:00:00Z"), status("i", "reassigned", "2021-01-16T10:00:00Z", account_id="B")]
    sent = [mail("x", "2021-01-16T20:00:00Z", account_id="B")]
    recounted = Recounted(rule("default"), inquiries, sent)
    assert recounted.counts("A") == {} and recounted.counts("B") == {"inquiries": 1, "counted": 1, "timely": 1}
    assert recounted.outcomes["i"]["reply_seconds"] == 86400
    assert Recounted(rule("amazon"), inquiries, sent).counts("A") == {"inquiries": 1, "counted": 1, "timely": 1}


@pytest.mark.parametrize("by", ["second mailbox", "platform", "both"])
def test_answers_by_two_mailboxes_or_the_platform_count_once(by: str) -> None:
    inquiries = [asked("i", "2021-01-15T20:00:00Z")]
    sent = []
    if by != "platform":
        sent = [mail("x", "2021-01-15T21:00:00Z"), mail("x", "2021-01-15T21:00:00Z", mailbox="m2", account_id="B")]
    if by != "second mailbox":
        inquiries.append(platform("p", "i", "2021-01-15T21:00:00Z"))
    recounted = Recounted(rule("default"), inquiries, sent)
    assert recounted.counts() == {"inquiries": 1, "counted": 1, "timely": 1}
    assert recounted.outcomes["i"]["reply_source"] == ("platform" if by == "platform" else "mail")
    assert recounted.outcomes["i"]["mailbox_id"] == (None if by == "platform" else "m1")


@pytest.mark.parametrize(
    ("sent_at", "seconds"),
    [("2021-01-15T19:55:00Z", 0), ("2021-01-15T19:54:59.999999Z", None), ("2021-01-15T20:00:00.5Z", 0.5)],
)
def test_replies_up_to_300_s_before_the_inquiry_count(sent_at: str, seconds: float | None) -> None:
    recounted = Recounted(
        rule("default"), [asked("i", "2021-01-15T20:00:00Z"), platform("p", "i", sent_at)], [mail("x", sent_at)]
    )
    assert recounted.outcomes["i"]["reply_seconds"] == seconds
    assert recounted.outcomes["i"]["first_reply_at"] == (None if seconds is None else instant_text(instant(sent_at)))


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ([("spam", "2021-01-16T20:00:00Z")], "excluded"),
        ([("spam", "2021-01-16T20:00:00.000001Z")], "unanswered"),
        ([("spam", "2021-01-15T19:00:00Z")], "excluded"),
        ([("spam", "2021-01-15T21:00:00Z"), ("spam", "2021-01-17T00:00:00Z")], "unanswered"),
        ([("spam", "2021-01-15T21:00:00Z"), ("spam-undone", "2021-01-15T21:00:00Z")], "unanswered"),
        ([("withdrawn", "2021-01-15T21:00:00Z"), ("withdrawn", "2021-01-19T21:00:00Z")], "excluded"),
    ],
)
def test_an_exclusion_applies_within_its_seconds(words: list[tuple[str, str]], outcome: str) -> None:
    inquiries = [asked("i", "2021-01-15T20:00:00Z"), *(status("i", word, at) for word, at in words)]
    assert Recounted(rule("default"), inquiries).outcomes["i"]["outcome"] == outcome


def test_the_first_applicable_exclusion_is_the_reason() -> None:
    inquiries = [
        asked("i", "2021-01-15T20:00:00Z"),
        *(status("i", word, "2021-01-15T21:00:00Z") for word in ("spam", "withdrawn")),
    ]
    reasons = [{"when": "withdrawn"}, {"when": "spam"}]
    assert Recounted(rule("default"), inquiries).outcomes["i"]["reason"] == "spam"
    assert Recounted(rule("default", exclude=reasons), inquiries).outcomes["i"]["reason"] == "withdrawn"


def test_ties_at_the_same_instant_have_a_fixed_order() -> None:
    at = "2021-01-15T21:00:00Z"
    inquiries = [asked("i", "2021-01-15T20:00:00Z"), platform("0", "i", at), status("i", "declined", at)]
    assert Recounted(rule("default"), inquiries).outcomes["i"]["reply_source"] == "platform"
    sent = [
        mail("x", at, mailbox="m2", evidence="suspect"),
        mail("x", at, mailbox="m1", evidence="verified", account_id="B"),
    ]
    recounted = Recounted(rule("default", attribution="responder"), inquiries, sent).outcomes["i"]
    assert (recounted["reply_source"], recounted["account_id"], recounted["mailbox_id"]) == ("mail", "A", "m2")


def test_a_forward_is_matched_by_address_only() -> None:
    inquiries = [asked("i", "2021-01-15T20:00:00Z", message_ids=["<1@x>"])]
    reference = [hashed(KEY, "message", "c", "1@x")]
    forward = mail("x", "2021-01-15T21:00:00Z", to="z", in_reply_to=reference, kind="forward")
    assert Recounted(rule("default"), inquiries, [forward]).outcomes["i"]["outcome"] == "unanswered"
    own = mail("x", "2021-01-15T21:00:00Z", in_reply_to=reference, kind="forward")
    assert Recounted(rule("default"), inquiries, [own]).outcomes["i"]["matched_by"] == "buyer-address"
    human = mail("x", "2021-01-15T21:00:00Z", in_reply_to=reference)
    assert Recounted(rule("default"), inquiries, [human]).outcomes["i"]["matched_by"] == "in-reply-to"


def test_only_verified_mail_is_timely_where_the_rule_set_says_so() -> None:
    inquiries = [asked("i", "2021-01-15T20:00:00Z")]
    strict = rule("default", evidence="verified")
    early = mail("x", "2021-01-15T21:00:00Z", evidence="suspect")
    recounted = Recounted(strict, inquiries, [early]).outcomes["i"]
    assert (recounted["outcome"], recounted["reply_seconds"]) == ("late", 3600)
    recounted = Recounted(strict, inquiries, [early, mail("y", "2021-01-15T22:00:00Z")]).outcomes["i"]
    assert (recounted["outcome"], recounted["reply_seconds"]) == ("timely", 7200)


def test_facts_count_from_their_own_instant_on() -> None:
    inquiries = [asked("i", "2021-01-15T20:00:00Z")]
    sent = [mail("x", "2021-01-15T21:00:00Z")]
    assert (
        Recounted(rule("default"), inquiries, sent, as_of="2021-01-15T21:00:00Z").outcomes["i"]["outcome"] == "pending"
    )
    assert (
        Recounted(rule("default"), inquiries, sent, as_of="2021-01-15T21:00:00.000001Z").outcomes["i"]["outcome"]
        == "timely"
    )
    assert (
        Recounted(rule("default"), inquiries, as_of="2021-01-16T19:59:59.999999Z").outcomes["i"]["outcome"] == "pending"
    )
    assert Recounted(rule("default"), inquiries, as_of="2021-01-16T20:00:00Z").outcomes["i"]["outcome"] == "unanswered"
    unknown = recount(inquiries, sent, None, [rule("default")], "2021-01-15T20:00:00Z", KEY)
    assert unknown == {"reply_rate": [], "inquiry_outcomes": []}


def test_conflicting_records_are_one_inquiry() -> None:
    first = asked("i", "2021-01-15T20:00:00Z", account="B", message_ids=["<1@x>"])
    second = asked("i", "2021-01-15T22:00:00Z", message_ids=["2@x"], buyer="z")
    reply = mail("x", "2021-01-15T21:00:00Z", to="nobody", in_reply_to=[hashed(KEY, "message", "c", "2@x")])
    for inquiries in ([first, second], [second, first]):
        recounted = Recounted(rule("default"), inquiries, [reply])
        assert recounted.outcomes["i"]["buyer_id"] == "b" and recounted.outcomes["i"]["account_id"] == "B"
        assert recounted.outcomes["i"]["reply_seconds"] == 3600


def test_an_erase_acts_at_every_instant_of_judgement() -> None:
    inquiries = [asked("i", "2021-01-15T20:00:00Z"), asked("j", "2021-01-15T20:00:00.000001Z", buyer="z")]
    erase = event("company-erased", at="2021-01-15T20:00:00Z")
    assert set(Recounted(rule("amazon"), [*inquiries, erase], as_of="2021-01-16").outcomes) == {"j"}


DEADLINE = "2021-01-16T20:00:00Z"
LONG_AGO, LATER = "2020-06-01T00:00:00Z", "2021-02-12T00:00:00Z"


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        ([], "unmeasured"),
        ([row("m1", LONG_AGO, DEADLINE, LATER)], "unanswered"),
        ([row("m1", LONG_AGO, "2021-01-16T19:59:59.999999Z", LATER)], "unmeasured"),
        ([row("m1", "2021-01-15T20:00:00.000001Z", LATER, LATER)], "unmeasured"),
        (
            [row("m1", LONG_AGO, "2021-01-16T01:00:00Z", LATER), row("m1", "2021-01-16T01:00:00Z", LATER, LATER)],
            "unanswered",
        ),
        (
            [
                row("m1", LONG_AGO, "2021-01-16T01:00:00Z", LATER),
                row("m1", "2021-01-16T01:00:00.000001Z", LATER, LATER),
            ],
            "unmeasured",
        ),
        ([row("m1", LONG_AGO, LATER, LATER), row("m2", None, None, LATER)], "unmeasured"),
        (
            [
                row("m1", LONG_AGO, LATER, LATER),
                row("m2", None, None, LATER, connected_at="2021-01-16T20:00:00.000001Z"),
            ],
            "unanswered",
        ),
        ([row("m1", LONG_AGO, DEADLINE, LATER, removed_at="2021-01-16T19:00:00Z")], "unanswered"),
        ([row("m1", LONG_AGO, "2021-01-16T19:00:00Z", LATER, removed_at="2021-01-16T19:00:00Z")], "unmeasured"),
        ([row(None, "2021-01-15T20:00:00Z", None, LATER)], "unanswered"),
        ([row(None, "2021-01-15T20:00:00.000001Z", None, LATER)], "unmeasured"),
        ([row(None, LONG_AGO, None, LATER, removed_at="2021-01-16T19:00:00Z")], "unmeasured"),
        ([row(None, LONG_AGO, None, LATER, removed_at=DEADLINE)], "unanswered"),
        ([row(None, LONG_AGO, None, LONG_AGO), row(None, None, None, LATER)], "unanswered"),
        ([row(None, LONG_AGO, None, LONG_AGO), row(None, None, None, LATER, removed_at=DEADLINE)], "unanswered"),
        ([row("m1", LONG_AGO, LATER, "2021-02-14T08:00:00Z")], "unmeasured"),
        ([row("m1", LONG_AGO, LATER, "2021-02-14T07:59:59.999999Z")], "unanswered"),
    ],
)
def test_coverage_decides_between_unanswered_and_unmeasured(rows: list[Json], outcome: str) -> None:
    recounted = Recounted(rule("default"), [asked("i", "2021-01-15T20:00:00Z")], coverage=rows, as_of=SETTLED)
    assert recounted.outcomes["i"]["outcome"] == outcome
    # the day would have settled long ago, but the mailbox has not been read that far
    assert recounted.outcomes["i"]["state"] == "final"


@pytest.mark.parametrize(
    ("through", "state"), [("2021-02-10T08:00:00Z", "final"), ("2021-02-10T07:59:59.999999Z", "provisional")]
)
def test_a_row_waits_for_complete_mailboxes(through: str, state: str) -> None:
    inquiries = [asked("i", "2021-02-08T20:00:00Z"), asked("old", "2021-01-26T07:59:59Z")]
    recounted = Recounted(rule("default"), inquiries, coverage=[row("m1", LONG_AGO, through, through)], as_of=SETTLED)
    assert (recounted.company["state"], recounted.outcomes["i"]["state"]) == (state, state)
    assert recounted.outcomes["old"]["state"] == "final"


def test_a_small_sample_widens_each_row_for_itself() -> None:
    days = ["2020-12-01", "2020-12-20", "2020-12-20", "2021-02-01"]
    inquiries = [asked(f"i{n}", f"{day}T12:00:00Z", buyer=f"b{n}", account="AB"[n == 0]) for n, day in enumerate(days)]
    small = {"mode": "widen", "min_counted": 2, "max_days": 90}
    recounted = Recounted(rule("airbnb", small_sample=small), inquiries, [mail("x", "2021-02-01T13:00:00Z", to="b3")])
    # the second most recent is of 20 December: every column counts from that day on, so the third one too
    assert recounted.counts() == {"inquiries": 3, "counted": 3, "timely": 1, "unanswered": 2}
    assert recounted.company["window_start"] == "2020-12-20"
    assert recounted.accounts["B"]["window_start"] == "2020-12-01"
    assert recounted.company["rate"] == pytest.approx(1 / 3)
    none = Recounted(rule("airbnb", small_sample=small), [asked("i", "2021-02-13T12:00:00Z")])
    assert (none.company["window_start"], none.counts()) == ("2021-01-14", {})


def test_rounding_and_average_follow_the_rule_set() -> None:
    inquiries = [asked(f"i{n}", "2021-02-01T12:00:00Z", buyer=f"b{n}") for n in range(8)]
    sent = [mail(f"x{n}", f"2021-02-0{1 + n // 4}T{13 + n}:00:00Z", to=f"b{n}") for n in range(6)]
    recounted = Recounted(rule("amazon"), inquiries, sent).company
    assert (recounted["counted"], recounted["timely"], recounted["rate"], recounted["rate_shown"]) == (8, 4, 0.5, 50)
    hours = [1, 2, 3, 4, 29, 30]
    assert recounted["mean_seconds"] == pytest.approx(3600 * sum(hours) / 6)
    assert recounted["median_seconds"] == 3600 * 3.5
    assert recounted["p90_seconds"] == pytest.approx(3600 * 29.5)
    fastest = Recounted(rule("amazon", average_over="fastest-80-percent"), inquiries[:6], sent).company
    assert fastest["mean_seconds"] == pytest.approx(3600 * sum(hours[:5]) / 5)
    assert fastest["median_seconds"] == 3600 * 3.5
    shown = {
        name: Recounted(rule("amazon", rounding=name), inquiries[:6], sent).company["rate_shown"]
        for name in ("down-1", "half-up-0")
    }
    assert shown == {"down-1": 66.6, "half-up-0": 67}
    assert [rounded_percent(Fraction(n, 8), "half-up-0") for n in (1, 3, 5, 7)] == [13, 38, 63, 88]


def test_other_spellings_of_addresses_and_message_ids_are_equal() -> None:
    for text in (
        "a@xn--bcher-kva.example",
        "A@Bücher.example",
        "Some <A@bücher.example> (at (the) desk)",
        ' "x, (y)" <a@BÜCHER.example>',
    ):
        assert normal_address(text) == "a@xn--bcher-kva.example"
    assert [normal_address(text) for text in ("", "nobody", "@x.example", "a@")] == [None] * 4
    for text in ("A@b", "<A@b>", " see <A @b> ", "A@b (here)"):
        assert normal_message_id(text) == "A@b"
    assert normal_message_id(" ") is None


QUESTION = "<q1@platform.example>"


def named(inquiry_id: str = "i", **more: Any) -> Json:
    """An inquiry with a Message-ID, and a mail of the seller's to somebody else that names it: one by id alone."""
    return asked(inquiry_id, "2021-01-10T20:00:00Z", message_ids=[QUESTION], **more)


def by_id_alone(name: str, sent_at: str, **more: Any) -> Json:
    """A mail to a stranger that names the Message-ID of the inquiry."""
    return mail(name, sent_at, to="stranger", in_reply_to=[hashed(KEY, "message", "c", "q1@platform.example")], **more)


def test_a_mail_by_id_alone_answers_unless_the_rule_set_wants_it_to_go_to_the_buyer() -> None:
    sent = [by_id_alone("x", "2021-01-10T21:00:00Z")]
    assert Recounted(rule("default"), [named()], sent).counts() == {"inquiries": 1, "counted": 1, "timely": 1}
    strict = rule("default", answer_to="buyer-or-relay")
    assert Recounted(strict, [named()], sent).counts() == {"inquiries": 1, "counted": 1, "unanswered": 1}
    # Two hours later to the buyer: this one answers, by its strongest evidence.
    sent.append(by_id_alone("y", "2021-01-10T23:00:00Z", recipients=[hashed(KEY, "address", "c", "b@example.com")]))
    answered = Recounted(strict, [named()], sent).outcomes["i"]
    assert (answered["outcome"], answered["reply_seconds"]) == ("timely", 10_800)
    assert answered["matched_by"] == "in-reply-to"


def test_without_any_known_address_the_id_is_enough() -> None:
    strict = rule("default", answer_to="buyer-or-relay")
    inquiry = named()
    inquiry["data"]["buyer"]["addresses"] = []
    sent = [by_id_alone("x", "2021-01-10T21:00:00Z")]
    assert Recounted(strict, [inquiry], sent).counts() == {"inquiries": 1, "counted": 1, "timely": 1}
    with_relay = named(reply_addresses=["r1@reply.platform.example"])
    with_relay["data"]["buyer"]["addresses"] = []
    assert Recounted(strict, [with_relay], sent).counts() == {"inquiries": 1, "counted": 1, "unanswered": 1}


def test_a_mail_that_the_buyer_wrote_is_no_answer() -> None:
    from_buyer = [hashed(KEY, "address", "c", "b@example.com")]
    sent = [by_id_alone("x", "2021-01-10T21:00:00Z", senders=from_buyer)]
    assert Recounted(rule("default"), [named()], sent).counts() == {"inquiries": 1, "counted": 1, "unanswered": 1}
    # From an alias of the seller's it is one.
    from_alias = [by_id_alone("x", "2021-01-10T21:00:00Z", senders=["0" * 32])]
    assert Recounted(rule("default"), [named()], from_alias).counts() == {"inquiries": 1, "counted": 1, "timely": 1}
    # An automatic reply beside the buyer's own mail: there was a reply, and it was automatic.
    sent.append(mail("auto", "2021-01-10T22:00:00Z", kind="automatic"))
    assert Recounted(rule("default"), [named()], sent).outcomes["i"]["reason"] == "only-automatic-replies"


def test_a_new_connection_reaches_back_for_as_many_days_as_the_rule_set_says() -> None:
    """The mailbox is removed and added on 20 January, 20:00 UTC; the mail of 15 January is 120 hours older."""
    inquiries = [asked("i", "2021-01-15T10:00:00Z")]
    sent_at = "2021-01-15T20:00:00Z"
    connected = row(
        "m1",
        "2020-12-01T00:00:00Z",
        "2021-02-12T00:00:00Z",
        "2021-02-12T00:00:00Z",
        connected_at="2021-01-20T20:00:00Z",
    )

    def outcome(days: int, **more: Any) -> str:
        sent = [mail("x", sent_at, **{"evidence": "backfill", **more})]
        counted = Recounted(rule("default", reach_back_days=days), inquiries, sent, coverage=[connected])
        return str(counted.outcomes["i"]["outcome"])

    assert [outcome(days) for days in (3660, 5, 4, 0)] == ["timely", "timely", "unmeasured", "unmeasured"]
    assert outcome(4, evidence="suspect") == "unmeasured"
    assert outcome(0, evidence="verified") == "timely"
    assert outcome(0, mailbox_id="m2") == "timely"
    # A microsecond beside the limit.
    sent_at = "2021-01-15T19:59:59.999999Z"
    assert outcome(5) == "unmeasured"


def test_mail_of_an_earlier_connection_is_measured_by_the_next_one_after_it() -> None:
    """Backfill of the first connection, 1 January, still counts after the mailbox was added again on 20 January."""
    lines = [
        row(
            "m1",
            "2020-12-20T00:00:00Z",
            "2021-01-16T00:00:00Z",
            "2021-01-16T00:00:00Z",
            connected_at="2021-01-01T00:00:00Z",
        ),
        row(
            "m1",
            "2021-01-19T00:00:00Z",
            "2021-02-12T00:00:00Z",
            "2021-02-12T00:00:00Z",
            connected_at="2021-01-20T00:00:00Z",
        ),
    ]
    inquiries = [asked("old", "2020-12-30T00:00:00Z"), asked("new", "2021-01-10T00:00:00Z", buyer="d")]
    sent = [
        mail("x", "2020-12-30T01:00:00Z", evidence="backfill"),
        mail("y", "2021-01-10T01:00:00Z", to="d", evidence="backfill"),
    ]
    counted = Recounted(rule("default", reach_back_days=3), inquiries, sent, coverage=lines)
    # The second mail was sent while the mailbox was read, and only the later connection found it: forged, or moved there.
    assert {name: line["outcome"] for name, line in counted.outcomes.items()} == {"old": "timely", "new": "unanswered"}


def test_a_connection_covers_no_more_than_it_reaches_back() -> None:
    line = row(
        "m1",
        "2020-12-01T00:00:00Z",
        "2021-02-12T00:00:00Z",
        "2021-02-12T00:00:00Z",
        connected_at="2021-01-10T00:00:00Z",
    )
    outcomes = {
        start: Recounted(rule("default", reach_back_days=3), [asked("i", start)], coverage=[line]).outcomes["i"][
            "outcome"
        ]
        for start in ("2021-01-06T23:59:59.999999Z", "2021-01-07T00:00:00Z")
    }
    assert list(outcomes.values()) == ["unmeasured", "unanswered"]
