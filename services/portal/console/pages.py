"""The pages of the console in its navigation, in their order. A page is named by its texts: `nav.NAME` and `NAME.title`."""

from dataclasses import dataclass
from typing import Final

from services.registry.staff_sessions import StaffRole


@dataclass(frozen=True, slots=True)
class ConsolePage:
    """A page that the navigation leads to. `role`: the least role that sees it."""

    name: str
    path: str
    role: StaffRole = "support"


PAGES: Final = (
    ConsolePage("search", "/"),
    ConsolePage("mailboxes", "/mailboxes"),
    ConsolePage("overview", "/overview", "operator"),
    ConsolePage("letters", "/dead-letters", "operator"),
    ConsolePage("rules", "/rule-sets", "operator"),
    ConsolePage("keys", "/api-keys", "operator"),
    ConsolePage("audit", "/audit", "operator"),
)
PATHS: Final = {entry.name: entry.path for entry in PAGES}


def pages_for(role: StaffRole) -> tuple[ConsolePage, ...]:
    """The pages that a role sees."""
    return tuple(entry for entry in PAGES if role in ("operator", entry.role))
