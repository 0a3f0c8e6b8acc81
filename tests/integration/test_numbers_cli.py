"""The commands about numbers: rate, explain, rules diff, recompute, for people and exactly with --json."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.aggregator.judge import rules
from services.aggregator.refresh import recompute
from services.aggregator.refresh.refresh import Refresher
from services.common import codec
from services.common.events import MessageSent
from services.common.postgres import connect
from services.standalone.servers.paths import ROOT
from tests.support.commands import run
from tests.support.rates import edit_rates

pytestmark = pytest.mark.pooled

__all__ = ["run"]

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OLD = NOW - 20 * DAY
"""Settled long ago by every rule set."""


@pytest.fixture
def shop(dsn: str) -> Iterator[psycopg.Connection]:
    """One seller with an inquiry for each outcome, judged by `default` and `first-reply-24h`."""
    with connect(dsn, "tests") as connection:
        connection.execute("INSERT INTO registry.companies VALUES ('shop')")
        for account in ("main", "desk"):
            connection.execute("INSERT INTO registry.accounts (company_id, account_id) VALUES ('shop', %s)", (account,))
        connection.execute(
            "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at, through_at)"
            " VALUES ('shop', 'main', 'm1', %s, %s, %s)", (OLD - 30 * DAY, OLD - 30 * DAY, NOW),
        )  # fmt: skip
        asked(connection, "timely", OLD, "b1")
        asked(connection, "merged", OLD + 60 * timedelta(seconds=1), "b1")
        asked(connection, "late", OLD, "b2")
        asked(connection, "unanswered", OLD, "b3")
        asked(connection, "spam", OLD, "b4")
        asked(connection, "unmeasured", OLD, "b5", "desk")
        # Received today even in the first hour of the day: yesterday is in the window of some rule sets and not of others.
        asked(connection, "pending", max(NOW - HOUR, NOW.replace(hour=0, minute=0, second=0, microsecond=0)), "b6")
        replied(connection, "timely", "r1", OLD + 2 * HOUR)
        replied(connection, "timely", "r1", OLD + 2 * HOUR, matched_by="buyer-address")
        replied(connection, "timely", "r0", OLD + HOUR, kind="automatic", reason="auto-submitted")
        replied(connection, "timely", "r9", OLD - HOUR)
        replied(connection, "timely", "r5", OLD + 5 * HOUR, evidence="suspect")
        replied(connection, "late", "r2", OLD + 30 * HOUR, evidence="suspect")
        replied(connection, "unanswered", "r3", OLD + HOUR, kind="automatic", reason="subject")
        replied(connection, "unanswered", "r4", OLD + HOUR, kind="bulk", reason="list")
        connection.execute(
            "INSERT INTO ledger.statuses (company_id, inquiry_id, status, at) VALUES ('shop', 'spam', 'spam', %s)",
            (OLD + HOUR,),
        )
        connection.execute("INSERT INTO ledger.companies (company_id) VALUES ('shop')")
        refresher = Refresher(connection, [rules.load_builtin("default"), rules.load_builtin("first-reply-24h")])
        refresher.activate()
        while refresher.refresh():
            pass
        yield connection


def asked(connection: psycopg.Connection, inquiry_id: str, at: datetime, buyer: str, account: str = "main") -> None:
    connection.execute(
        "INSERT INTO ledger.inquiries (company_id, inquiry_id, account_id, received_at, facts_id, buyer_id)"
        " VALUES ('shop', %s, %s, %s, 'f', %s)", (inquiry_id, account, at, buyer),
    )  # fmt: skip


def replied(
    connection: psycopg.Connection, inquiry_id: str, reply_id: str, at: datetime, *, kind: str = "human",
    evidence: str = "verified", matched_by: str = "in-reply-to", reason: str = "",
) -> None:  # fmt: skip
    connection.execute(
        "INSERT INTO ledger.replies (company_id, inquiry_id, reply_id, source, account_id, mailbox_id, replied_at, evidence,"
        " kind, kind_reason, matched_by) VALUES ('shop', %s, %s, 'mail', 'main', 'm1', %s, %s, %s, %s, %s)",
        (inquiry_id, reply_id, at, evidence, kind, reason, matched_by),
    )


def story(run: Any, inquiry_id: str, rule_set: str = "default", code: int = 0) -> dict[str, Any]:
    (explanation,) = json.loads(run("explain", "shop", inquiry_id, "--rules", rule_set, "--json", code=code).stdout)
    assert isinstance(explanation, dict)
    return explanation


def verdicts(explanation: dict[str, Any]) -> list[tuple[str, str]]:
    return [(reply["reply_id"], reply["verdict"]) for reply in explanation["considered"]]


def test_explain_gives_a_verdict_on_each_reply(run: Any, shop: psycopg.Connection) -> None:
    explanation = story(run, "timely")
    assert (explanation["outcome"], explanation["state"], explanation["account_id"]) == ("timely", "final", "main")
    assert verdicts(explanation) == [
        ("r9", "before-the-inquiry"), ("r0", "automatic"), ("r1", "answer"), ("r1", "answer"), ("r5", "later"),
    ]  # fmt: skip
    unit = explanation["unit"]
    assert (unit["reply_id"], unit["matched_by"], unit["mailbox_id"]) == ("r1", "in-reply-to", "m1")
    assert unit["members"] == ["timely", "merged"] and unit["reply_seconds"] == 7200
    assert datetime.fromisoformat(unit["due_at"]) == OLD + DAY
    assert explanation["parameters"]["target_seconds"] == 86400
    assert [version["revision"] for version in explanation["history"]] == [1]
    printed = run("explain", "shop", "timely", "--rules", "default").stdout
    assert "Answered in time: 2 h after it was received; the target is 24 h." in printed
    assert "an automatic reply" in printed and "its Auto-Submitted header says so" in printed
    assert "sent before the inquiry" in printed and "In-Reply-To" in printed


@pytest.mark.parametrize(
    ("inquiry_id", "outcome", "says"),
    [
        ("late", "late", "Answered late: 30 h after it was received"),
        ("unanswered", "unanswered", "all were automatic"),
        ("spam", "excluded", "it was reported as spam within 24 h of its receipt"),
        ("merged", "merged", "Counted together with inquiry timely"),
        ("unmeasured", "unmeasured", "the account's mailboxes were not completely read"),
        ("pending", "pending", "Open: an answer is in time until"),
        ("nothing", "unknown", "This inquiry is not known"),
    ],
)
def test_every_outcome_is_explained_in_both_languages(
    run: Any, shop: psycopg.Connection, inquiry_id: str, outcome: str, says: str
) -> None:
    code = 1 if outcome == "unknown" else 0
    explanation = story(run, inquiry_id, code=code)
    shown = shop.execute(
        "SELECT outcome, reason, state FROM report_v1.inquiry_outcomes WHERE rule_set = 'default' AND inquiry_id = %s",
        (inquiry_id,),
    ).fetchone()
    assert explanation["outcome"] == outcome
    if outcome != "unknown":
        reason = explanation["excluded_by"] or explanation["reason"] if outcome != "merged" else None
        assert shown == (outcome, reason, explanation["state"])
    # With a newsletter beside the automatic reply the reason is not `only-automatic-replies`.
    if inquiry_id == "unanswered":
        says = "Not answered: no reply that counts was sent"
    assert says in run("explain", "shop", inquiry_id, "--rules", "default", code=code).stdout
    chinese = run("explain", "shop", inquiry_id, "--rules", "default", "--lang", "zh", code=code).stdout
    assert chinese.splitlines()[2:] and re.search("[\u4e00-\u9fff]", chinese)
    assert [len(explanation["sentences"][language]) > 0 for language in ("en", "zh")] == [True, True]


def test_without_a_name_every_active_rule_set_is_explained(run: Any, shop: psycopg.Connection) -> None:
    explanations = json.loads(run("explain", "shop", "merged", "--json").stdout)
    assert [(explanation["rule_set"], explanation["outcome"]) for explanation in explanations] == [
        ("default", "merged"),
        ("first-reply-24h", "unanswered"),
    ]
    assert story(run, "late", "etsy")["outcome"] == "late"
    assert "choose one of" in " ".join(run("explain", "shop", "late", "--rules", "none", code=78).stderr.split())


def test_explain_says_when_a_time_is_not_trusted(run: Any, shop: psycopg.Connection, tmp_path: Path) -> None:
    replied(shop, "unanswered", "r6", OLD + 3 * HOUR, evidence="suspect")
    file = tmp_path / "strict.toml"
    text = (ROOT / "services" / "aggregator" / "judge" / "rule_sets" / "default.toml").read_text("utf-8")
    file.write_text(text.replace('"default"', '"strict"').replace('evidence = "any"', 'evidence = "verified"'), "utf-8")
    recompute.activate(shop, rules.read(file))
    refresher = Refresher(shop, [])
    while refresher.refresh():
        pass
    explanation = story(run, "unanswered", "strict")
    assert (explanation["outcome"], explanation["unit"]["reply_seconds"]) == ("late", 3 * 3600)
    assert ("r6", "unverified-answer") in verdicts(explanation)
    assert "the time of that mail cannot be trusted" in run("explain", "shop", "unanswered", "--rules", "strict").stdout


def test_explain_names_the_time_basis_of_a_mail_while_its_record_is_kept(run: Any, shop: psycopg.Connection) -> None:
    shop.execute(
        "INSERT INTO registry.mailboxes (company_id, mailbox_id, account_id, role, address_masked, address_hash, host, port,"
        " login_hash, consent_by, consent_at, consent_text_version) VALUES ('shop', 'm1', 'main', 'registered', 'x', 'x', 'x',"
        " 993, 'x', 'x', now(), '1')"
    )
    sent = MessageSent(
        company_id="shop", account_id="main", mailbox_id="m1", message_id="0" * 32, sent_at=OLD + HOUR, sent_at_basis="save-date",
        evidence="suspect", kind="human", date_header=OLD, save_date=OLD + HOUR,
    )  # fmt: skip
    replied(shop, "late", "0" * 32, OLD + HOUR, evidence="suspect")
    shop.execute(
        "INSERT INTO registry.published (company_id, mailbox_id, message_id, sent_at, record) VALUES ('shop', 'm1', %s, %s, %s)",
        ("0" * 32, OLD + HOUR, codec.encode(sent, id="0" * 32, source="replyrate/fetcher/m1", time=OLD + HOUR)),
    )
    explanation = story(run, "late")
    (clock,) = [reply["clock"] for reply in explanation["facts"]["replies"] if reply["clock"]]
    assert clock["basis"] == "save-date" and datetime.fromisoformat(clock["date_header"]) == OLD
    assert "time when the server filed it (SAVEDATE)" in run("explain", "shop", "late", "--rules", "default").stdout
    # The explanation is computed now; the shown outcome follows with the next refresh.
    assert explanation["outcome"] == "timely" and explanation["history"][-1]["outcome"] == "late"


def test_rate_prints_a_table_json_and_csv(run: Any, shop: psycopg.Connection) -> None:
    shown = run("rate", "shop", "--rules", "default").stdout
    assert "1/1/1/1" in shown and "66.7 %" not in shown and "33.3 %" in shown
    assert "completely read for only 0.0 % of the inquiries" in shown and "Not measured is not 0" in shown
    assert re.search("[▁▂▃▄▅▆▇█·]{30}", shown) and re.search(r"1-2 h +1 █", shown)
    rates = json.loads(run("rate", "shop", "--rules", "default", "--json").stdout)
    company, desk, main = rates
    assert [rate["account_id"] for rate in rates] == [None, "desk", "main"]
    assert (company["timely"], company["excluded"], desk["rate"], main["rate"]) == (1, 1, None, 1 / 3)
    assert len(company["trend"]) == 30 and company["trend"][-1] == company["rate"]
    assert (sum(company["histogram"]), company["histogram"][1], company["histogram"][24]) == (2, 1, 1)
    day = (NOW - 2 * DAY).date()
    csv = run("rate", "shop", "--csv", "--as-of", day, "--rules", "first-reply-24h").stdout.splitlines()
    assert csv[0].startswith("rule_set,rule_version,level,company_id") and len(csv) == 4
    chinese = run("rate", "shop", "--lang", "zh").stdout
    assert "未能统计不等于 0" in chinese
    assert "choose one" in run("rate", "--csv", "--json", code=2).stderr
    assert "Publish inquiries" in run("rate", "nobody", code=1).stderr
    assert "The rule set nope is not active" in run("rate", "shop", "--rules", "nope", code=1).stderr


def test_rule_sets_are_compared_and_recomputed(run: Any, shop: psycopg.Connection) -> None:
    difference = json.loads(run("rules", "diff", "default", "amazon", "--json").stdout)
    (company,) = difference["companies"]
    differ = {inquiry["inquiry_id"]: (inquiry["outcome_a"], inquiry["outcome_b"]) for inquiry in company["inquiries"]}
    assert differ == {
        "merged": ("merged", "unanswered"), "spam": ("excluded", "unanswered"), "unmeasured": ("unmeasured", "unanswered"),
    }  # fmt: skip
    assert (company["counted_a"], company["counted_b"]) == (3, 6)
    assert [account["account_id"] for account in company["accounts"]] == ["desk", "main"]
    # The same outcomes in other windows are a difference as well.
    difference = json.loads(run("rules", "diff", "first-reply-24h", "amazon", "--json").stdout)
    assert {
        inquiry["inquiry_id"]: (inquiry["in_window_a"], inquiry["in_window_b"])
        for inquiry in difference["companies"][0]["inquiries"]
    } == {
        "pending": (True, False),
        "unmeasured": (True, True),
    }
    assert "spam" in run("rules", "diff", "default", "amazon", "--company", "shop").stdout
    assert "the company x is not known" in run("rules", "diff", "default", "amazon", "--company", "x", code=1).stderr
    assert shop.execute("SELECT count(*) FROM report_v1.reply_rate WHERE rule_set = 'amazon'").fetchone() == (0,)
    edit_rates(shop, "late = 40", "rule_set = 'default' AND level = 'company'")
    done = json.loads(run("recompute", "--rules", "default", "--json").stdout)
    assert (done["rule_set"], done["companies"]) == ("default", 1) and done["corrections"] > 0
    assert shop.execute("SELECT max(late) FROM report_v1.reply_rate").fetchone() == (1,)
    assert "replyrate rules activate amazon" in run("recompute", "--rules", "amazon", code=1).stderr
    assert "becomes active" in run("rules", "activate", "amazon").stderr
    assert "0 of 1 companies" in run("rules", "list").stdout
    assert "has ended" in run("rules", "cancel", "amazon").stderr
    assert "companies" not in run("rules", "list").stdout
    assert "Nothing is being computed" in run("rules", "cancel", "amazon", code=1).stderr
    assert "compute all of it" not in run("recompute", "--rules", "default", "--from", "2026-03-01").stderr
    assert "is before --from" in run(
        "recompute", "--rules", "default", "--from", "2026-03-02", "--to", "2026-03-01", code=1
    ).stderr  # fmt: skip


def test_support_needs_no_more_than_the_role_of_the_aggregator(run: Any, shop: psycopg.Connection, dsn: str) -> None:
    """As docs/dashboards.md says: these commands work with that role, and the others name the missing privilege."""
    roles = {f"{role}_{dsn.rsplit('/', 1)[1]}": f"replyrate_{role}" for role in ("aggregator", "fetcher")}
    for name, role in roles.items():
        shop.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x' IN ROLE {role}".encode())
    try:
        support, registrar = (re.sub(r"//[^@]*@", f"//{name}:x@", dsn) for name in roles)
        for command in (
            ("rate", "shop"), ("explain", "shop", "late"), ("rules", "list"), ("rules", "diff", "default", "amazon"),
            ("recompute", "--rules", "default"), ("doctor", "shop"),
        ):  # fmt: skip
            run(*command, dsn=support)
        refused = run("company", "add", "other", dsn=support, code=78).stderr
        assert "docs/dashboards.md lists the role that each command needs" in " ".join(refused.split())
        for command in (("company", "add", "other"), ("account", "add", "other", "main"), ("mailbox", "list", "other")):
            run(*command, dsn=registrar)
    finally:
        for name in roles:
            # The pooler keeps its sessions, and with them the temporary tables of a judgement.
            shop.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", (name,))
            shop.execute(f"DROP ROLE {name}".encode())
