"""The cases that decide whether a counter is right: statuses, units, clocks, forwards and newsletters."""

from dataclasses import replace
from datetime import timedelta

from services.standalone.world import letters
from services.standalone.world.letters import MailText
from services.standalone.world.script import Script
from services.standalone.world.world import WorldAccount, WorldInquiry, WorldMail, WorldMailbox


def add(script: Script, inquiries: list[WorldInquiry], account: WorldAccount, mailbox: WorldMailbox) -> None:
    """Add every case to an account; `inquiries` are those that it has already."""
    _add_statuses(script, account)
    _add_units(script, account, mailbox)
    _add_backdated(script, account, mailbox)
    _add_forward(script, account, mailbox)
    # A newsletter reaches buyers who wait for an answer, and is none.
    waiting = tuple(inquiry.addresses[0] for inquiry in inquiries[-12:])
    for number, bulk_by in enumerate(("list", "precedence")):
        script.newsletter(mailbox, waiting, script.past(4 + number), bulk_by)


def _inquiry(script: Script, account: WorldAccount, days: float) -> WorldInquiry:
    return script.inquiry(account.company_id, account.account_id, script.past(days))


def _add_statuses(script: Script, account: WorldAccount) -> None:
    """Statuses inside and outside their limits, an undone one, a repeated inquiry, a domestic buyer."""
    for status, hours in (("spam", 2), ("blacklisted", 20), ("withdrawn", 1), ("buyer-closed", 60)):
        inquiry = _inquiry(script, account, 14)
        script.status(inquiry, status, inquiry.received_at + timedelta(hours=hours))
    late = _inquiry(script, account, 13)
    script.status(late, "spam", late.received_at + timedelta(days=3))
    undone = _inquiry(script, account, 11)
    script.status(undone, "spam", undone.received_at + timedelta(hours=1))
    script.status(undone, "spam-undone", undone.received_at + timedelta(hours=6))
    for status in ("rejected", "declined"):
        inquiry = _inquiry(script, account, 16)
        script.status(inquiry, status, inquiry.received_at + timedelta(hours=7))
    script.planned[-1] = replace(script.planned[-1], copies=3)
    domestic = _inquiry(script, account, 12)
    script.planned[script.planned.index(domestic)] = replace(domestic, region="CN")


def _add_units(script: Script, account: WorldAccount, mailbox: WorldMailbox) -> None:
    """One buyer twice within minutes is one unit; one buyer on two days is two units, with one reply for both."""
    company_id, account_id = account.company_id, account.account_id
    first = _inquiry(script, account, 18)
    script.inquiry(company_id, account_id, first.received_at + timedelta(minutes=20), of=first)
    script.reply(first, mailbox, timedelta(hours=4))
    evening = _inquiry(script, account, 20)
    next_day = script.inquiry(company_id, account_id, evening.received_at + timedelta(hours=20), of=evening)
    script.reply(next_day, mailbox, timedelta(hours=2))


def _add_backdated(script: Script, account: WorldAccount, mailbox: WorldMailbox) -> None:
    """A client that dates its mail back by 20 hours: the server's date counts, and the answer is late."""
    inquiry = _inquiry(script, account, 10)
    letter = MailText(
        mailbox.address, inquiry.addresses[:1], "Re: 报价", inquiry.received_at + timedelta(hours=9),
        script.message_id(mailbox), agent=letters.AGENTS[1],
    )  # fmt: skip
    script.mails.append(WorldMail(mailbox.key, letter, inquiry.received_at + timedelta(hours=29)))


def _add_forward(script: Script, account: WorldAccount, mailbox: WorldMailbox) -> None:
    """A forward to a colleague keeps the thread and answers no buyer."""
    inquiry = _inquiry(script, account, 9)
    letter = MailText(
        mailbox.address, ("colleague@hx-tools.example",), script.subject(letters.FORWARD_SUBJECTS),
        inquiry.received_at + timedelta(hours=1), script.message_id(mailbox), kind="forward",
        in_reply_to=(inquiry.message_ids or ("x@notify.platform.example",))[0], references=inquiry.message_ids,
    )  # fmt: skip
    script.mails.append(WorldMail(mailbox.key, letter, inquiry.received_at + timedelta(hours=1, seconds=3)))
