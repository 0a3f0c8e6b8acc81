"""Names of Sent folders on servers without \\Sent, in many languages (sent_names.toml). Pure."""

import re
import tomllib
import unicodedata
from functools import cache
from importlib import resources


def is_sent_name(name: str) -> bool:
    """Whether the last part of a folder name is a known name for sent mail; a name with a further word is a user's folder."""
    last_part = re.split(r"[/.\\]", unicodedata.normalize("NFKC", name).casefold().strip())[-1].strip()
    return last_part in sent_names()


@cache
def sent_names() -> frozenset[str]:
    """The names of sent_names.toml after NFKC and case folding."""
    data = tomllib.loads(resources.files("services.providers").joinpath("sent_names.toml").read_text("utf-8"))
    return frozenset(unicodedata.normalize("NFKC", name).casefold() for name in data["names"])
