"""The routes of the panel."""

from fastapi import APIRouter

from services.portal.panel import changes, exports, frame, inquiries, mailboxes, overview
from services.portal.panel.reader import PanelGate
from services.portal.resources import PortalResources


def routes(resources: PortalResources) -> list[APIRouter]:
    """Of all pages."""
    gate = PanelGate(resources)
    return [
        frame.routes(resources),
        *(room.routes(gate) for room in (overview, inquiries, changes, mailboxes, exports)),
    ]
