"""The routes of the panel."""

from fastapi import APIRouter

from services.portal.pages.seller import SellerGate
from services.portal.panel import changes, exports, frame, inquiries, mailboxes, overview, probe, questions
from services.portal.panel.reader import PanelGate
from services.portal.resources import PortalResources


def routes(resources: PortalResources) -> list[APIRouter]:
    """Of all pages."""
    gate = PanelGate(resources)
    return [
        frame.routes(resources),
        probe.routes(gate, SellerGate(resources)),
        *(room.routes(gate) for room in (overview, inquiries, changes, mailboxes, questions, exports)),
    ]
