"""What to do at the command line about a request that was refused: the sentences of remedies.toml."""

from collections.abc import Mapping
from functools import cache

from services.common.tables import read_table
from services.registry.errors import RegistryError


@cache
def load() -> Mapping[str, str]:
    """The sentence of each code of `services.registry.errors.Remedy`."""
    return read_table("services.cli", "remedies.toml")


def explain(error: RegistryError) -> str:
    """What happened, why, and which command or option helps."""
    if error.remedy is None:
        return str(error)
    return f"{error}; {load()[error.remedy].format_map(error.values)}"
