"""Advice for staff about a cause or a mailbox, from advice.toml. It refers to pages of the console, not to commands or the API."""

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from services.common.language import Bilingual, Language
from services.common.tables import read_table
from services.portal.api.seller_diagnosis import fact_text


@cache
def load() -> Mapping[str, Mapping[str, Bilingual]]:
    """The texts: `cause` by the code of a cause, `state` by the state of a mailbox."""
    return msgspec.convert(read_table("services.portal.console", "advice.toml"), dict[str, dict[str, Bilingual]])


def about_cause(cause: str, facts: Mapping[str, Any], language: Language) -> str:
    """What was found and what to do about it; a fact that the ledger does not have is a dash."""
    shown = {name: fact_text(value, language) for name, value in facts.items()}
    return load()["cause"][cause].text(language).format_map(defaultdict(lambda: fact_text(None, language), shown))


def about_state(state: str, language: Language) -> str:
    """What to do next about a mailbox in a state."""
    return load()["state"][state].text(language)
