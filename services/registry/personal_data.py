"""What every column of every table says about a person, as data: schemas/personal_data.toml."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from services.common.tables import read_table

LANGUAGES: Final = ("en", "zh")


@dataclass(frozen=True, slots=True)
class PersonalDataTable:
    """One table: `columns` maps each column to its kind, `kept` says for how long a row is."""

    name: str
    kept: str
    columns: Mapping[str, str]

    def of_kind(self, kind: str) -> list[str]:
        """The columns of one kind."""
        return [column for column, its in self.columns.items() if its == kind]


@dataclass(frozen=True, slots=True)
class PersonalData:
    """The whole file. `kinds` and `kept` map a code and a language to a sentence."""

    kinds: Mapping[str, Mapping[str, str]]
    kept: Mapping[str, Mapping[str, str]]
    tables: Mapping[str, PersonalDataTable]


@cache
def load() -> PersonalData:
    """schemas/personal_data.toml. ValueError when it contradicts itself: it is part of the program."""
    found = read_table("schemas", "personal_data.toml")
    kinds, kept = found["kinds"], found["kept"]
    tables: dict[str, PersonalDataTable] = {}
    for name, said in found["tables"].items():
        tables[name] = PersonalDataTable(name, said["kept"], _columns(name, said, kinds, tables))
        if said["kept"] not in kept:
            raise ValueError(f"{name}: kept must be one of {', '.join(kept)}")
    return PersonalData(kinds, kept, tables)


def _columns(
    name: str, said: Mapping[str, Any], kinds: Mapping[str, Any], before: Mapping[str, PersonalDataTable]
) -> dict[str, str]:
    columns = dict(before[said["like"]].columns) if "like" in said else {}
    for kind, listed in said.items():
        if kind in ("kept", "like"):
            continue
        if kind not in kinds:
            raise ValueError(f"{name}: {kind} is no kind; write one of {', '.join(kinds)}")
        for column in listed:
            if column in columns:
                raise ValueError(f"{name}.{column} stands twice")
            columns[column] = kind
    return columns
