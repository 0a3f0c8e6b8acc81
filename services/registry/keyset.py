"""The range of companies that a list is about, as bounds that an index on the id serves. Pure."""

from dataclasses import dataclass
from typing import Final

LAST: Final = "\U0010ffff"
"""Sorts after every character of an id (collation "C": by bytes of UTF-8)."""


@dataclass(frozen=True, slots=True)
class KeysetRange:
    """Companies whose id begins with every one of some prefixes; `is_empty` when no id can."""

    prefix: str
    is_empty: bool = False

    @classmethod
    def of(cls, *prefixes: str) -> "KeysetRange":
        """The range of ids that begin with all of `prefixes`."""
        longest = max(prefixes, key=len)
        return cls(longest, not all(longest.startswith(prefix) for prefix in prefixes))

    @property
    def values(self) -> dict[str, str]:
        """`first` and `last`: the bounds of the ids, both included. Of an empty range the first is after the last."""
        return (
            {"first": LAST * 2, "last": ""} if self.is_empty else {"first": self.prefix, "last": self.prefix + LAST * 4}
        )
