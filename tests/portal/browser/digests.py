"""What the page of a state is made from, as a digest: a state whose digest is another than the recorded one must be looked at again.

Of a template: itself, the templates that it names, the styles and scripts that these load, and the texts of its pages. Not part of it is what
routes calculate, such as the shapes of charts, and sentences of the causes and explanations, which the command line has as well.
"""

import hashlib
import re
from pathlib import Path
from typing import Final

from services.portal.static_files import STATIC
from services.standalone.servers.paths import ROOT

TEMPLATES: Final = ROOT / "services" / "portal" / "templates"
OTHER_TEMPLATE: Final = re.compile(r'(?:extends|include|from|import) "([a-z_]+\.html)"')
"""Where a template names another, which then is a part and no page of its own."""
STATIC_FILE: Final = re.compile(r'"/static/([^"]+)"')
TEXTS: Final = {
    "console": ("portal/console/texts.toml", "portal/console/operate_texts.toml", "portal/console/advice.toml"),
    "panel": ("portal/panel/texts.toml", "portal/pages/texts.toml"),
    "": ("portal/pages/texts.toml", "connect/texts.toml", "connect/consent.toml"),
}
"""How the name of a template begins → the texts of its pages, in services/; the first that fits."""
DIGITS: Final = 12
"""Of a digest, hexadecimal."""


def digest(template: str) -> str:
    """The digest of a template, `panel_due.html`."""
    content = hashlib.sha256()
    for file in sources(template):
        content.update(f"{file.name}\0".encode() + _bytes_digest(file))
    return content.hexdigest()[:DIGITS]


def sources(template: str) -> list[Path]:
    """The files that the page of a template is made from."""
    parts = sorted(_with_parts(template))
    loaded = {name for part in parts for name in STATIC_FILE.findall((TEMPLATES / part).read_text("utf-8"))}
    texts = next(texts for beginning, texts in TEXTS.items() if template.startswith(beginning))
    return [
        *(TEMPLATES / part for part in parts),
        *(STATIC / name for name in sorted(loaded)),
        *(ROOT / "services" / name for name in texts),
    ]


def _with_parts(template: str) -> set[str]:
    """A template and all that it names, directly or through another one."""
    reached, new = set[str](), {template}
    while new:
        reached |= new
        new = {name for part in new for name in OTHER_TEMPLATE.findall((TEMPLATES / part).read_text("utf-8"))} - reached
    return reached


def _bytes_digest(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()
