"""Where two answers of `replay --json` differ, in sentences."""

from collections import Counter
from math import isclose
from typing import Any

from services.recount.facts import Json
from services.recount.instants import instant

KEYS = {
    "reply_rate": ("rule_set", "level", "company_id", "account_id", "as_of"),
    "inquiry_outcomes": ("rule_set", "company_id", "inquiry_id"),
}
"""What names a row of each array, in the order in which the rows are sorted."""

IGNORED = {"computed_at", "changed_at", "rule_version"}
INSTANTS = {"received_at", "first_reply_at"}


def named(array: str, row: Json) -> str:
    """A row as a person would point at it."""
    return array + " of " + ", ".join(f"{name} {row.get(name)}" for name in KEYS[array] if row.get(name) is not None)


def same(column: str, one: Any, two: Any) -> bool:
    """Numbers to nine digits, instants to the microsecond, anything else exactly."""
    if one is None or two is None or isinstance(one, bool) or isinstance(two, bool):
        return one is two
    if isinstance(one, int | float) and isinstance(two, int | float):
        return isclose(one, two, rel_tol=1e-9, abs_tol=0)
    if column in INSTANTS and isinstance(one, str) and isinstance(two, str):
        try:
            return instant(one) == instant(two)
        except ValueError:
            return False
    return type(one) is type(two) and bool(one == two)


def differences(product: Json, oracle: Json) -> list[str]:
    """One sentence per row or column in which they differ; empty when they say the same.

    Columns that only the product has are its own business.
    """
    said: list[str] = []
    for array, key in KEYS.items():
        if not isinstance(product.get(array), list):
            said.append(f"{array} is missing from the product's answer")
            continue
        ours = {tuple(row[name] for name in key): row for row in oracle[array]}
        theirs = {tuple(row.get(name) for name in key): row for row in product[array]}
        for name, times in Counter(tuple(row.get(name) for name in key) for row in product[array]).items():
            if times > 1:
                said.append(f"{named(array, theirs[name])} is there {times} times")
        said += [f"{named(array, row)} is missing" for name, row in ours.items() if name not in theirs]
        said += [f"{named(array, row)} should not be there" for name, row in theirs.items() if name not in ours]
        for name, row in ours.items():
            for column, value in row.items():
                if name not in theirs or column in IGNORED:
                    continue
                if column not in theirs[name]:
                    said.append(f"{named(array, row)} has no column {column}")
                elif not same(column, theirs[name][column], value):
                    said.append(f"{named(array, row)}: {column} is {theirs[name][column]!r}, recounted {value!r}")
    return said


def disorder(product: Json) -> list[str]:
    """Arrays whose rows are not sorted by their key, text by code point."""
    return [
        f"the rows of {array} are not sorted by {', '.join(key)}"
        for array, key in KEYS.items()
        if (names := [tuple(row.get(name) or "" for name in key) for row in product[array]]) != sorted(names)
    ]
