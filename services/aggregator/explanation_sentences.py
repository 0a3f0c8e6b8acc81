"""The explanation of one inquiry (explain.py) in whole sentences, in English or Chinese."""

from typing import Any, Literal

from services.aggregator.texts import Texts
from services.common.display import utc_text

Reader = Literal["operator", "support", "seller"]
"""Who reads an explanation: somebody with the command line or an API key, staff in the console, or a seller; each asks the one before."""


def sentences(story: dict[str, Any], text: Texts, reader: Reader = "operator") -> list[str]:
    """The outcome of the inquiry and the reason, in whole sentences."""
    outcome = story["outcome"]
    if outcome == "unknown" and story["archived_at"] is not None:
        return [
            text("unknown", "archived", at=utc_text(story["archived_at"].replace(microsecond=0))),
            text("unknown", "archived-counts"),
            text("unknown", f"archived-{reader}", company=story["company_id"], inquiry=story["inquiry_id"]),
        ]
    if outcome == "unknown":
        received = [
            inquiry["received_at"] for inquiry in story["facts"]["inquiries"] if inquiry["received_at"] is not None
        ]
        if received:
            return [text("outcome", "unknown"), text("unknown", "later", at=utc_text(received[0]))]
        is_named = any(story["facts"][name] for name in ("statuses", "replies"))
        return [text("outcome", "unknown"), text("unknown", "facts" if is_named else "nothing")]
    if outcome == "excluded":
        limit = (story["exclusion"] or {}).get("within_seconds")
        within = "" if limit is None else text("excluded", "within", limit=text.duration(limit))
        why = text("excluded", story["excluded_by"], within=within)
        return [text("outcome", "excluded", why=why), text("state", story["state"])]
    unit = story["unit"]
    sentence = _outcome_sentence(story, unit["unit_outcome"], text)
    if outcome == "merged":
        kind = text("unit", story["parameters"]["unit"])
        sentence = text("outcome", "merged", first=unit["unit_inquiry_id"], unit=kind, whole=sentence)
    reasons = [text("reason", unit["unit_reason"])] if unit["unit_reason"] else []
    if story["reading_waits"] and unit["unit_outcome"] in ("unmeasured", "unanswered") and not unit["covered"]:
        reasons.append(text("reason", "reading-waits", counted=utc_text(story["counted_until"].replace(microsecond=0))))
    return [sentence, *reasons, text("state", story["state"])]


def _outcome_sentence(story: dict[str, Any], outcome: str, text: Texts) -> str:
    unit = story["unit"]
    # Late although the time of the answer is within the target: the rule set does not trust that time.
    in_time = outcome == "late" and unit["reply_seconds"] <= story["parameters"]["target_seconds"]
    unread = outcome == "unanswered" and not unit["covered"]
    # The deadline has passed, but messages sent before it may not have been counted yet.
    if outcome == "pending" and unit["due_at"] <= story["now"]:
        outcome = "pending-uncounted"
    code = "late-unverified" if in_time else "unanswered-unread" if unread else outcome
    return text(
        "outcome", code, taken=text.duration(unit["reply_seconds"]), target=text.duration(story["parameters"]["target_seconds"]),
        due=utc_text(unit["due_at"]), now=utc_text(story["now"].replace(microsecond=0)),
        counted=utc_text((story["counted_until"] or story["now"]).replace(microsecond=0)),
    )  # fmt: skip
