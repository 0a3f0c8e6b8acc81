"""The facts that replyrate must come to know of a world's company, from the plan alone."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from services.recount.company import AskedInquiry, CompanyFacts, CoveredInterval, GivenReply, StatusMark
from services.standalone.world.world import World, WorldInquiry, WorldMail

GRACE: Final = timedelta(seconds=300)
"""How long before its inquiry a reply may be dated."""


def planned_facts(world: World, company_id: str, covered: Sequence[CoveredInterval]) -> CompanyFacts:
    """A company's joined facts; mail of connected mailboxes only. `covered` is what the fetcher recorded."""
    company = next(company for company in world.companies if company.company_id == company_id)
    facts = CompanyFacts(accounts={account.account_id for account in company.accounts}, covered=list(covered))
    connected = {mailbox.key: mailbox for mailbox in company.mailboxes if mailbox.connected}
    mails = [mail for mail in world.mails if mail.mailbox in connected]
    for inquiry in world.inquiries:
        if inquiry.company_id != company_id:
            continue
        facts.asked.append(
            AskedInquiry(
                inquiry.inquiry_id, inquiry.account_id, inquiry.received_at, inquiry.buyer_id,
                from_china=inquiry.region == "CN",
            )
        )  # fmt: skip
        for mail in mails:
            mailbox = connected[mail.mailbox]
            facts.replied += [
                GivenReply(
                    inquiry.inquiry_id, mail.letter.message_id or "", "mail", mailbox.account_id, mail.counts_at,
                    mail.kind, matched_by, mailbox.key,
                )
                for matched_by in matches(mail, inquiry)
                if mail.counts_at >= inquiry.received_at - GRACE
            ]  # fmt: skip
    facts.marked = [
        StatusMark(change.inquiry_id, change.status, change.at, change.account_id or "")
        for change in world.statuses
        if change.company_id == company_id
    ]
    facts.replied += [
        GivenReply(
            reply.inquiry_id, reply.reply_id, "platform", reply.account_id, reply.replied_at,
            "automatic" if reply.automatic else "human", "platform",
        )
        for reply in world.platform_replies if reply.company_id == company_id
    ]  # fmt: skip
    return facts


def matches(mail: WorldMail, inquiry: WorldInquiry) -> list[str]:
    """The tests of the join that hold for a mail and an inquiry, strongest first; a forward keeps no thread."""
    letter, message_ids = mail.letter, inquiry.message_ids
    tests = []
    if letter.kind != "forward":
        if letter.in_reply_to in message_ids:
            tests.append("in-reply-to")
        if set(letter.references) & set(message_ids):
            tests.append("references")
    recipients = {address.lower() for address in (*letter.to, *letter.cc)}
    if recipients & {address.lower() for address in inquiry.reply_addresses}:
        tests.append("relay-address")
    if recipients & {address.lower() for address in inquiry.addresses}:
        tests.append("buyer-address")
    return tests
