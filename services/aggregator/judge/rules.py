"""Rule sets: what a reply rate means, as data. Validated here, identified by name, number and content hash.

The schema (schemas/rule-set.schema.json) is the form; a value that is not built yet is refused by name, never ignored.
"""

import hashlib
import json
import tomllib
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from jsonschema import Draft202012Validator, ValidationError
from msgspec import Meta

from services.common.errors import ConfigError

MOST_SECONDS = 366 * 86_400
"""The longest limit: further back no rule set looks."""
ZONES = frozenset(available_timezones() - {"localtime", "Factory"})
"""What Python and Postgres both know; `localtime` is another one on every machine."""
When = Literal["spam", "blacklisted", "withdrawn", "trashed", "rejected", "buyer-closed", "mainland-china-buyer"]
Answer = Literal["human-reply", "platform-reply", "automatic-reply", "rejected", "declined", "spam-report"]


class Exclusion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An inquiry does not count when this was its fate, within so many seconds of its receipt."""

    when: When
    within_seconds: Annotated[int, Meta(ge=0, le=MOST_SECONDS)] | None = None


class SmallSample(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What becomes of a row that counts fewer than `min_counted` units.

    `hide`: its rate is empty. `widen`: its window begins so early that the last `min_counted` counted units of
    `max_days` days are in it, as far as there are any.
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
    target_seconds: Annotated[int, Meta(ge=1, le=MOST_SECONDS)]
    window_days: Annotated[int, Meta(ge=1, le=366)]
    settle_days: Annotated[int, Meta(ge=0, le=60)]
    max_settle_days: Annotated[int, Meta(ge=0, le=60)] = 14
    unit: Literal["each-inquiry", "first-per-buyer-day", "first-per-thread"]
    answered_by: Annotated[tuple[Answer, ...], Meta(min_length=1)]
    exclude: tuple[Exclusion, ...] = ()
    attribution: Literal["owner-at-receipt", "current-owner", "responder"]
    evidence: Literal["any", "verified"] = "any"
    unmeasured: Literal["separate", "unanswered"] = "separate"
    min_coverage: Annotated[float, Meta(ge=0, le=1)] = 0
    small_sample: Literal["show"] | SmallSample = "show"
    period_by: Literal["receipt", "deadline"] = "receipt"
    rounding: Literal["none", "down-1", "half-up-0"] = "none"
    average_over: Literal["answered", "fastest-80-percent"] = "answered"
    calendar: str = "always"

    @property
    def content_hash(self) -> str:
        """Hash of every parameter: two rule sets with one hash give the same numbers."""
        text = json.dumps(self.parameters(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def identity(self) -> str:
        """`1+3f2a…`: number and content hash; stands in every row that it produced."""
        return f"{self.version}+{self.content_hash}"

    @property
    def zone(self) -> ZoneInfo:
        """The zone whose days are counted."""
        return ZoneInfo(self.time_zone)

    @property
    def reach_days(self) -> int:
        """How many days before its own a row may look back: the window, or what it may be widened to."""
        sample = self.small_sample
        return max(self.window_days, (sample.max_days or 0) if isinstance(sample, SmallSample) else 0)

    def parameters(self) -> dict[str, Any]:
        """All parameters as plain JSON values."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built


def parse(text: str, origin: str) -> RuleSet:
    """A rule set from TOML. ConfigError that names `origin`, the key, its value and what is allowed."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: not TOML: {error}") from None
    problems = [f"{origin}: {_problem(error)}" for error in Draft202012Validator(schema()).iter_errors(data)]
    zone, sample = data.get("time_zone"), data.get("small_sample")
    if isinstance(zone, str) and zone not in ZONES:
        problems.append(f"{origin}: time_zone: {zone!r} is no IANA zone; write e.g. 'America/Los_Angeles'")
    if not problems and isinstance(sample, dict) and sample.get("max_days", 366) < data["window_days"]:
        problems.append(
            f"{origin}: small_sample.max_days: {sample['max_days']} is less than window_days; widen to more"
        )
    if problems:
        raise ConfigError(problems)
    try:
        return msgspec.convert(data, RuleSet)
    except msgspec.ValidationError as error:
        # 30.0 is an integer and nan a number to JSON Schema.
        raise ConfigError(f"{origin}: {error}; docs/rule-sets.md lists every key and its values") from None


@lru_cache(maxsize=64)
def stored(parameters: str) -> RuleSet:
    """A rule set from the parameters that a database holds, as JSON."""
    return msgspec.json.decode(parameters, type=RuleSet)


def _problem(error: ValidationError) -> str:
    """The key, its value and what is allowed, as one sentence."""
    if error.validator == "anyOf":
        forms = "'show', {mode = 'hide', min_counted = N} or {mode = 'widen', min_counted = N, max_days = M}"
        return f"{'.'.join(map(str, error.absolute_path))}: {error.instance!r} is none of {forms}"
    path = ".".join(map(str, error.absolute_path))
    return f"{path}: {error.message}" if path else f"{error.message}; docs/rule-sets.md lists every key"


@cache
def schema() -> dict[str, Any]:
    """schemas/rule-set.schema.json."""
    found: dict[str, Any] = json.loads(resources.files("schemas").joinpath("rule-set.schema.json").read_text("utf-8"))
    return found


def builtin_names() -> list[str]:
    """Names of the rule sets that come with replyrate."""
    folder = resources.files("services.aggregator.judge").joinpath("rule_sets")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_builtin(name: str) -> RuleSet:
    """A rule set that comes with replyrate. ConfigError with the names there are."""
    return load(name, None)


def names(folder: Path | None) -> list[str]:
    """Names of all rule sets: those that come with replyrate, and the files of an operator's folder."""
    return sorted({*builtin_names(), *(file.stem for file in folder.glob("*.toml"))} if folder else builtin_names())


def load(name: str, folder: Path | None) -> RuleSet:
    """A rule set by name, from replyrate or from an operator's folder. ConfigError that says what is wrong where."""
    own = folder / f"{name}.toml" if folder is not None else None
    if name in builtin_names():
        if own is not None and own.exists():
            raise ConfigError(f"{own}: replyrate has a rule set {name}; give yours another name")
        file = resources.files("services.aggregator.judge").joinpath("rule_sets", f"{name}.toml")
        return parse(file.read_text("utf-8"), f"{name}.toml")
    if own is None or name not in names(folder):
        raise ConfigError(f"there is no rule set {name}; choose of {', '.join(names(folder))}")
    return read(own)


def read(file: Path) -> RuleSet:
    """A rule set from a file of an operator; it must be called as the rule set is."""
    try:
        rule_set = parse(file.read_text("utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({type(error).__name__})") from None
    if rule_set.name != file.stem:
        raise ConfigError(f"{file}: name: {rule_set.name!r} is not the file's; call the file {rule_set.name}.toml")
    return rule_set


def check_horizon(rule_set: RuleSet, horizon_days: int) -> None:
    """ConfigError with the value to set when facts are kept for less time than the rule set looks back."""
    needed = rule_set.reach_days + rule_set.max_settle_days + 10
    if needed > horizon_days:
        raise ConfigError(
            f"rule set {rule_set.name} looks back further than facts are kept: set REPLYRATE_HORIZON_DAYS={needed} or more"
        )
