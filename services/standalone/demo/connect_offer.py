"""Links to the pages for sellers of the demo: the panel of one, and the connect page of one whose backup mailbox is not connected, with
what to type there."""

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
    panel_url: str = field(repr=False)
    panel_title: str
    """Of the seller whose panel it is."""


def make_offer(dsn: str, world: World, portal_url: str, host: str, port: int) -> ConnectOffer:
    """Make the links; mail is served at `host`:`port`."""
    (company,) = [company for company in world.companies if company.story == STORY]
    (mailbox,) = [mailbox for mailbox in company.mailboxes if not mailbox.connected]
    wanted = LinkRequest(mailbox.company_id, mailbox.account_id, "demo", mailbox.role)
    shown = world.companies[0]
    panel_wanted = LinkRequest(shown.company_id, shown.mailboxes[0].account_id, "demo", purpose="panel")
    with connect(dsn, "replyrate-demo") as connection:
        sessions = PortalSessions(connection)
        link, panel = sessions.make_link(wanted, LINK_MINUTES), sessions.make_link(panel_wanted, LINK_MINUTES)
    return ConnectOffer(
        link.url(portal_url, "en"), company.title, mailbox.address, mailbox.password, host, port,
        panel.url(portal_url, "en"), shown.title,
    )  # fmt: skip
