"""The seller of the demo whose backup mailbox is not connected: a link to the connect page, and what to type there."""

from dataclasses import dataclass, field
from typing import Final

from services.common.postgres import connect
from services.registry.portal_sessions import LinkRequest, PortalSessions
from services.standalone.world.world import World

STORY: Final = "backup-not-connected"
LINK_MINUTES: Final = 60


@dataclass(frozen=True, slots=True)
class ConnectOffer:
    """What a person needs to connect a mailbox of the demo on the portal."""

    url: str = field(repr=False)
    title: str
    """Of the seller."""
    address: str
    password: str = field(repr=False)
    host: str
    port: int


def make_offer(dsn: str, world: World, portal_url: str, host: str, port: int) -> ConnectOffer:
    """Make a link for the seller at the mail server `host`:`port`."""
    (company,) = [company for company in world.companies if company.story == STORY]
    (mailbox,) = [mailbox for mailbox in company.mailboxes if not mailbox.connected]
    wanted = LinkRequest(mailbox.company_id, mailbox.account_id, "demo", mailbox.role)
    with connect(dsn, "replyrate-demo") as connection:
        link = PortalSessions(connection).make_link(wanted, LINK_MINUTES)
    return ConnectOffer(link.url(portal_url, "en"), company.title, mailbox.address, mailbox.password, host, port)
