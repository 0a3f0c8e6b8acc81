"""The plan of every named statement of the services that runs periodically or for each event.

Statements that a person runs, or that run once in a long time, say so in a comment line that starts with `-- by hand` or
`-- rare`, above the first statement for a whole file. All others are read, also new ones, and planned without values (a
generic plan).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from services.standalone.servers.paths import ROOT

RARE: Final = re.compile(r"^-- (?:by hand|rare)\b", re.MULTILINE)
BY_HAND: Final = re.compile(r"^-- by hand\b", re.MULTILINE)
CONTINUES: Final = re.compile(r"^-- (?:Continues from|Continues) `steps`", re.MULTILINE)
GOES_BEFORE: Final = re.compile(r"^-- Goes before ((?:`\w+`(?:, | and )?)+):", re.MULTILINE)
PART: Final = re.compile(
    r"Not a statement of its own|^-- Continues from `|^-- Goes before `|^-- The same for a recompute", re.MULTILINE
)
"""Texts that are no statement by themselves."""
_NAME: Final = re.compile(r"^-- name: ([a-z][a-z0-9_]*)\s*$", re.MULTILINE)
_PARAMETER: Final = re.compile(r"%\((\w+)\)[sb]")
CONSTANTS: Final = {"most": "8", "quarantined": "'{}'", "limit": "100", "horizon_days": "60"}
"""Values without which a plan is for a tenth of a table."""
PLANNED: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")


@dataclass(frozen=True, slots=True)
class NamedStatement:
    """A statement of a .sql file; `text` is complete, also where the file has only its end."""

    file: str
    name: str
    text: str
    is_rare: bool
    """It runs seldom, or a person runs it."""
    is_by_hand: bool
    """A person runs it."""

    @property
    def title(self) -> str:
        """File and name."""
        return f"{self.file}:{self.name}"

    @property
    def is_planned(self) -> bool:
        """Whether Postgres makes a plan for it: utility statements and parts of statements have none."""
        lines = [line for line in self.text.splitlines() if line and not line.startswith("--")]
        return lines[0].startswith(PLANNED) and not PART.search(self.text)


def statements() -> list[NamedStatement]:
    """Every named statement of the services; one that needs a beginning comes with each of its beginnings."""
    result = []
    steps: dict[str, str] = {}
    judge = ROOT / "services/aggregator/judge/judge.sql"
    for path in [judge, *sorted(path for path in (ROOT / "services").rglob("*.sql") if path != judge)]:
        head, *parts = _NAME.split(path.read_text("utf-8"))
        bodies = dict(zip(parts[::2], parts[1::2], strict=True))
        if "steps" in bodies:
            steps[path.parent.name] = bodies["steps"]
        for name, body in bodies.items():
            texts = list(_with_beginnings(name, bodies))
            if PART.search(body):
                texts = []
            if CONTINUES.search(body):
                texts = [_joined(steps.get(path.parent.name, steps["judge"]), body)]
            is_rare = bool(RARE.search(head) or RARE.search(body))
            is_by_hand = bool(BY_HAND.search(head) or BY_HAND.search(body))
            file = str(path.relative_to(ROOT))
            result += [NamedStatement(file, name, text, is_rare, is_by_hand) for text in texts or [body.strip()]]
    return result


def _with_beginnings(name: str, bodies: Mapping[str, str]) -> Iterator[str]:
    """The text of a part after each of its beginnings, which may have beginnings themselves; nothing where it has none."""
    for beginning, text in bodies.items():
        if _goes_before(text, name):
            for whole in list(_with_beginnings(beginning, bodies)) or [text]:
                yield _joined(whole, bodies[name])


def _goes_before(beginning: str, name: str) -> bool:
    matched = GOES_BEFORE.search(beginning)
    return matched is not None and f"`{name}`" in matched[1]


def _joined(steps: str, text: str) -> str:
    lines = [line for line in f"{steps}\n{text}".splitlines() if not line.startswith("--")]
    return "\n".join(lines).strip()


def plan(connection: psycopg.Connection, statement: NamedStatement, types: Mapping[str, str]) -> dict[str, Any]:
    """The generic plan. `types` of parameters that Postgres cannot infer. psycopg.Error when there is none."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    text = statement.text
    for name, value in CONSTANTS.items():
        text = text.replace(f"%({name})s", value)
    text = _PARAMETER.sub(number, text).replace("%%", "%")
    declared = ", ".join(types.get(f"{statement.name}.{name}", types.get(name, "unknown")) for name in names)
    values = ", ".join("NULL" for _ in names)
    connection.execute("DEALLOCATE ALL")  # one whose plan was refused is left
    connection.execute(f"PREPARE planned {f'({declared})' if names else ''} AS {text}".encode())
    explained = connection.execute(
        f"EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE planned {f'({values})' if names else ''}".encode()
    ).fetchone()
    assert explained is not None
    tree: dict[str, Any] = explained[0][0]["Plan"]
    return tree


def whole_reads(node: Mapping[str, Any], tables: set[str]) -> Iterator[str]:
    """Which of these tables a plan reads from end to end, or looks through until it meets what is due."""
    table = f"{node.get('Schema')}.{node.get('Relation Name')}"
    kind = node["Node Type"]
    if table in tables:
        if kind == "Seq Scan":
            yield f"sequential scan of {table}"
        elif kind.startswith("Index") and "Index Cond" not in node and "clock_timestamp()" in node.get("Filter", ""):
            yield f"index of {table} is looked through: clock_timestamp() is no condition for it, statement_timestamp() is"
    for child in node.get("Plans", ()):
        yield from whole_reads(child, tables)
