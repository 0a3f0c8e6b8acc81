"""Where oracle_value answers of `replay --json` differ, in sentences."""

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


def named(array: str, line: Json) -> str:
    """A row named by its key, for messages."""
    return array + " of " + ", ".join(f"{name} {line.get(name)}" for name in KEYS[array] if line.get(name) is not None)


def same(column: str, product_value: Any, oracle_value: Any) -> bool:
    """Numbers to nine digits, instants to the microsecond, anything else exactly."""
    if (
        product_value is None
        or oracle_value is None
        or isinstance(product_value, bool)
        or isinstance(oracle_value, bool)
    ):
        return product_value is oracle_value
    if isinstance(product_value, int | float) and isinstance(oracle_value, int | float):
        return isclose(product_value, oracle_value, rel_tol=1e-9, abs_tol=0)
    if column in INSTANTS and isinstance(product_value, str) and isinstance(oracle_value, str):
        try:
            return instant(product_value) == instant(oracle_value)
        except ValueError:
            return False
    return type(product_value) is type(oracle_value) and bool(product_value == oracle_value)


def differences(product: Json, oracle: Json) -> list[str]:
    """A sentence for each row or column that differs; empty if they agree.

    Columns that only the product has are ignored.
    """
    problems: list[str] = []
    for array, key in KEYS.items():
        if not isinstance(product.get(array), list):
            problems.append(f"{array} is missing from the product's answer")
            continue
        ours = {tuple(line[name] for name in key): line for line in oracle[array]}
        theirs = {tuple(line.get(name) for name in key): line for line in product[array]}
        for name, times in Counter(tuple(line.get(name) for name in key) for line in product[array]).items():
            if times > 1:
                problems.append(f"{named(array, theirs[name])} is there {times} times")
        problems += [f"{named(array, line)} is missing" for name, line in ours.items() if name not in theirs]
        problems += [f"{named(array, line)} should not be there" for name, line in theirs.items() if name not in ours]
        for name, expected in ours.items():
            for column, value in expected.items():
                if name not in theirs or column in IGNORED:
                    continue
                if column not in theirs[name]:
                    problems.append(f"{named(array, expected)} has no column {column}")
                elif not same(column, theirs[name][column], value):
                    problems.append(
                        f"{named(array, expected)}: {column} is {theirs[name][column]!r}, recounted {value!r}"
                    )
    return problems


def disorder(product: Json) -> list[str]:
    """Arrays whose rows are not sorted by their key, text by code point."""
    return [
        f"the rows of {array} are not sorted by {', '.join(key)}"
        for array, key in KEYS.items()
        if (names := [tuple(line.get(name) or "" for name in key) for line in product[array]]) != sorted(names)
    ]
