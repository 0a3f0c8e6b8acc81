"""The whole recount: from dumps of the topics to the rows of `replyrate replay`."""

import tomllib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from services.recount.coverage import Coverage, coverages
from services.recount.facts import Inquiry, Json
from services.recount.instants import judged_at
from services.recount.join import joined
from services.recount.judge import Judge
from services.recount.rows import company_rows

DEFAULTS: Json = {
    "max_settle_days": 14,
    "exclude": [],
    "evidence": "any",
    "answer_to": "anyone",
    "reach_back_days": 3660,
    "unmeasured": "separate",
    "min_coverage": 0,
    "small_sample": "show",
    "period_by": "receipt",
    "rounding": "none",
    "average_over": "answered",
    "calendar": "always",
}
"""Values of what a rule set may leave out (schemas/rule-set.schema.json)."""


def rule_set(path: Path) -> Json:
    """A rule set file, with the defaults of what it leaves out."""
    return DEFAULTS | tomllib.loads(path.read_text())


def judged(
    inquiries: Sequence[Inquiry],
    coverage: Sequence[Json] | None,
    rule: Json,
    as_of: str,
    noticed: Counter[str] | None = None,
) -> dict[str, list[Json]]:
    """Both arrays of `replay --as-of` for one rule set: {"reply_rate": […], "inquiry_outcomes": […]}."""
    noticed = Counter() if noticed is None else noticed
    now, day = judged_at(as_of, rule["time_zone"])
    by_company, named = coverages(coverage or (), now, noticed)
    known_inquiries: dict[str, list[Inquiry]] = defaultdict(list)
    for inquiry in inquiries:
        if inquiry.received_at < now:
            known_inquiries[inquiry.company_id].append(inquiry)
    result: dict[str, list[Json]] = {"reply_rate": [], "inquiry_outcomes": []}
    for company_id, company_inquiries in sorted(known_inquiries.items()):
        mailboxes = None if coverage is None else by_company.get(company_id, Coverage())
        judge = Judge(rule, now, day, mailboxes, noticed)
        rates, outcomes = company_rows(judge, company_inquiries, named.get(company_id, set()))
        result["reply_rate"] += rates
        result["inquiry_outcomes"] += outcomes
    return result


def recount(
    inquiries: Sequence[Json],
    sent: Sequence[Json],
    coverage: Sequence[Json] | None,
    rules: Sequence[Json],
    as_of: str,
    key: bytes,
    noticed: Counter[str] | None = None,
) -> dict[str, list[Json]]:
    """What `replay` must print for these dumps, without `computed_at`, `changed_at` and `rule_version`."""
    joined_inquiries = joined(inquiries, sent, key)
    result: dict[str, list[Json]] = {"reply_rate": [], "inquiry_outcomes": []}
    for rule in rules:
        for name, judged_rows in judged(joined_inquiries, coverage, rule, as_of, noticed).items():
            result[name] += judged_rows
    return result
