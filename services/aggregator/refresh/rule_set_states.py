"""Every rule set of an installation and its state: those of files and those that the database stores."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import psycopg

from services.aggregator.judge import rules
from services.aggregator.judge.rule_problems import rule_problem
from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh import recompute
from services.aggregator.refresh.recompute import StoredRuleSet
from services.common.errors import ConfigError, ReplyrateError
from services.common.language import Bilingual, in_language

RuleSetStatus = Literal["active", "inactive", "unusable"]


@dataclass(frozen=True, slots=True)
class Computation:
    """An unfinished recompute: what it computes, since when, and how many companies it has judged."""

    identity: str
    begun_at: datetime
    done: int
    companies: int


@dataclass(frozen=True, slots=True)
class RuleSetState:
    """A rule set as it is active, else as its file says.

    `rule_set` is None when its file is invalid, which `problems` explain; `file_identity` is what the file defines, if it is valid.
    """

    name: str
    status: RuleSetStatus
    rule_set: RuleSet | None
    problems: tuple[str | Bilingual, ...] = ()
    file_identity: str = ""
    computation: Computation | None = None

    @property
    def problem(self) -> str:
        """The problems in English, in one line."""
        return "; ".join(in_language(problem, "en") for problem in self.problems)

    @property
    def is_file_newer(self) -> bool:
        """Whether the file defines something else than what is active."""
        return self.status == "active" and bool(self.file_identity) and self.file_identity != self.identity

    @property
    def is_finished(self) -> bool:
        """Whether nothing is being computed for it."""
        return self.computation is None

    @property
    def identity(self) -> str:
        """Version and content hash; empty for an invalid file."""
        return "" if self.rule_set is None else self.rule_set.identity


def states(connection: psycopg.Connection, folder: Path | None) -> list[RuleSetState]:
    """Every rule set by name. An invalid file does not hide the other rule sets."""
    files = rules.names(folder)
    stored = {rule_set.name: rule_set for rule_set in recompute.stored_rule_sets(connection)}
    running = {progress["rule_set"]: progress for progress in recompute.progress(connection)}
    return [
        _state(name, stored.get(name), folder, name in files, running.get(name))
        for name in sorted({*files, *stored, *running})
    ]


def _state(
    name: str, stored: StoredRuleSet | None, folder: Path | None, has_file: bool, running: dict[str, Any] | None
) -> RuleSetState:
    is_active = stored is not None and stored.is_active
    computation = (
        None
        if running is None
        else Computation(running["identity"], running["begun_at"], running["done"], running["companies"])
    )
    from_file, problems = _from_file(name, folder) if has_file else (None, ())
    rule_set = stored.rule_set if stored is not None and (is_active or not has_file) else from_file
    status: RuleSetStatus = "active" if is_active else "unusable" if problems else "inactive"
    return RuleSetState(name, status, rule_set, problems, "" if from_file is None else from_file.identity, computation)


def _from_file(name: str, folder: Path | None) -> tuple[RuleSet | None, tuple[str | Bilingual, ...]]:
    try:
        return rules.load(name, folder), ()
    except ConfigError as error:
        return None, error.sentences


def defined(connection: psycopg.Connection, text: str, folder: Path | None) -> RuleSet:
    """The rule set of a definition that was typed in. ConfigError, or ReplyrateError when it cannot be activated as it is.

    Its version must be higher than what a file or the database defines under the same name with other parameters: an aggregator that
    starts activates what its files define unless a higher version is active.
    """
    rule_set = rules.parse(text, "definition")
    if rule_set.name in rules.builtin_names() and rule_set.identity != rules.load_builtin(rule_set.name).identity:
        raise ReplyrateError(rule_problem("own-name", name=rule_set.name))
    state = next((state for state in states(connection, folder) if state.name == rule_set.name), None)
    identities = [] if state is None else [identity for identity in (state.identity, state.file_identity) if identity]
    if state is not None and state.computation is not None:
        identities.append(state.computation.identity)
    taken = max((recompute.version_of(identity) for identity in identities if identity != rule_set.identity), default=0)
    if rule_set.identity not in identities and rule_set.version <= taken:
        raise ReplyrateError(rule_problem("version", version=rule_set.version, name=rule_set.name, next=taken + 1))
    return rule_set
