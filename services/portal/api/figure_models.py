"""Rows of the lists of figures as the API answers them; the columns are those of the views of report_v1 (docs/data-dictionary.md)."""

from datetime import date
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from services.portal.api.values import ApiModel, Instant

Level = Literal["company", "account"]
State = Literal["provisional", "final"]
Outcome = Literal["timely", "late", "unanswered", "unmeasured", "pending", "excluded", "merged"]


class MissingRateReason(ApiModel):
    """Why there is no rate, which is not a rate of 0."""

    code: Literal["coverage", "small", "nothing"]
    """coverage: mailboxes were not read for enough of the time; small: fewer units than the rule set requires; nothing: none counted."""
    en: str
    zh: str
    next_en: str
    """What the seller can do, for a person."""
    next_zh: str


class Rate(ApiModel):
    """A reply rate: of a company, or of one of its accounts."""

    rule_set: str
    rule_version: str
    level: Level
    company_id: str
    account_id: str | None
    """Null at company level."""
    as_of: date
    """Local day of the rule set at whose end the rate was judged."""
    window_start: date
    window_end: date
    inquiries: int
    excluded: int
    counted: int
    """timely + late + unanswered."""
    timely: int
    late: int
    unanswered: int
    unmeasured: int
    pending: int
    rate: float | None
    """timely / counted; null when it was not measured: `rate_missing` has the reason."""
    rate_missing: MissingRateReason | None
    """Null when there is a rate."""
    mean_seconds: float | None
    median_seconds: float | None
    p90_seconds: float | None
    p95_seconds: float | None
    rate_shown: float | None
    """The rate in percent, rounded as the rule set says."""
    coverage: float | None
    """Share of units that were answered or lie in a time that mailboxes cover."""
    state: State
    """final: it changes only with a correction."""
    computed_at: Instant


class RateVersion(Rate):
    """A version of a reply rate, with the time during which it was shown."""

    valid_from: Instant
    valid_to: Instant | None
    """Null for the version that is shown now."""


class HistogramBar(ApiModel):
    """How many units were answered within an hour of the reply time."""

    rule_set: str
    level: Level
    company_id: str
    account_id: str | None
    as_of: date
    bucket: int = Field(ge=1, le=25)
    """1 to 24: hours, rounded up; 25: later."""
    label: str
    answered: int | None


class DailyCounts(ApiModel):
    """Counts of one local day of the rule set."""

    rule_set: str
    level: Level
    company_id: str
    account_id: str | None
    day: date
    inquiries: int
    excluded: int
    counted: int
    timely: int
    late: int
    unanswered: int
    unmeasured: int
    pending: int
    state: State


class InquiryOutcome(ApiModel):
    """What became of an inquiry under a rule set."""

    rule_set: str
    company_id: str
    account_id: str
    inquiry_id: str
    buyer_id: str
    unit_day: date
    unit_inquiry_id: str | None
    """First inquiry of the unit; null when excluded."""
    received_at: Instant
    first_reply_at: Instant | None
    reply_seconds: float | None
    outcome: Outcome
    reason: str | None
    reply_source: Literal["mail", "platform", "status"] | None
    matched_by: str | None
    mailbox_id: str | None
    evidence: str | None
    state: State
    changed_at: Instant
    revision: int


class Correction(ApiModel):
    """A change of a number that was final."""

    rule_set: str
    rule_version: str
    level: Level
    company_id: str
    account_id: str | None
    as_of: date
    column_name: str
    old_value: str | None
    new_value: str | None
    cause: str
    changed_at: Instant


class DueUnit(ApiModel):
    """A unit without an answer that is not counted yet. Once its deadline has passed it stays until every mailbox was read up to then."""

    rule_set: str
    company_id: str
    account_id: str
    inquiry_id: str
    due_at: Instant
    deadline_passed: bool
    """The deadline has passed, and the unit is not counted yet."""


class DiagnosedCause(ApiModel):
    """A cause that the facts allow for a newest rate that is 0 or missing (docs/doctor.md)."""

    rule_set: str
    company_id: str
    account_id: str | None
    as_of: date
    cause: str
    title_en: str
    title_zh: str
    confidence: Literal["high", "medium", "low"]
    facts: dict[str, Any]
    advice_en: str
    advice_zh: str
    computed_at: Instant


Item = TypeVar("Item")


class FiguresPage(ApiModel, Generic[Item]):
    """A page of a list of figures."""

    items: list[Item]
    next: str | None
    """`after` of the following page; null on the last one."""


class RatePage(FiguresPage[Rate]):
    """Rates, company level first."""


class RateVersionPage(FiguresPage[RateVersion]):
    """Versions of rates by day."""


class HistogramPage(FiguresPage[HistogramBar]):
    """Bars of histograms."""


class DailyPage(FiguresPage[DailyCounts]):
    """Counts by day."""


class OutcomePage(FiguresPage[InquiryOutcome]):
    """Outcomes by day and inquiry."""


class CorrectionPage(FiguresPage[Correction]):
    """Corrections by the day of the number."""


class DuePage(FiguresPage[DueUnit]):
    """Open units, the most urgent first."""


class DiagnosisPage(FiguresPage[DiagnosedCause]):
    """Causes by account."""


class ExplanationSentences(ApiModel):
    """The explanation in whole sentences."""

    en: list[str]
    zh: list[str]


class Explanation(ApiModel):
    """How an inquiry counts under a rule set, and why; made of the rows that made the number."""

    company_id: str
    inquiry_id: str
    rule_set: str
    rule_version: str
    now: Instant
    outcome: Outcome | Literal["unknown"]
    """unknown: not judged by this rule set yet, or archived."""
    archived_at: Instant | None = None
    """When the inquiry, which is final, was moved to the archive: only its sentences are here. null: it is not archived."""
    reason: str | None = None
    state: State | None = None
    account_id: str | None = None
    owner: str | None = None
    received_at: Instant | None = None
    excluded_by: str | None = None
    exclusion: dict[str, Any] | None = None
    counted_until: Instant | None = None
    """Records published later may not have been counted yet; null: everything has been."""
    reading_waits: bool | None = None
    """Mailboxes were read, and what was found is not counted yet."""
    waiting: bool
    """Facts of the company wait to be judged."""
    sentences: ExplanationSentences
    unit: dict[str, Any] | None = None
    """The counted unit: its members, start, deadline and answer."""
    considered: list[dict[str, Any]] = Field(default_factory=list)
    """Replies and statuses that may have answered, each with a verdict."""
    coverage: list[dict[str, Any]] = Field(default_factory=list)
    """How the mailboxes of the account covered the time of the unit."""
    facts: dict[str, list[dict[str, Any]]]
    """Facts about inquiries, statuses and replies. Ids of messages and addresses are hashes."""
    parameters: dict[str, Any]
    """Parameters of the rule set that decide."""
    history: list[dict[str, Any]]
    """Outcomes shown so far."""


class Explanations(ApiModel):
    """An inquiry explained by each rule set."""

    items: list[Explanation]
