"""Rule sets: what a reply rate means, as data. Validated here, identified by name, number and content hash.

Every parameter of docs/rules.md is known; a value that is not built yet is refused by name, never ignored.
"""

import hashlib
import json
import tomllib
from importlib import resources
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

from services.common.errors import ConfigError

When = Literal["spam", "blacklisted", "withdrawn", "trashed", "rejected", "buyer-closed", "mainland-china-buyer"]
Answer = Literal["human-reply", "platform-reply", "automatic-reply", "rejected", "declined", "spam-report"]


class Exclusion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An inquiry does not count when this was its fate, within so many seconds of its receipt."""

    when: When
    within_seconds: Annotated[int, Meta(ge=0)] | None = None


class SmallSample(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What becomes of a row that counts fewer than `min_counted` units.

    `hide`: its rate is empty. `widen`: its window begins so early that the last `min_counted` counted units of
    `max_days` days are in it, as far as there are any.
    """

    mode: Literal["hide", "widen"]
    min_counted: Annotated[int, Meta(ge=1)]
    max_days: Annotated[int, Meta(ge=1, le=366)] | None = None


class RuleSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All parameters of one rule set. Durations are seconds or local days."""

    name: Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{0,62}$")]
    version: Annotated[int, Meta(ge=1)]
    title: Annotated[str, Meta(min_length=1)]
    source: Annotated[str, Meta(min_length=1)]
    time_zone: str
    target_seconds: Annotated[int, Meta(ge=1)]
    window_days: Annotated[int, Meta(ge=1, le=366)]
    settle_days: Annotated[int, Meta(ge=0, le=60)]
    max_settle_days: Annotated[int, Meta(ge=0, le=60)] = 14
    unit: Literal["each-inquiry", "first-per-buyer-day", "first-per-thread"]
    answered_by: tuple[Answer, ...]
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


BUILT: Final[dict[str, tuple[Any, ...]]] = {"calendar": ("always",)}
"""Values that are computed today, of the parameters that know more."""


def parse(text: str, origin: str) -> RuleSet:
    """A rule set from TOML. ConfigError that names `origin`, the key and what is allowed."""
    try:
        rule_set = msgspec.convert(tomllib.loads(text), RuleSet)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {error}; docs/rules.md lists every key and value") from None
    problems = [
        f"{origin}: {name} = {getattr(rule_set, name)!r} is not built yet; use one of {', '.join(map(repr, values))}"
        for name, values in BUILT.items()
        if getattr(rule_set, name) not in values
    ]
    try:
        ZoneInfo(rule_set.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        problems.append(
            f"{origin}: time_zone = {rule_set.time_zone!r} is no IANA zone; write e.g. 'America/Los_Angeles'"
        )
    sample = rule_set.small_sample
    if isinstance(sample, SmallSample) and sample.mode == "widen" and (sample.max_days or 0) < rule_set.window_days:
        problems.append(f"{origin}: small_sample.max_days must be given and not less than window_days, to widen to")
    if isinstance(sample, SmallSample) and sample.mode == "hide" and sample.max_days is not None:
        problems.append(f"{origin}: small_sample.max_days belongs to mode = 'widen'; leave it out to hide")
    if problems:
        raise ConfigError(problems)
    return rule_set


def builtin_names() -> list[str]:
    """Names of the rule sets that come with replyrate."""
    folder = resources.files("services.aggregator").joinpath("rule_sets")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_builtin(name: str) -> RuleSet:
    """A rule set that comes with replyrate. ConfigError with the names there are."""
    if name not in builtin_names():
        raise ConfigError(
            f"there is no rule set {name}; REPLYRATE_AGGREGATOR__RULE_SETS may name: {', '.join(builtin_names())}"
        )
    file = resources.files("services.aggregator").joinpath("rule_sets", f"{name}.toml")
    return parse(file.read_text("utf-8"), f"{name}.toml")


def check_horizon(rule_set: RuleSet, horizon_days: int) -> None:
    """ConfigError with the value to set when facts are kept for less time than the rule set looks back."""
    needed = rule_set.reach_days + rule_set.max_settle_days + 10
    if needed > horizon_days:
        raise ConfigError(
            f"rule set {rule_set.name} looks back further than facts are kept: set REPLYRATE_HORIZON_DAYS={needed} or more"
        )
