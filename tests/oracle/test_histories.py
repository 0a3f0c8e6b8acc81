"""The histories are valid and reproducible, and give every rule something to decide, often."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from services.recount import join as recount_join
from services.recount.facts import Inquiry, Json
from services.recount.instants import instant
from services.recount.join import joined
from services.recount.recount import judged, rule_set
from tests.oracle.histories import ANCHORS, DAY, KEY, History, history

ROOT = Path(__file__).parents[2]
RULES = {
    path.stem: rule_set(path)
    for folder in (ROOT / "services" / "aggregator" / "judge" / "rule_sets", Path(__file__).parent / "rule_sets")
    for path in sorted(folder.glob("*.toml"))
}
SEEDS = 300
OFTEN = 8

JoinedHistories = list[tuple[History, list[Inquiry]]]


@pytest.fixture(scope="module")
def joined_histories() -> JoinedHistories:
    """Histories and their join."""
    histories = [history(seed) for seed in range(SEEDS)]
    return [(own, joined(own.inquiries, own.sent, KEY)) for own in histories]


def test_a_seed_always_gives_the_same_history() -> None:
    for seed in range(20):
        assert history(seed) == history(seed)
        assert history(seed) != history(seed + len(ANCHORS))


def validators() -> dict[str, Any]:
    """Event type → validator of its schema."""
    folder = ROOT / "schemas" / "events"
    documents = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    registry: Registry[Any] = Registry().with_resources(
        [(document["$id"], Resource.from_contents(document)) for document in documents.values()]
    )
    return {
        f"replyrate.{name.removesuffix('.schema.json')}": jsonschema.Draft202012Validator(document, registry=registry)
        for name, document in documents.items()
    }


def test_every_event_matches_its_schema() -> None:
    by_type = validators()
    seen = Counter[str]()
    for seed in range(100):
        own = history(seed)
        for event in [*own.inquiries, *own.sent]:
            by_type[event["type"]].validate(event)
            seen[event["type"]] += 1
            names = ("received_at", "at", "replied_at", "sent_at", "date_header")
            for name in names:
                if (text := event["data"].get(name)) is not None:
                    assert instant(text) - instant(event["time"]) <= DAY
        for line in own.coverage:
            assert set(line) == {
                "company_id", "account_id", "mailbox_id", "connected_at", "removed_at", "from", "through", "recorded_at",
            }  # fmt: skip
            if line["from"] is not None and line["through"] is not None:
                assert instant(line["from"]) <= instant(line["through"]) <= instant(line["recorded_at"]), line
    assert min(seen[f"replyrate.{name}.v1"] for name in ("inquiry-received", "message-sent", "reply-recorded")) > 200
    assert seen["replyrate.company-erased.v1"] > 5


def census(rule: Json, joined_histories: JoinedHistories) -> Counter[str]:
    """Counts of each verdict, and of the cases each rule decides."""
    seen = Counter[str]()
    for own, inquiries in joined_histories:
        for judgement in own.judgements:
            coverage = own.coverage if judgement.covered else None
            noticed = Counter[str]()
            recounted = judged(inquiries, coverage, rule, judgement.as_of, noticed)
            seen.update(noticed)
            for line in recounted["inquiry_outcomes"]:
                seen[line["outcome"]] += 1
                seen[f"{line['outcome']} {line['state']}"] += 1
                seen.update(
                    f"{name} {line[name]}"
                    for name in ("reason", "matched_by", "reply_source", "evidence")
                    if line[name]
                )
            for line in recounted["reply_rate"]:
                seen[f"row {line['state']}"] += 1
                seen["rate" if line["rate"] is not None else "no rate"] += 1
                seen["row with 0 inquiries"] += line["inquiries"] == 0
    return seen


def expected(rule: Json) -> set[str]:
    """JoinedHistories that must occur often under this rule set."""
    answered_by = set(rule["answered_by"])
    names = {
        "timely", "late", "unanswered", "pending", "row final", "row provisional", "rate", "no rate", "row with 0 inquiries",
        "timely final", "timely provisional", "late final", "late provisional", "unanswered final", "unanswered provisional",
        "reply_source mail", "matched_by in-reply-to", "matched_by references", "matched_by relay-address",
        "matched_by buyer-address", "evidence verified", "evidence backfill", "evidence suspect", "answer before the start",
        "answer at -300 s +0 µs", "answer at -300 s +1 µs", "answer at start +0 µs", "answer at start -1 µs",
        "reply 300 s before the start", "judged at the deadline",
        "answer at target +0 µs", "answer at target -1 µs", "answer at target +1 µs",
        "tie by reply_id", "tie by account_id", "tie by mailbox_id", "tie by kind_reason", "tie by evidence",
        "covered by platform sync", "platform sync ended", "coverage by one mailbox: True", "coverage by one mailbox: False",
        "coverage by mailboxes: True", "coverage by mailboxes: False", "one of several mailboxes does not cover",
        "coverage without a mailbox in charge: True", "coverage without a mailbox in charge: False",
        "coverage rows of one instant", "spam more than once", "spam and spam-undone of one instant",
    }  # fmt: skip
    if rule["max_settle_days"] == 0:
        names.remove("row provisional")
    names |= {f"reason {entry['when']}" for entry in rule["exclude"]}
    if rule["exclude"]:
        names |= {"excluded", "excluded final", "excluded provisional"}
    if any("within_seconds" in entry for entry in rule["exclude"]):
        names |= {f"within_seconds {apart} µs" for apart in ("-1", "+0", "+1")}
    if len(rule["exclude"]) > 1:
        names.add("several reasons")
    if any(entry["when"] == "spam" and "within_seconds" in entry for entry in rule["exclude"]):
        names.add("an earlier spam inside the limit changes nothing")
    if rule["unit"] != "each-inquiry":
        names |= {"merged", "merged final", "merged provisional", "first members of one instant"}
    if rule["unmeasured"] == "separate":
        names |= {"unmeasured", "unmeasured final", "unmeasured provisional"}
    if rule["min_coverage"]:
        names.add("under min_coverage")
    if rule["attribution"] == "current-owner":
        names |= {"reassigned more than once", "reassigned twice in one instant"}
    if "automatic-reply" not in answered_by:
        names.add("reason only-automatic-replies")
    if "platform-reply" in answered_by:
        names |= {"reply_source platform", "matched_by platform", "tie by source"}
    if answered_by & {"rejected", "declined", "spam-report"}:
        names |= {"reply_source status"}
    if answered_by & {"human-reply", "automatic-reply"}:
        names.add("mail of the buyer")
    if rule["answer_to"] == "buyer-or-relay":
        names.add("mail to somebody else")
    if rule["reach_back_days"] < 300:
        names.add("coverage beyond the reach of a connection")
        # A mailbox that was connected after the deadline reaches back that far only without a limit.
        names.remove("coverage without a mailbox in charge: True")
        names |= (
            {"mail beyond the reach of a connection"} if answered_by & {"human-reply", "automatic-reply"} else set()
        )
    if rule["evidence"] == "verified":
        names.add("in time without evidence")
    if rule["small_sample"] != "show":
        if rule["small_sample"]["mode"] == "hide":
            names.add("hidden")
        elif rule["small_sample"]["max_days"] > rule["window_days"]:
            names |= {"widened", "widened, the window stays", "widened, more on the first day"}
        else:
            names.add("widened, the window stays")
    return names


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_something_to_decide(name: str, joined_histories: JoinedHistories) -> None:
    seen = census(RULES[name], joined_histories)
    seldom = {what: seen[what] for what in sorted(expected(RULES[name])) if seen[what] < OFTEN}
    assert seldom == {}


def test_old_mail_is_often_left_out(joined_histories: JoinedHistories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recount_join, "WEEK", 10_000 * DAY)
    without_rule = [joined(own.inquiries, own.sent, KEY, bounded=False) for own, _ in joined_histories]
    monkeypatch.undo()
    left_out = 0
    for (own, _), inquiries in zip(joined_histories, without_rule, strict=True):
        for with_rule, inquiry in zip(joined(own.inquiries, own.sent, KEY, bounded=False), inquiries, strict=True):
            removed = inquiry.replies - with_rule.replies
            assert with_rule.replies <= inquiry.replies
            assert all(reply.matched_by == "buyer-address" for reply in removed)
            left_out += bool(removed)
    assert left_out > SEEDS // 10


def test_the_bounds_of_the_contract_change_nothing(joined_histories: JoinedHistories) -> None:
    cut = 0
    for own, bounded in joined_histories:
        unbounded = joined(own.inquiries, own.sent, KEY, bounded=False)
        cut += bounded != unbounded
        for rule in RULES.values():
            for judgement in own.judgements:
                coverage = own.coverage if judgement.covered else None
                assert judged(bounded, coverage, rule, judgement.as_of) == judged(
                    unbounded, coverage, rule, judgement.as_of
                )
    assert cut > SEEDS // 20


def table() -> str:
    """How often each verdict occurs, a column per rule set, for people."""
    histories = [history(seed) for seed in range(SEEDS)]
    joined_histories = [(own, joined(own.inquiries, own.sent, KEY)) for own in histories]
    counts = {name: census(rule, joined_histories) for name, rule in RULES.items()}
    width = max(len(what) for seen in counts.values() for what in seen)
    lines = [" " * width + "".join(f"{name[:12]:>13}" for name in counts)]
    for what in sorted({what for seen in counts.values() for what in seen}):
        lines.append(what.ljust(width) + "".join(f"{seen[what]:>13}" for seen in counts.values()))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
