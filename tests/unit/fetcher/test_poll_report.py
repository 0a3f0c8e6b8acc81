"""The log lines and counters of a poll."""

import logging

import pytest

from services.common import metrics
from services.common.tracing import OFF
from services.fetcher.poll_report import PollReport, login_result, metrics_from_zero
from services.fetcher.poll_tally import PollTally
from services.imap.errors import GrantEnded, LoginRefused, LoginUnclear, MailboxError, ServerBroken, Throttled
from services.registry.published import PublishedMessage
from tests.support.builders import a_sent_message
from tests.support.pollers import leased_mailbox

NEW = PublishedMessage(a_sent_message(), b"record")


def values(metric: object, label: str) -> dict[str, float]:
    return {
        sample.labels[label]: sample.value
        for family in metric.collect()  # type: ignore[attr-defined]
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def test_a_poll_that_ended_well_is_one_line_with_its_counts(caplog: pytest.LogCaptureFixture) -> None:
    metrics_from_zero()
    before = values(metrics.MESSAGES_DROPPED, "reason"), values(metrics.MESSAGES_PUBLISHED, "again")
    report = PollReport(leased_mailbox(), OFF, PollTally())
    with caplog.at_level(logging.DEBUG, logger="services"):
        span = report.batch_sent(5)
        report.batch_acknowledged(span, 3, 0, [NEW])
        report.batch_dropped(["draft", "behind-horizon", "draft"], 2)
        report.finished(complete=True)
    report.close()
    (line,) = caplog.records
    fields = {name: line.__dict__[name] for name in ("action", "published", "new", "company_id", "mailbox_id")}
    assert fields == {"action": "mailbox-polled", "published": 3, "new": 1, "company_id": "c1", "mailbox_id": "m1"}
    assert (line.__dict__["dropped_draft"], line.__dict__["dropped_behind_horizon"]) == (2, 1)
    assert "dropped_empty" not in line.__dict__
    after = values(metrics.MESSAGES_DROPPED, "reason"), values(metrics.MESSAGES_PUBLISHED, "again")
    assert after[0]["draft"] == before[0]["draft"] + 2
    assert after[0]["behind-horizon"] == before[0]["behind-horizon"] + 1
    assert {again: after[1][again] - before[1].get(again, 0) for again in after[1]} == {"yes": 2, "no": 1}


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (LoginRefused, "login-refused"),
        (LoginUnclear, "login-refused"),
        (GrantEnded, "login-refused"),
        (Throttled, "throttled"),
        (ServerBroken, "server-broken"),
    ],
)
def test_every_refused_login_is_counted_as_one_result(error: type[MailboxError], result: str) -> None:
    metrics_from_zero()
    assert login_result(error) == result
    assert result in values(metrics.LOGINS, "result")
