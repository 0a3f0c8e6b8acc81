"""Names of Sent folders on servers without \\Sent, in many languages (sent_names.toml). Pure."""

import re
import unicodedata
from functools import cache

from services.common.tables import read_table


def is_sent_name(name: str) -> bool:
    """Whether the last part of a folder name is a known name for sent mail; a name with a further word is a user's folder."""
    last_part = re.split(r"[/.\\]", unicodedata.normalize("NFKC", name).casefold().strip())[-1].strip()
    return last_part in sent_names()


@cache
def sent_names() -> frozenset[str]:
    """The names of sent_names.toml after NFKC and case folding."""
    data = read_table("services.providers", "sent_names.toml")
    return frozenset(unicodedata.normalize("NFKC", name).casefold() for name in data["names"])
