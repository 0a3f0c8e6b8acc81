"""Which column of which table contains which kind of personal data, and how long it is kept: schemas/personal_data.toml."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from services.common.tables import read_table

LANGUAGES: Final = ("en", "zh")


@dataclass(frozen=True, slots=True)
class PersonalDataTable:
    """One table: `columns` maps each column to its kind, `retention` is the code of how long a row is kept."""

    name: str
    retention: str
    columns: Mapping[str, str]

    def of_kind(self, kind: str) -> list[str]:
        """The columns of one kind."""
        return [column for column, column_kind in self.columns.items() if column_kind == kind]


@dataclass(frozen=True, slots=True)
class PersonalData:
    """The whole file. `kinds` and `retentions` map a code and a language to a sentence."""

    kinds: Mapping[str, Mapping[str, str]]
    retentions: Mapping[str, Mapping[str, str]]
    tables: Mapping[str, PersonalDataTable]

    def retention(self, table: PersonalDataTable, language: str, horizon_days: int | str) -> str:
        """How long the rows of a table are kept. `horizon_days`: the setting REPLYRATE_HORIZON_DAYS."""
        return self.retentions[table.retention][language].format(days=horizon_days)


@cache
def load() -> PersonalData:
    """schemas/personal_data.toml. ValueError when it contradicts itself: it is part of the program."""
    data = read_table("schemas", "personal_data.toml")
    kinds, retentions = data["kinds"], data["kept"]
    tables: dict[str, PersonalDataTable] = {}
    for name, entry in data["tables"].items():
        tables[name] = PersonalDataTable(name, entry["kept"], _columns(name, entry, kinds, tables))
        if entry["kept"] not in retentions:
            raise ValueError(f"{name}: kept must be one of {', '.join(retentions)}")
    return PersonalData(kinds, retentions, tables)


def _columns(
    name: str, entry: Mapping[str, Any], kinds: Mapping[str, Any], earlier: Mapping[str, PersonalDataTable]
) -> dict[str, str]:
    columns = dict(earlier[entry["like"]].columns) if "like" in entry else {}
    for kind, listed in entry.items():
        if kind in ("kept", "like"):
            continue
        if kind not in kinds:
            raise ValueError(f"{name}: {kind} is not a kind; write one of {', '.join(kinds)}")
        for column in listed:
            if column in columns:
                raise ValueError(f"{name}.{column} is listed twice")
            columns[column] = kind
    return columns
