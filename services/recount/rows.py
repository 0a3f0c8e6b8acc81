"""The rows of reply_rate and inquiry_outcomes of one company, as `replyrate replay` prints them."""

from collections import defaultdict
from datetime import date

from services.recount.facts import MATCHED_BY, Inquiry, Json
from services.recount.instants import instant_text
from services.recount.judge import Judge, Unit
from services.recount.rates import rate_row


def company_rows(judge: Judge, inquiries: list[Inquiry], named_accounts: set[str]) -> tuple[list[Json], list[Json]]:
    """(`reply_rate`, `inquiry_outcomes`) of one company's inquiries; `named_accounts` have a row in any case."""
    excluded: list[tuple[Inquiry, str]] = []
    groups: dict[tuple[str, ...], list[Inquiry]] = defaultdict(list)
    for inquiry in inquiries:
        reason = judge.exclusion(inquiry)
        if reason is None:
            groups[judge.group(inquiry)].append(inquiry)
        else:
            excluded.append((inquiry, reason))
    units = [judge.unit(members) for members in groups.values()]
    # The account that each inquiry counts for: its owner, or who answered its unit.
    owner = {inquiry.inquiry_id: judge.owner(inquiry) for inquiry in inquiries}
    if judge.rule["attribution"] == "responder":
        owner |= {
            member.inquiry_id: unit.answer.account_id
            for unit in units
            for member in unit.members
            if unit.answer is not None and unit.answer.account_id is not None
        }

    outcomes = [_excluded_row(judge, inquiry, reason, owner[inquiry.inquiry_id]) for inquiry, reason in excluded]
    for unit in units:
        outcomes += _unit_rows(judge, unit)
    accounts = set(named_accounts)
    for inquiry in inquiries:
        accounts.add(inquiry.account_id)
        accounts.update(s.account_id for s in inquiry.statuses if s.at < judge.now and s.account_id is not None)
        accounts.update(r.account_id for r in inquiry.replies if r.at < judge.now and r.account_id is not None)
    excluded_ids = {inquiry.inquiry_id for inquiry, _ in excluded}
    received = [(owner[i.inquiry_id], judge.day_of(i.received_at), i.inquiry_id in excluded_ids) for i in inquiries]
    company_id = inquiries[0].company_id
    rates = [rate_row(judge, company_id, None, received, units)]
    for account_id in sorted(accounts):
        own_received = [entry for entry in received if entry[0] == account_id]
        own_units = [unit for unit in units if unit.account_id == account_id]
        rates.append(rate_row(judge, company_id, account_id, own_received, own_units))
    return rates, outcomes


def _excluded_row(judge: Judge, inquiry: Inquiry, reason: str, account_id: str) -> Json:
    day = judge.day_of(inquiry.received_at)
    return _outcome(judge, inquiry, account_id, day, None) | {"outcome": "excluded", "reason": reason}


def _unit_rows(judge: Judge, unit: Unit) -> list[Json]:
    first, *merged = (_outcome(judge, i, unit.account_id, unit.day, unit.inquiry_id) for i in unit.members)
    first |= {"outcome": unit.outcome, "reason": unit.reason}
    if unit.answer is not None and unit.seconds is not None:
        mail = unit.answer.source == "mail"
        evidence_of_answer = {
            reply.matched_by
            for member in unit.members
            for reply in member.replies
            if (reply.source, reply.reply_id) == ("mail", unit.answer.reply_id) and reply.at < judge.now
        }
        first |= {
            "first_reply_at": instant_text(unit.answer.at),
            "reply_seconds": float(unit.seconds),
            "reply_source": unit.answer.source,
            "matched_by": next(name for name in MATCHED_BY if name in evidence_of_answer)
            if mail
            else unit.answer.matched_by,
            "mailbox_id": unit.answer.mailbox_id if mail else None,
            "evidence": unit.answer.evidence if mail else None,
        }
    return [first, *(outcome | {"outcome": "merged"} for outcome in merged)]


def _outcome(judge: Judge, inquiry: Inquiry, account_id: str, day: date, unit_inquiry_id: str | None) -> Json:
    return {
        "rule_set": judge.rule["name"],
        "company_id": inquiry.company_id,
        "account_id": account_id,
        "inquiry_id": inquiry.inquiry_id,
        "buyer_id": inquiry.buyer_id,
        "unit_day": day.isoformat(),
        "unit_inquiry_id": unit_inquiry_id,
        "received_at": instant_text(inquiry.received_at),
        "first_reply_at": None,
        "reply_seconds": None,
        "reason": None,
        "reply_source": None,
        "matched_by": None,
        "mailbox_id": None,
        "evidence": None,
        "state": "final" if judge.settled(day) else "provisional",
        "revision": 1,
    }
