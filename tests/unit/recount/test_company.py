"""The judgement of one company's facts."""

from datetime import UTC, datetime

import pytest

from services.aggregator.judge import rules
from services.recount.company import AskedInquiry, CompanyFacts, CompanyRecount, CoveredInterval

DEFAULT = rules.load_builtin("default")
"""Its days are those of America/Los_Angeles, which begin at 08:00 UTC in winter, and settle after 5 days."""


@pytest.mark.parametrize(
    ("now", "state"),
    [
        pytest.param(datetime(2026, 12, 1, 1, 10, tzinfo=UTC), "provisional", id="the next date by UTC only"),
        pytest.param(datetime(2026, 12, 1, 8, tzinfo=UTC), "provisional", id="first instant of the next date"),
        pytest.param(datetime(2026, 12, 1, 8, 0, 1, tzinfo=UTC), "final", id="next date"),
    ],
)
def test_a_day_settles_by_the_date_in_the_time_zone_of_the_rule_set(now: datetime, state: str) -> None:
    begin = datetime(2026, 11, 1, tzinfo=UTC)
    facts = CompanyFacts(
        accounts={"a"},
        asked=[AskedInquiry("i", "a", datetime(2026, 11, 26, 20, tzinfo=UTC), "b")],
        covered=[CoveredInterval("a", "m", begin, begin, from_at=begin, through_at=now)],
    )
    assert CompanyRecount("c", facts, DEFAULT.parameters()).outcomes(now)["i"]["state"] == state
