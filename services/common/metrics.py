"""Every metric of replyrate, declared once, in the registry of the service that has it; docs/metrics.md is rendered from here.

`/metrics` of a service shows EVERY_SERVICE and its own registry: a gauge of another service would be a false 0. Names begin
with `replyrate_` and end in their unit. No label has a value per mailbox, company or address: a page must stay small with a
million mailboxes.
"""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

Service = Literal["fetcher", "matcher", "aggregator", "portal", "console"]

EVERY_SERVICE = CollectorRegistry()
"""Metrics of every service; each has a label `service`."""
FETCHER = CollectorRegistry()
MATCHER = CollectorRegistry()
AGGREGATOR = CollectorRegistry()
PORTAL = CollectorRegistry()
CONSOLE = CollectorRegistry()
REGISTRIES: Final[Mapping[Service, CollectorRegistry]] = {
    "fetcher": FETCHER,
    "matcher": MATCHER,
    "aggregator": AGGREGATOR,
    "portal": PORTAL,
    "console": CONSOLE,
}

BUILD_INFO = Gauge(
    "replyrate_build_info", "1, with the version that runs.", ["service", "version", "python"], registry=EVERY_SERVICE
)
READY = Gauge("replyrate_ready", "1 while `/readyz` says yes.", ["service"], registry=EVERY_SERVICE)
HEALTHY = Gauge("replyrate_healthy", "1 while `/healthz` says yes.", ["service"], registry=EVERY_SERVICE)
RECORDS_REJECTED = Counter(
    "replyrate_records_rejected_total",
    "Records that became dead letters; reason `late`: facts from behind the horizon.",
    ["service", "reason"],
    registry=EVERY_SERVICE,
)
DEAD_LETTERS_WAITING = Gauge(
    "replyrate_dead_letters_waiting",
    "Dead letters that are not replayed, purged or skipped yet (`replyrate dlq`), as the aggregator sees them; NaN"
    " when the broker does not let it describe the group replyrate-dlq.",
    registry=AGGREGATOR,
)
DEPENDENCY_FAILURES = Counter(
    "replyrate_dependency_failures_total",
    "Times that Kafka or Postgres did not answer.",
    ["service", "dependency"],
    registry=EVERY_SERVICE,
)
LOOP_AGE_SECONDS = Gauge(
    "replyrate_loop_age_seconds",
    "Seconds since the service's loop last progressed.",
    ["service"],
    registry=EVERY_SERVICE,
)

POLLS = Counter("replyrate_fetcher_polls_total", "Polls of mailboxes by how they ended.", ["result"], registry=FETCHER)
POLL_SECONDS = Histogram(
    "replyrate_fetcher_poll_seconds", "How long a poll took.", buckets=(0.1, 0.3, 1, 3, 10, 30, 120), registry=FETCHER
)
MESSAGES_PUBLISHED = Counter(
    "replyrate_fetcher_messages_published_total",
    "Sent messages published, for the first time or again.",
    ["again"],
    registry=FETCHER,
)
MESSAGES_SEEN = Counter(
    "replyrate_fetcher_messages_seen_total", "Sent messages seen for the first time.", ["kind"], registry=FETCHER
)
HEADERS_DROPPED = Counter(
    "replyrate_fetcher_headers_dropped_total", "Addresses and ids that could not be normalised.", registry=FETCHER
)
MESSAGES_DROPPED = Counter(
    "replyrate_fetcher_messages_dropped_total",
    "Messages in Sent folders that were not published, by reason: `draft`; `empty` (none of the headers that are read);"
    " `behind-horizon` (a scan finds some); `duplicate` (another copy of a message that was published).",
    ["reason"],
    registry=FETCHER,
)
LOGINS = Counter(
    "replyrate_fetcher_logins_total", "Logins to mail servers by how they ended.", ["result"], registry=FETCHER
)
LOGINS_POSTPONED = Counter(
    "replyrate_fetcher_logins_postponed_total",
    "Logins that were postponed because a provider's limit is reached, by kind: `login` (per hour), `session` (concurrent).",
    ["kind"],
    registry=FETCHER,
)
POLLS_DRAWN = Counter(
    "replyrate_fetcher_polls_drawn_total", "Polls that were moved forward for an open deadline.", registry=FETCHER
)
BATCH_MESSAGES = Histogram(
    "replyrate_fetcher_batch_messages",
    "Messages that were fetched and published together.",
    buckets=(1, 3, 10, 30, 100, 200),
    registry=FETCHER,
)
POLL_AGE_SECONDS = Gauge(
    "replyrate_fetcher_poll_age_seconds",
    "How long ago the active mailbox that waits longest was last polled successfully, or connected.",
    registry=FETCHER,
)
MAILBOXES = Gauge("replyrate_fetcher_mailboxes", "Mailboxes by state, from the registry.", ["state"], registry=FETCHER)
POLL_DELAY_SECONDS = Gauge(
    "replyrate_fetcher_poll_delay_seconds", "How long the most overdue mailbox waits for its poll.", registry=FETCHER
)

POSTGRES_CLOCK_LEAD = Gauge(
    "replyrate_fetcher_postgres_clock_lead_seconds",
    "How far Postgres' clock was ahead of this host's at the end of the last poll; above 300 no mailbox becomes complete.",
    registry=FETCHER,
)
CONNECT_REQUESTS = Counter(
    "replyrate_fetcher_connect_requests_total",
    "Connect requests of sellers by how they ended.",
    ["result"],
    registry=FETCHER,
)
ROWS_EXPIRED = Counter(
    "replyrate_rows_expired_total",
    "Rows deleted because their retention is over, by table.",
    ["table"],
    registry=FETCHER,
)

MATCHER_LAG_RECORDS = Gauge(
    "replyrate_matcher_lag_records",
    "Records that the matcher's group has not committed yet.",
    ["topic"],
    registry=MATCHER,
)
MATCHER_BATCH_RECORDS = Histogram(
    "replyrate_matcher_batch_records",
    "Records of one fetched batch.",
    buckets=(1, 10, 100, 1000, 10_000),
    registry=MATCHER,
)
MATCHES = Counter(
    "replyrate_matcher_matches_total",
    "Replies joined with an inquiry, by what joins them.",
    ["evidence"],
    registry=MATCHER,
)
FACTS_APPLIED = Counter("replyrate_matcher_facts_total", "Facts joined.", ["type"], registry=MATCHER)
STATES_EMITTED = Counter(
    "replyrate_matcher_states_emitted_total", "Joined states of inquiries published.", registry=MATCHER
)
CHANGELOG_ROWS = Counter("replyrate_matcher_changelog_rows_total", "Rows written to the changelog.", registry=MATCHER)
REROUTED = Counter("replyrate_matcher_rerouted_total", "Inquiries that were in the wrong partition.", registry=MATCHER)
IDS_DROPPED = Counter(
    "replyrate_matcher_ids_dropped_total",
    "Addresses and ids of inquiries that could not be normalised.",
    registry=MATCHER,
)
CONFLICTS = Counter("replyrate_matcher_conflicts_total", "Inquiries received with differing facts.", registry=MATCHER)
FACTS_CUT = Counter(
    "replyrate_matcher_cut_total",
    "Facts cut by the bounds of a joined state, by what they are: `replies`, `statuses`, `addresses-and-ids`; and messages and"
    " inquiries that one address or id no longer finds, because it has too many of a day (`join-day`) or in all (`join-key`).",
    ["reason"],
    registry=MATCHER,
)
FACTS_IGNORED = Counter(
    "replyrate_matcher_facts_ignored_total",
    "Valid facts that change nothing: `erased` (an erase of the company covers them), `no-join-key` (a sent message without"
    " a recipient or reference that could join it).",
    ["reason"],
    registry=MATCHER,
)
STATE_ENTRIES = Gauge(
    "replyrate_matcher_state_entries", "Entries of the joined state in this process.", ["kind"], registry=MATCHER
)
STATE_BYTES = Gauge("replyrate_matcher_state_bytes", "Bytes of the joined state in this process.", registry=MATCHER)
STATE_DROPPED = Counter(
    "replyrate_matcher_state_dropped_total",
    "Entries of the joined state that were dropped or reduced: `horizon` (older than the horizon), `erased` (by an erase of"
    " the company).",
    ["reason"],
    registry=MATCHER,
)
RECOVERY_SECONDS = Gauge("replyrate_matcher_recovery_seconds", "How long the last recovery took.", registry=MATCHER)

AGGREGATOR_BATCH_RECORDS = Histogram(
    "replyrate_aggregator_batch_records",
    "Records merged in one transaction.",
    buckets=(1, 10, 100, 1000, 2000),
    registry=AGGREGATOR,
)
REFRESH_AGE_SECONDS = Gauge(
    "replyrate_aggregator_refresh_age_seconds", "How long ago any company was judged last.", registry=AGGREGATOR
)
SETTLE_LAG_SECONDS = Gauge(
    "replyrate_aggregator_settle_lag_seconds",
    "For how long the company that waits longest has been due by time alone: a deadline passed, a day ended.",
    registry=AGGREGATOR,
)
PIPELINE_AGE_SECONDS = Gauge(
    "replyrate_aggregator_pipeline_age_seconds",
    "Age of the oldest published record that may not be counted yet, in the partition that is furthest behind.",
    registry=AGGREGATOR,
)
STATES_MERGED = Counter(
    "replyrate_aggregator_states_merged_total", "Joined states merged into the ledger.", registry=AGGREGATOR
)
REFRESHES = Counter(
    "replyrate_aggregator_refreshes_total", "Companies judged again.", ["rule_set"], registry=AGGREGATOR
)
REFRESH_SECONDS = Histogram(
    "replyrate_aggregator_refresh_seconds",
    "How long judging one company took.",
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10),
    registry=AGGREGATOR,
)
COMPANIES_DIRTY = Gauge(
    "replyrate_aggregator_companies_dirty", "Companies that wait for their refresh.", registry=AGGREGATOR
)
COMPANIES_UNJUDGED = Gauge(
    "replyrate_aggregator_companies_unjudged",
    "Companies in quarantine: they could not be judged, recomputed or diagnosed; they are tried again after a growing delay.",
    registry=AGGREGATOR,
)
DIRTY_AGE_SECONDS = Gauge(
    "replyrate_aggregator_dirty_age_seconds",
    "How long the company that waits longest for its refresh has been waiting.",
    registry=AGGREGATOR,
)
LAG_RECORDS = Gauge(
    "replyrate_aggregator_lag_records",
    "Records of inquiry-replies.v1 that the ledger has not merged yet.",
    registry=AGGREGATOR,
)


REASONS: Final[Mapping[str, tuple[str, ...]]] = {
    "fetcher": ("unreadable-message",),
    "matcher": ("not-json", "schema", "limit", "late", "misrouted"),
    "aggregator": ("not-json", "schema", "limit"),
}
"""Service → the reasons of its dead letters."""
DROP_REASONS: Final[Mapping[str, tuple[str, ...]]] = {"fetcher": ("draft", "empty", "behind-horizon", "duplicate")}
"""Service → the reasons for which it drops a message without a dead letter."""


def from_zero(metric: Counter, *values: Iterable[str]) -> None:
    """Show the series of these values of each label, starting at 0: a series that starts with its first count has no increase
    for Prometheus, so an alert would miss the first burst."""
    for labels in product(*values):
        metric.labels(*labels)


def page(service: Service) -> bytes:
    """`/metrics` of a service."""
    return generate_latest(EVERY_SERVICE) + generate_latest(REGISTRIES[service])


class MetricDeclaration(NamedTuple):
    """A metric as docs show it; `service` is `all` for a metric of every service."""

    name: str
    service: str
    type: str
    meaning: str


def declared() -> list[MetricDeclaration]:
    """Every metric, sorted by name."""
    registries: list[tuple[str, CollectorRegistry]] = [("all", EVERY_SERVICE), *REGISTRIES.items()]
    return sorted(
        MetricDeclaration(
            family.name + ("_total" if family.type == "counter" else ""), service, family.type, family.documentation
        )
        for service, registry in registries
        for family in registry.collect()
    )
