"""Rule sets: what a reply rate means, as data. Validated here, identified by name, version and content hash.

schemas/rule-set.schema.json defines the parameters; a value that is not supported yet is refused by name, never ignored.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from jsonschema import ValidationError
from msgspec import Meta

from services.aggregator.judge.rule_problems import rule_problem
from services.common import tables
from services.common.errors import ConfigError

MAX_SECONDS = 366 * 86_400
"""The longest duration: no rule set looks further back."""
MAX_REACH_BACK_DAYS = 3660
"""Ten years: a connection reaches back as far as there is mail."""
ZONES = frozenset(available_timezones() - {"localtime", "Factory"})
"""Zones that Python and Postgres both know; `localtime` differs from machine to machine."""
LATE_DAYS = 45
"""Days beyond its reach for which a row may still change: settling, an outage, two weeks of late facts."""
_NOT_ADDED = object()
When = Literal["spam", "blacklisted", "withdrawn", "trashed", "rejected", "buyer-closed", "mainland-china-buyer"]
Answer = Literal["human-reply", "platform-reply", "automatic-reply", "rejected", "declined", "spam-report"]


class Exclusion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An inquiry does not count when `when` applies to it, within `within_seconds` of its receipt (None: at any time)."""

    when: When
    within_seconds: Annotated[int, Meta(ge=0, le=MAX_SECONDS)] | None = None


class SmallSample(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What happens to a row that counts fewer than `min_counted` units.

    `hide`: its rate is empty. `widen`: its window starts earlier, so that it includes the last `min_counted` counted units
    within `max_days` days, as far as there are any.
    """

    mode: Literal["hide", "widen"]
    min_counted: Annotated[int, Meta(ge=1, le=1_000_000)]
    max_days: Annotated[int, Meta(ge=1, le=366)] | None = None


class RuleSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All parameters of one rule set. Durations are seconds or local days."""

    name: Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{0,62}$")]
    version: Annotated[int, Meta(ge=1, le=1_000_000)]
    title: Annotated[str, Meta(min_length=1)]
    source: Annotated[str, Meta(min_length=1)]
    time_zone: str
    target_seconds: Annotated[int, Meta(ge=1, le=MAX_SECONDS)]
    window_days: Annotated[int, Meta(ge=1, le=366)]
    settle_days: Annotated[int, Meta(ge=0, le=60)]
    max_settle_days: Annotated[int, Meta(ge=0, le=60)] = 14
    unit: Literal["each-inquiry", "first-per-buyer-day", "first-per-thread"]
    answered_by: Annotated[tuple[Answer, ...], Meta(min_length=1)]
    exclude: tuple[Exclusion, ...] = ()
    attribution: Literal["owner-at-receipt", "current-owner", "responder"]
    evidence: Literal["any", "verified"] = "any"
    answer_to: Literal["anyone", "buyer-or-relay"] = "anyone"
    reach_back_days: Annotated[int, Meta(ge=0, le=MAX_REACH_BACK_DAYS)] = MAX_REACH_BACK_DAYS
    unmeasured: Literal["separate", "unanswered"] = "separate"
    min_coverage: Annotated[float, Meta(ge=0, le=1)] = 0.0
    small_sample: Literal["show"] | SmallSample = "show"
    period_by: Literal["receipt", "deadline"] = "receipt"
    rounding: Literal["none", "down-1", "half-up-0"] = "none"
    average_over: Literal["answered", "fastest-80-percent"] = "answered"
    calendar: str = "always"

    @property
    def content_hash(self) -> str:
        """Hash of the parameters: two rule sets with the same hash give the same numbers.

        A parameter that a later release added is left out while it has its default, which keeps the meaning: rows of earlier
        releases keep their rule version, and an upgrade rewrites none of them.
        """
        defaults = added_later()
        hashed = {name: value for name, value in self.parameters().items() if defaults.get(name, _NOT_ADDED) != value}
        text = json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def identity(self) -> str:
        """`1+3f2a…`: version and content hash; stored with every row that the rule set produced."""
        return f"{self.version}+{self.content_hash}"

    @property
    def zone(self) -> ZoneInfo:
        """The time zone whose days are counted."""
        return ZoneInfo(self.time_zone)

    @property
    def reach_days(self) -> int:
        """The longest window of a row, in days: window_days, or what it may be widened to."""
        sample = self.small_sample
        return max(self.window_days, (sample.max_days or 0) if isinstance(sample, SmallSample) else 0)

    @property
    def is_reach_limited(self) -> bool:
        """Whether a new connection does not count all mail that it finds."""
        return self.reach_back_days < MAX_REACH_BACK_DAYS

    def parameters(self) -> dict[str, Any]:
        """All parameters as plain JSON values."""
        parameters: dict[str, Any] = msgspec.to_builtins(self)
        return parameters


def parse(text: str, origin: str) -> RuleSet:
    """A rule set from TOML. ConfigError with `origin`, the key, its value and what is allowed."""
    data = tables.parse_table(text, origin)
    problems = tables.schema_sentences(data, "rule-set", origin, explained_in="docs/rule-sets.md", wording=_wording)
    zone, sample = data.get("time_zone"), data.get("small_sample")
    if isinstance(zone, str) and zone not in ZONES:
        problems.append(rule_problem("zone", origin=origin, zone=repr(zone)))
    if not problems and isinstance(sample, dict) and sample.get("max_days", 366) < data["window_days"]:
        problems.append(rule_problem("max-days", origin=origin, days=sample["max_days"]))
    if problems:
        raise ConfigError(problems)
    try:
        return msgspec.convert(data, RuleSet)
    except msgspec.ValidationError as error:
        # 30.0 is an integer and nan a number to JSON Schema.
        raise ConfigError(rule_problem("value", origin=origin, error=str(error))) from None


@lru_cache(maxsize=64)
def stored(parameters: str) -> RuleSet:
    """A rule set from the JSON parameters that the database stores."""
    return msgspec.json.decode(parameters, type=RuleSet)


def _wording(error: ValidationError) -> str | None:
    if error.validator == "anyOf":
        forms = "'show', {mode = 'hide', min_counted = N} or {mode = 'widen', min_counted = N, max_days = M}"
        return f"{error.instance!r} is none of {forms}"
    return None


def schema() -> dict[str, Any]:
    """schemas/rule-set.schema.json."""
    return tables.schema("rule-set")


def deciding() -> list[str]:
    """Names of the parameters that decide about a single inquiry, in the order of the schema (`"decides": true`)."""
    return [name for name, parameter in schema()["properties"].items() if parameter["decides"]]


def added_later() -> dict[str, Any]:
    """Parameters that rule sets of earlier releases lack (`"added_later": true`), with their defaults."""
    properties = schema()["properties"]
    return {name: parameter["default"] for name, parameter in properties.items() if parameter.get("added_later")}


def builtin_names() -> list[str]:
    """Names of the rule sets that come with replyrate."""
    folder = resources.files("services.aggregator.judge").joinpath("rule_sets")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_builtin(name: str) -> RuleSet:
    """A rule set that comes with replyrate. ConfigError with the available names."""
    return load(name, None)


def names(folder: Path | None) -> list[str]:
    """Names of all rule sets: those that come with replyrate, and those in an operator's folder."""
    return sorted({*builtin_names(), *(file.stem for file in folder.glob("*.toml"))} if folder else builtin_names())


def load(name: str, folder: Path | None) -> RuleSet:
    """A rule set by name, from replyrate or from an operator's folder. ConfigError that says what is wrong and where."""
    own = folder / f"{name}.toml" if folder is not None else None
    if name in builtin_names():
        if own is not None and own.exists():
            raise ConfigError(rule_problem("own-file", file=str(own), name=name))
        return parse(tables.read_text("services.aggregator.judge", f"rule_sets/{name}.toml"), f"{name}.toml")
    if own is None or name not in names(folder):
        raise ConfigError(rule_problem("no-rule-set", name=name, names=", ".join(names(folder))))
    return read(own)


def read(file: Path) -> RuleSet:
    """A rule set from an operator's file, whose name must be the rule set's."""
    try:
        rule_set = parse(file.read_text("utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(rule_problem("unreadable", file=str(file), error=type(error).__name__)) from None
    if rule_set.name != file.stem:
        raise ConfigError(
            rule_problem("file-name", file=str(file), name=repr(rule_set.name), new=f"{rule_set.name}.toml")
        )
    return rule_set


def check_horizon(rule_set: RuleSet, horizon_days: int) -> None:
    """ConfigError with the value to set if facts are kept for a shorter time than the rule set looks back."""
    needed = rule_set.reach_days + rule_set.max_settle_days + 10
    if needed > horizon_days:
        raise ConfigError(rule_problem("horizon", name=rule_set.name, days=needed))


def check_kept(rule_sets: Sequence[RuleSet], horizon_days: int, keep_days: int) -> None:
    """ConfigError with the value to set if units would be archived while late facts are usual, or a new rule set needs them.

    A rule set that becomes active computes rows from `reach_days` and 45 days ago on, each of which looks back again.
    """
    needed = max(
        horizon_days,
        *(
            2 * rule_set.reach_days + LATE_DAYS + rule_set.settle_days + rule_set.max_settle_days
            + rule_set.target_seconds // 86_400 + 4
            for rule_set in rule_sets
        ),
    )  # fmt: skip
    if keep_days < needed:
        raise ConfigError(
            f"REPLYRATE_AGGREGATOR__KEEP_UNITS_DAYS: {keep_days} is too short for the active rule sets and"
            f" REPLYRATE_HORIZON_DAYS; write {needed} or more"
        )
