"""Random rule sets: parameters are drawn, so that every combination occurs."""

from random import Random

from services.recount.facts import Json
from services.recount.recount import DEFAULTS

ZONES = (
    "America/Los_Angeles",
    "UTC",
    "America/Havana",
    "Asia/Kathmandu",
    "Asia/Shanghai",
    "Australia/Lord_Howe",
    "Pacific/Apia",
)
ANSWERS = ("human-reply", "platform-reply", "automatic-reply", "rejected", "declined", "spam-report")
REASONS = ("spam", "blacklisted", "withdrawn", "trashed", "rejected", "buyer-closed", "mainland-china-buyer")


def drawn(seed: int) -> Json:
    """The complete rule set of a seed."""
    chance = Random(f"rule set {seed}")
    window_days = chance.choice([1, 5, 7, 20, 30, 90])
    widen = {
        "mode": "widen",
        "min_counted": chance.choice([1, 3, 10]),
        "max_days": window_days + chance.choice([0, 1, 10, 60]),
    }
    exclude: list[Json] = []
    for when in chance.sample(REASONS, chance.choice([0, 1, 2, 4])):
        entry: Json = {"when": when}
        if when != "mainland-china-buyer" and chance.random() < 0.7:
            entry["within_seconds"] = chance.choice([0, 3600, 86400, 259200])
        exclude.append(entry)
    return DEFAULTS | {
        "name": f"drawn-{seed}",
        "version": 1,
        "title": "Drawn",
        "source": "Made for tests",
        "time_zone": chance.choice(ZONES),
        "target_seconds": chance.choice([3600, 86400, 86400, 90000]),
        "window_days": window_days,
        "settle_days": chance.choice([0, 1, 2, 3, 5, 7]),
        "max_settle_days": chance.choice([0, 5, 14]),
        "unit": chance.choice(["each-inquiry", "first-per-buyer-day", "first-per-thread"]),
        "answered_by": chance.sample(ANSWERS, chance.choice([1, 2, 3, 4, 6])),
        "exclude": exclude,
        "attribution": chance.choice(["owner-at-receipt", "current-owner", "responder"]),
        "evidence": chance.choice(["any", "verified"]),
        "answer_to": chance.choice(["anyone", "buyer-or-relay"]),
        "reach_back_days": chance.choice([3660, 3660, 0, 2, 10, 40]),
        "unmeasured": chance.choice(["separate", "unanswered"]),
        "min_coverage": chance.choice([0, 0.25, 0.5, 0.7, 1]),
        "small_sample": chance.choice(["show", {"mode": "hide", "min_counted": chance.choice([1, 2, 5])}, widen]),
        "period_by": chance.choice(["receipt", "deadline"]),
        "rounding": chance.choice(["none", "down-1", "half-up-0"]),
        "average_over": chance.choice(["answered", "fastest-80-percent"]),
    }


def toml(value: object) -> str:
    """A rule set, or a value of one, as TOML."""
    match value:
        case bool():
            raise TypeError("rule sets have no switches")
        case str():
            return f'"{value}"'
        case list():
            return f"[{', '.join(toml(part) for part in value)}]"
        case dict():
            return f"{{ {', '.join(f'{name} = {toml(part)}' for name, part in value.items())} }}"
    return str(value)


def file_text(rules: Json) -> str:
    """A rule set as the text of NAME.toml."""
    return "".join(f"{name} = {toml(value)}\n" for name, value in rules.items())
