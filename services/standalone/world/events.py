"""The platform's facts of a world as events, in the form in which the platform publishes them."""

from collections.abc import Iterator
from datetime import datetime

from services.common.events import Buyer, Event, InquiryReceived, ReplyRecorded, StatusChanged
from services.standalone.world.world import Wave, World


def events(world: World, wave: Wave) -> Iterator[tuple[Event, datetime, int]]:
    """The facts of one wave: (event, its time, how often the platform publishes it)."""
    for inquiry in world.inquiries:
        if inquiry.wave == wave:
            buyer = Buyer(id=inquiry.buyer_id, addresses=inquiry.addresses, region=inquiry.region)
            received = InquiryReceived(
                company_id=inquiry.company_id, account_id=inquiry.account_id, inquiry_id=inquiry.inquiry_id,
                received_at=inquiry.received_at, buyer=buyer, message_ids=inquiry.message_ids,
                reply_addresses=inquiry.reply_addresses,
            )  # fmt: skip
            yield received, inquiry.received_at, inquiry.copies
    for change in world.statuses:
        if change.wave == wave:
            status = StatusChanged(
                company_id=change.company_id, inquiry_id=change.inquiry_id, status=change.status, at=change.at,
                account_id=change.account_id,
            )  # fmt: skip
            yield status, change.at, 1
    for reply in world.platform_replies:
        if reply.wave == wave:
            recorded = ReplyRecorded(
                company_id=reply.company_id, account_id=reply.account_id, inquiry_id=reply.inquiry_id,
                reply_id=reply.reply_id, replied_at=reply.replied_at, channel="mail", automatic=reply.automatic,
            )  # fmt: skip
            yield recorded, reply.replied_at, 1
