"""`replyrate replay`: equal facts give equal bytes in any order, with copies, from any source; bad lines affect nothing else."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kafka.admin import KafkaAdminClient

from services.cli.__main__ import main
from services.common.topics import INQUIRIES, SENT
from tests.oracle.histories import ANCHORS, KEY, anchor_of, history, lines
from tests.support.topics import create_topics, kafka_settings, publish

HISTORIES = [history(seed) for seed in range(24) if anchor_of(seed) == 0]
AS_OF = next(judgement.as_of for judgement in ANCHORS[0] if judgement.covered)
RULES = ("--rules", "default", "first-reply-24h", "etsy")


@pytest.fixture
def dump(tmp_path: Path) -> Any:
    """Writes the histories as three files, the lines of topics as `arranged` returns them; returns the options."""

    def write(arranged: Any = lambda rows: rows, extra: str = "") -> list[str]:
        parts = {
            "inquiries": lines([event for each in HISTORIES for event in each.inquiries]),
            "sent": lines([event for each in HISTORIES for event in each.sent]),
            "coverage": lines([line for each in HISTORIES for line in each.coverage]),
        }
        options = []
        for name, text in parts.items():
            rows = text.splitlines()
            if name != "coverage":
                rows = arranged(rows)
            (tmp_path / name).write_text("\n".join(rows) + "\n" + extra, "utf-8")
            options += [f"--{name}", str(tmp_path / name)]
        (tmp_path / "key").write_bytes(KEY)
        return [*options, "--hash-key-file", str(tmp_path / "key")]

    return write


def replay(*options: str, code: int = 0, env: dict[str, str] | None = None) -> Result:
    done = CliRunner().invoke(main, ["replay", *options], env={"COLUMNS": "200", **(env or {})})
    assert done.exit_code == code, (options, done.stdout, done.stderr, done.exception)
    return done


def test_shuffled_and_tripled_input_gives_the_same_bytes(dump: Any) -> None:
    first = replay(*dump(), *RULES, "--as-of", AS_OF, "--json").stdout
    result = json.loads(first)
    assert {rate["rule_set"] for rate in result["reply_rate"]} == {"default", "first-reply-24h", "etsy"}
    assert len({outcome["outcome"] for outcome in result["inquiry_outcomes"]}) == 7

    def tripled(rows: list[str]) -> list[str]:
        many = rows * 3
        random.Random(len(rows)).shuffle(many)
        return many

    assert replay(*dump(tripled), *RULES, "--as-of", AS_OF, "--json").stdout == first
    assert {outcome["revision"] for outcome in result["inquiry_outcomes"]} == {1}
    assert {outcome["changed_at"] for outcome in result["inquiry_outcomes"]} == {
        rate["computed_at"] for rate in result["reply_rate"]
    }


def test_topics_read_from_kafka_give_the_same_and_leave_no_group(
    dump: Any, topics_gone: str, dsn: str, tmp_path: Path
) -> None:
    options, before = dump(), groups(topics_gone)
    settings = kafka_settings(topics_gone)
    create_topics(settings)
    for topic, events in (
        (INQUIRIES, [event for each in HISTORIES for event in each.inquiries]),
        (SENT, [event for each in HISTORIES for event in each.sent]),
    ):
        publish(settings, topic, [(event["data"]["company_id"].encode(), line.encode()) for event, line in zip(events, lines(events).splitlines(), strict=True)])  # fmt: skip
    env = {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": topics_gone, "REPLYRATE_KAFKA__PARTITIONS": str(settings.partitions),
        "REPLYRATE_POSTGRES__DSN": dsn, "REPLYRATE_HASH_KEY_FILE": str(tmp_path / "key"),
    }  # fmt: skip
    coverage = options[options.index("--coverage") : options.index("--coverage") + 2]
    live = replay("--from-kafka", *coverage, *RULES, "--as-of", AS_OF, "--json", env=env).stdout
    assert live == replay(*options, *RULES, "--as-of", AS_OF, "--json").stdout
    assert groups(topics_gone) <= before


def groups(bootstrap_servers: str) -> set[str]:
    """The consumer groups of the broker; groups of another test may still be disappearing."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        return {group["group_id"] for group in admin.list_groups()}
    finally:
        admin.close()


def test_bad_lines_are_reported_with_their_numbers_and_affect_nothing_else(dump: Any) -> None:
    good = replay(*dump(), *RULES, "--as-of", AS_OF, "--json")
    assert good.stderr == ""
    bad = replay(*dump(extra='\nnonsense\n{"specversion": "1.0"}\n'), *RULES, "--as-of", AS_OF, "--json")
    assert bad.stdout == good.stdout
    messages = bad.stderr.splitlines()
    assert len(messages) == 6
    count = sum(len(history.inquiries) for history in HISTORIES)
    assert messages[0].startswith(f"inquiries line {count + 2}: left out: ") and messages[0].endswith("(not-json)")
    assert messages[1].startswith(f"inquiries line {count + 3}: left out: ") and "(schema)" in messages[1]
    assert any(line.startswith("coverage line ") and "company_id" in line for line in messages)


def test_without_coverage_everything_counts_as_covered_and_is_final(dump: Any) -> None:
    options = dump()
    at = options.index("--coverage")
    result = json.loads(replay(*options[:at], *options[at + 2 :], *RULES, "--as-of", AS_OF, "--json").stdout)
    assert {record["state"] for name in result for record in result[name]} == {"final"}
    assert all(rate["unmeasured"] == 0 and rate["coverage"] in (None, 1) for rate in result["reply_rate"])
    assert "final" in replay(*options[:at], *options[at + 2 :], "--rules", "default", "--as-of", AS_OF).stdout


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (["--as-of", "yesterday"], 2, "write 2026-11-20 or 2026-11-20T08:00:00Z"),
        (["--as-of", "2026-11-20T08:00:00"], 2, "is neither a day nor an instant"),
        (["--rules", "no-such"], 78, "there is no rule set no-such; choose one of"),
        (["--rules", "missing.toml"], 78, "cannot be read"),
        (["--from-kafka"], 2, "give --inquiries FILE and --sent FILE, or --from-kafka"),
        (["--hash-key-file", "pyproject.toml"], 78, "the hash key of an installation has 32"),
    ],
)
def test_wrong_options_say_what_to_write(dump: Any, change: list[str], code: int, says: str) -> None:
    done = replay(*dump(), *RULES, "--as-of", AS_OF, *change, code=code)
    assert says in " ".join(done.stderr.replace("│", " ").split())


def test_a_rule_set_can_be_tried_from_a_file(dump: Any, tmp_path: Path) -> None:
    own = tmp_path / "strict.toml"
    text = Path("services/aggregator/judge/rule_sets/default.toml").read_text("utf-8")
    own.write_text(
        text.replace('"default"', '"strict"').replace("target_seconds = 86400", "target_seconds = 60"), "utf-8"
    )
    result = json.loads(replay(*dump(), "--rules", "default", str(own), "--as-of", AS_OF, "--json").stdout)
    timely = {
        name: sum(
            rate["timely"] for rate in result["reply_rate"] if rate["rule_set"] == name and rate["level"] == "company"
        )
        for name in ("default", "strict")
    }
    assert timely["strict"] < timely["default"]
