"""Every metric of replyrate, declared once; docs/metrics.md is rendered from here.

Names begin with `replyrate_` and end in their unit. No label has a value per mailbox, company or address: a page must
stay small with a million mailboxes.
"""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
"""The registry that `/metrics` shows."""

BUILD_INFO = Gauge(
    "replyrate_build_info", "1, with the version that runs.", ["service", "version", "python"], registry=REGISTRY
)
READY = Gauge("replyrate_ready", "1 while `/readyz` says yes.", ["service"], registry=REGISTRY)
HEALTHY = Gauge("replyrate_healthy", "1 while `/healthz` says yes.", ["service"], registry=REGISTRY)
RECORDS_REJECTED = Counter(
    "replyrate_records_rejected_total",
    "Records that became dead letters; reason `late`: facts from behind the horizon.",
    ["service", "reason"],
    registry=REGISTRY,
)
DEAD_LETTERS_WAITING = Gauge(
    "replyrate_dead_letters_waiting",
    "Dead letters that nobody has replayed or purged yet (`replyrate dlq`), told by the aggregator; NaN"
    " where the broker does not let it describe the group replyrate-dlq.",
    registry=REGISTRY,
)
DEPENDENCY_FAILURES = Counter(
    "replyrate_dependency_failures_total",
    "Times that Kafka or Postgres did not answer.",
    ["service", "dependency"],
    registry=REGISTRY,
)
LOOP_AGE_SECONDS = Gauge(
    "replyrate_loop_age_seconds", "Seconds since the service's loop last moved.", ["service"], registry=REGISTRY
)

POLLS = Counter("replyrate_fetcher_polls_total", "Polls of mailboxes by how they ended.", ["result"], registry=REGISTRY)
POLL_SECONDS = Histogram(
    "replyrate_fetcher_poll_seconds", "How long a poll took.", buckets=(0.1, 0.3, 1, 3, 10, 30, 120), registry=REGISTRY
)
MESSAGES_PUBLISHED = Counter(
    "replyrate_fetcher_messages_published_total",
    "Sent messages published, first time or again.",
    ["again"],
    registry=REGISTRY,
)
MESSAGES_SEEN = Counter(
    "replyrate_fetcher_messages_seen_total", "Sent messages seen for the first time.", ["kind"], registry=REGISTRY
)
HEADERS_DROPPED = Counter(
    "replyrate_fetcher_headers_dropped_total", "Addresses and ids that could not be normalised.", registry=REGISTRY
)
MESSAGES_DROPPED = Counter(
    "replyrate_fetcher_messages_dropped_total",
    "Messages in Sent folders that were not published, by reason: `draft`; `empty` (none of the headers that are read);"
    " `behind-horizon` (a scan finds some); `duplicate` (another copy of a message that was published).",
    ["reason"],
    registry=REGISTRY,
)
LOGINS = Counter(
    "replyrate_fetcher_logins_total", "Logins to mail servers by how they ended.", ["result"], registry=REGISTRY
)
LOGINS_POSTPONED = Counter(
    "replyrate_fetcher_logins_postponed_total",
    "Logins that were put off because a provider's budget is used up, by kind: `login` (in an hour), `session` (at once).",
    ["kind"],
    registry=REGISTRY,
)
POLLS_DRAWN = Counter(
    "replyrate_fetcher_polls_drawn_total", "Polls that come sooner for an open deadline.", registry=REGISTRY
)
BATCH_MESSAGES = Histogram(
    "replyrate_fetcher_batch_messages",
    "Messages that were fetched and published together.",
    buckets=(1, 3, 10, 30, 100, 200),
    registry=REGISTRY,
)
POLL_AGE_SECONDS = Gauge(
    "replyrate_fetcher_poll_age_seconds",
    "How long ago the active mailbox that waits longest was last polled well, or connected.",
    registry=REGISTRY,
)
MAILBOXES = Gauge("replyrate_fetcher_mailboxes", "Mailboxes by state, from the registry.", ["state"], registry=REGISTRY)
POLL_DELAY_SECONDS = Gauge(
    "replyrate_fetcher_poll_delay_seconds", "How long the most overdue mailbox waits for its poll.", registry=REGISTRY
)

ROWS_EXPIRED = Counter(
    "replyrate_rows_expired_total",
    "Rows deleted because they need not be kept any longer, by table.",
    ["table"],
    registry=REGISTRY,
)

MATCHER_LAG_RECORDS = Gauge(
    "replyrate_matcher_lag_records", "Records that the group has not committed.", ["topic"], registry=REGISTRY
)
MATCHER_BATCH_RECORDS = Histogram(
    "replyrate_matcher_batch_records",
    "Records of one fetched batch.",
    buckets=(1, 10, 100, 1000, 10_000),
    registry=REGISTRY,
)
MATCHES = Counter(
    "replyrate_matcher_matches_total",
    "Replies joined with an inquiry, by what joins them.",
    ["evidence"],
    registry=REGISTRY,
)
FACTS_APPLIED = Counter("replyrate_matcher_facts_total", "Facts joined.", ["type"], registry=REGISTRY)
STATES_EMITTED = Counter(
    "replyrate_matcher_states_emitted_total", "Joined states of inquiries published.", registry=REGISTRY
)
CHANGELOG_ROWS = Counter("replyrate_matcher_changelog_rows_total", "Rows written to the changelog.", registry=REGISTRY)
REROUTED = Counter("replyrate_matcher_rerouted_total", "Inquiries that lay in the wrong partition.", registry=REGISTRY)
IDS_DROPPED = Counter(
    "replyrate_matcher_ids_dropped_total",
    "Addresses and ids of inquiries that could not be normalised.",
    registry=REGISTRY,
)
CONFLICTS = Counter("replyrate_matcher_conflicts_total", "Inquiries received with differing facts.", registry=REGISTRY)
FACTS_CUT = Counter(
    "replyrate_matcher_cut_total",
    "Facts cut by the bounds of a joined state, by what they are: `replies`, `statuses`, `addresses-and-ids`.",
    ["reason"],
    registry=REGISTRY,
)
FACTS_IGNORED = Counter(
    "replyrate_matcher_facts_ignored_total",
    "Valid facts that change nothing: `erased` (an erase of the company covers them), `no-join-key` (a sent message without"
    " a recipient or reference that could join it).",
    ["reason"],
    registry=REGISTRY,
)
STATE_ENTRIES = Gauge(
    "replyrate_matcher_state_entries", "Entries of the joined state held here.", ["kind"], registry=REGISTRY
)
STATE_BYTES = Gauge("replyrate_matcher_state_bytes", "Bytes of the joined state held here.", registry=REGISTRY)
STATE_DROPPED = Counter(
    "replyrate_matcher_state_dropped_total",
    "Entries of the joined state that were dropped or reduced: `horizon` (older than the horizon), `erased` (by an erase of"
    " the company).",
    ["reason"],
    registry=REGISTRY,
)
RECOVERY_SECONDS = Gauge("replyrate_matcher_recovery_seconds", "How long the last recovery took.", registry=REGISTRY)

AGGREGATOR_BATCH_RECORDS = Histogram(
    "replyrate_aggregator_batch_records",
    "Records merged in one transaction.",
    buckets=(1, 10, 100, 1000, 2000),
    registry=REGISTRY,
)
REFRESH_AGE_SECONDS = Gauge(
    "replyrate_aggregator_refresh_age_seconds", "How long ago any company was judged last.", registry=REGISTRY
)
SETTLE_LAG_SECONDS = Gauge(
    "replyrate_aggregator_settle_lag_seconds",
    "How long the company that waits longest is due by time alone: a deadline passed, a day turned.",
    registry=REGISTRY,
)
PIPELINE_AGE_SECONDS = Gauge(
    "replyrate_aggregator_pipeline_age_seconds",
    "Since when what was published may not have been counted yet, in the partition that is furthest behind.",
    registry=REGISTRY,
)
STATES_MERGED = Counter(
    "replyrate_aggregator_states_merged_total", "Joined states merged into the ledger.", registry=REGISTRY
)
REFRESHES = Counter("replyrate_aggregator_refreshes_total", "Companies judged again.", ["rule_set"], registry=REGISTRY)
REFRESH_SECONDS = Histogram(
    "replyrate_aggregator_refresh_seconds",
    "How long judging one company took.",
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10),
    registry=REGISTRY,
)
COMPANIES_DIRTY = Gauge("replyrate_aggregator_companies_dirty", "Companies that wait to be judged.", registry=REGISTRY)
COMPANIES_UNJUDGED = Gauge(
    "replyrate_aggregator_companies_unjudged",
    "Companies that Postgres could not judge, or recompute, or diagnose; they are tried again after a growing pause.",
    registry=REGISTRY,
)
DIRTY_AGE_SECONDS = Gauge(
    "replyrate_aggregator_dirty_age_seconds", "How long the longest of them waits.", registry=REGISTRY
)
LAG_RECORDS = Gauge(
    "replyrate_aggregator_lag_records", "Records in the topic that the ledger has not merged.", registry=REGISTRY
)


REASONS: Final[Mapping[str, tuple[str, ...]]] = {
    "fetcher": ("unreadable-message",),
    "matcher": ("not-json", "schema", "limit", "late", "over-bound", "misrouted"),
    "aggregator": ("not-json", "schema", "limit"),
}
"""Service → the reasons of its dead letters."""
DROP_REASONS: Final[Mapping[str, tuple[str, ...]]] = {"fetcher": ("draft", "empty", "behind-horizon", "duplicate")}
"""Service → the reasons for which it drops a message without a dead letter."""


def from_zero(metric: Counter, *values: Iterable[str]) -> None:
    """Show the series of these values of each label, from 0 on: one that begins with what it counts has no increase for
    Prometheus, and an alert would miss the first burst."""
    for labels in product(*values):
        metric.labels(*labels)


def declared() -> list[tuple[str, str, str]]:
    """(name, type, help) of every metric, sorted by name."""
    rows = []
    for family in REGISTRY.collect():
        name = family.name + "_total" if family.type == "counter" else family.name
        rows.append((name, family.type, family.documentation))
    return sorted(rows)
