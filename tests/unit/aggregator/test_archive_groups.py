"""Which inquiries are archived together, and what stays known of them."""

from datetime import UTC, date, datetime, timedelta

import pytest

from services.aggregator.archive.groups import ArchiveCandidate, day_zones, final_groups
from services.aggregator.archive.unit_rows import Row, accounts, day_counts
from services.aggregator.judge import rules
from services.common.errors import ConfigError

DEFAULT, EACH = rules.load_builtin("default"), rules.load_builtin("first-reply-24h")
AT = datetime(2026, 3, 31, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


def candidate(
    name: str, at: datetime, buyer: str = "b", thread: str | None = None, *, final: bool = True
) -> ArchiveCandidate:
    return ArchiveCandidate(name, buyer, thread, at, final)


def groups(candidates: list[ArchiveCandidate], rule_set: rules.RuleSet) -> list[tuple[tuple[str, ...], date]]:
    return [(group.inquiry_ids, group.month) for group in final_groups(candidates, day_zones([rule_set]))]


def test_a_buyer_and_local_day_belong_together_where_they_are_counted_once() -> None:
    # 20:00 and 03:00 UTC are one day in Los Angeles; 08:00 is the next one.
    candidates = [candidate("i1", AT), candidate("i2", AT + 7 * HOUR), candidate("i3", AT + 12 * HOUR)]
    assert groups(candidates, DEFAULT) == [(("i1", "i2"), date(2026, 4, 1)), (("i3",), date(2026, 4, 1))]
    assert groups(candidates, EACH) == [
        (("i1",), date(2026, 3, 1)),
        (("i2",), date(2026, 4, 1)),
        (("i3",), date(2026, 4, 1)),
    ]


def test_what_is_not_final_keeps_its_group() -> None:
    candidates = [
        candidate("i1", AT, thread="t"), candidate("i2", AT, "other"), candidate("i3", AT + 900 * HOUR, thread="t", final=False),
        candidate("i4", AT - HOUR), candidate("i5", AT, "other", "t"),
    ]  # fmt: skip
    assert groups(candidates, EACH) == [
        (("i2",), date(2026, 3, 1)),
        (("i4",), date(2026, 3, 1)),
        (("i5",), date(2026, 3, 1)),
    ]
    # By buyer and day i4 is with i1, and i1 is in the thread.
    assert groups(candidates, DEFAULT) == [(("i2", "i5"), date(2026, 3, 1))]


def unit_row(**changes: object) -> Row:
    outcome = {
        "rule_set": "default", "account_id": "a", "owner": "b", "own_day": date(2026, 3, 1), "unit_day": date(2026, 3, 2),
        "unit_inquiry_id": "i1", "outcome": "timely",
    }  # fmt: skip
    return {
        "inquiry_id": "i1", "account_id": "a", "received_at": AT, "outcomes": [outcome], "replies": [], "statuses": [], **changes,
    }  # fmt: skip


def test_accounts_are_known_from_the_first_fact_that_names_them() -> None:
    first = unit_row(
        replies=[{"account_id": "c", "replied_at": AT - HOUR}, {"account_id": "c", "replied_at": AT + HOUR}],
        statuses=[{"account_id": "", "at": AT}, {"account_id": "d", "at": AT + HOUR}],
    )
    second = unit_row(received_at=AT - 9 * HOUR)
    named = [(account.account_id, account.named_at) for account in accounts([first, second])]
    assert named == [("a", AT - 9 * HOUR), ("c", AT), ("d", AT + HOUR)]


def test_counts_by_day_separate_inquiries_from_units() -> None:
    counts = [tuple(counted.values()) for counted in day_counts([unit_row(), unit_row(inquiry_id="i2")])]
    assert counts == [
        ("default", "a", date(2026, 3, 2), "timely", 0, 0, 1), ("default", "b", date(2026, 3, 1), "", 2, 0, 0),
    ]  # fmt: skip


def test_too_short_a_time_is_refused_with_the_days_to_set() -> None:
    with pytest.raises(ConfigError, match="KEEP_UNITS_DAYS: 128 is too short .*; write 129 or more"):
        rules.check_kept([DEFAULT, EACH], 60, 128)
    rules.check_kept([DEFAULT, EACH], 60, 129)
    with pytest.raises(ConfigError, match="write 400 or more"):
        rules.check_kept([DEFAULT], 400, 399)
