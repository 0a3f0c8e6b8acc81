"""Every figure of the panel against the independent recount, on seeds of the demo world and on the worlds of the doctor's tests.

`python -m tests.portal.recount` starts a database of its own, compares all of them, and prints the tables of docs/dev/testing.md.
Exit code 1: a figure differs.
"""

import argparse
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

import psycopg
from click.testing import CliRunner
from psycopg.types.json import Jsonb

from services.aggregator.doctor import diagnosis
from services.aggregator.judge import days, rules
from services.cli.__main__ import main as command_line
from services.common import migrations
from services.common.postgres import connect
from services.recount.company import (
    AskedInquiry,
    CompanyFacts,
    CompanyRecount,
    CoveredInterval,
    GivenReply,
    StatusMark,
)
from services.standalone.servers.postgres import EmbeddedPostgres, scratch_folder
from tests.doctor import evaluation
from tests.doctor.worlds import NOW, World, stored_rows, worlds
from tests.support.mailboxes import HOST
from tests.support.panel_recount import Expected, ExpectedMailbox, PanelComparison, Row
from tests.support.panel_world import READ_DAYS, PanelWorld, seed_world
from tests.support.portal_in_process import PortalInProcess, frame_tokens, portal_in_process
from tests.support.portal_lab import portal_login

SEEDS: Final = tuple(range(1, 13))
WHOLE: Final = 8
"""In every how many worlds of the doctor the command compares every page and file."""
DEFAULT: Final = rules.load_builtin("default")
CORRECTED: Final = (
    "window_start", "window_end", "inquiries", "excluded", "counted", "timely", "late", "unanswered", "unmeasured", "pending",
    "rate", "mean_seconds", "median_seconds", "p90_seconds", "p95_seconds", "rate_shown", "coverage", "state",
)  # fmt: skip
"""Columns of reply_rate whose changes are recorded."""
INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?")


@dataclass
class Compared:
    """What was compared, by page, and a sentence for each difference."""

    worlds: int = 0
    figures: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def add(self, comparison: PanelComparison) -> None:
        """What the panel of one account showed."""
        self.figures += comparison.figures
        self.differences += comparison.differences


@dataclass(frozen=True, slots=True)
class Reader:
    """The panel of an account as a frame gets it."""

    portal: PortalInProcess
    token: str

    def fetch(self, path: str, **query: Any) -> str:
        """The text of a page or a file."""
        answer = self.portal.get(path, self.token, **query) if query else self.portal.request(
            "GET", path, headers={"authorization": f"Bearer {self.token}"}
        )  # fmt: skip
        assert answer.status_code == 200, (path, query, answer.text)
        return answer.text


def compare_seed(owner: psycopg.Connection, dsn: str, portal: PortalInProcess, seed: int) -> Compared:
    """A demo world in an empty database: every page of every account, and the words of the two commands."""
    seeded = seed_world(owner, seed, ("default",), is_late=True)
    compared = Compared(worlds=1)
    accounts = [
        (company.company_id, account.account_id) for company in seeded.world.companies for account in company.accounts
    ]
    tokens = frame_tokens(dsn, accounts)
    for company in seeded.world.companies:
        expected = expected_of_seed(seeded, dsn, company.company_id, [a.account_id for a in company.accounts])
        for account in company.accounts:
            reader = Reader(portal, tokens[company.company_id, account.account_id])
            comparison = PanelComparison(reader.fetch, expected, account.account_id, account.kind == "main")
            scopes: list[str | None] = [account.account_id]
            if account.kind == "main":
                scopes = [None, *expected.accounts]
            for scope in scopes:
                comparison.pages(scope)
                comparison.exports(scope)
            compare_explanations(reader, comparison, dsn)
            compared.add(comparison)
    return compared


def expected_of_seed(seeded: PanelWorld, dsn: str, company_id: str, accounts: Sequence[str]) -> Expected:
    """What the panel of a company of a demo world must show."""
    recount = CompanyRecount(company_id, seeded.facts[company_id], DEFAULT.parameters())
    before = CompanyRecount(company_id, seeded.facts_before[company_id], DEFAULT.parameters())
    first = min(asked.received_at for asked in seeded.facts[company_id].asked)
    corrections = [
        correction
        for ago in range((seeded.now - first).days + 2)
        for correction in corrections_of(
            before, recount, days.local_day(seeded.now, DEFAULT) - timedelta(days=ago), seeded.now
        )
    ]
    return Expected(
        company_id, tuple(sorted(accounts)), DEFAULT, recount, seeded.now,
        {account_id: command_causes(dsn, company_id, account_id) for account_id in (None, *accounts)},
        corrections=tuple(corrections),
        mailboxes={account_id: planned_mailboxes(seeded, company_id, account_id) for account_id in accounts},
    )  # fmt: skip


def planned_mailboxes(seeded: PanelWorld, company_id: str, account_id: str) -> list[ExpectedMailbox]:
    """The connected mailboxes of an account of a demo world, all read without a gap (tests/support/panel_world.py)."""
    (company,) = [company for company in seeded.world.companies if company.company_id == company_id]
    since = seeded.now - timedelta(days=READ_DAYS)
    return [
        ExpectedMailbox(
            mailbox.key, masked(mailbox.address), mailbox.role, "active", HOST, since, seeded.now, (since, seeded.now)
        )
        for mailbox in sorted(company.mailboxes, key=lambda mailbox: mailbox.key)
        if mailbox.connected and mailbox.account_id == account_id
    ]


def corrections_of(before: CompanyRecount, after: CompanyRecount, day: date, now: datetime) -> list[Row]:
    """What a late fact changed in the final rows of a day, in the order of the page."""
    old_rates, new_rates = before.rates_then(day, now), after.rates_then(day, now)
    return [
        {
            "as_of": day.isoformat(), "account_id": account_id, "column_name": column, "old_value": old[column],
            "new_value": new_rates[account_id][column], "cause": "late-fact",
        }
        for account_id, old in sorted(old_rates.items(), key=lambda entry: entry[0] or "", reverse=True)
        if before.state(day, now) == "final"
        for column in sorted(CORRECTED, reverse=True)
        if old[column] != new_rates[account_id][column]
    ]  # fmt: skip


def command(dsn: str, *args: str) -> Any:
    """What a command prints as JSON."""
    with TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        key.write_bytes(bytes(32))
        environ = {
            "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "REPLYRATE_POSTGRES__DSN": dsn,
            "REPLYRATE_HASH_KEY_FILE": str(key), "REPLYRATE_VAULT_KEY_FILE": str(key),
        }  # fmt: skip
        done = CliRunner().invoke(command_line, [*args, "--json"], env=environ)
    assert done.stdout.startswith(("{", "[")), (args, done.output, done.exception)
    return json.loads(done.stdout)


def command_causes(dsn: str, company_id: str, account_id: str | None) -> list[str]:
    """The causes of `replyrate doctor`, in its order."""
    account = [] if account_id is None else [account_id]
    (newest,) = command(dsn, "doctor", company_id, *account, "--rules", "default")["diagnoses"] or [{"findings": []}]
    return [finding["cause"] for finding in newest["findings"]]


def compare_explanations(reader: Reader, comparison: PanelComparison, dsn: str) -> None:
    """One inquiry of each outcome of the reader's account: its page has every sentence of `replyrate explain`, in both languages."""
    by_outcome: dict[str, str] = {}
    for inquiry_id, outcome in comparison.expected.recount.outcomes(comparison.expected.now).items():
        if outcome["account_id"] == comparison.own_account:
            by_outcome.setdefault(outcome["outcome"], inquiry_id)
    for inquiry_id in by_outcome.values():
        asked_at = datetime.now(UTC)
        (story,) = command(dsn, "explain", comparison.expected.company_id, inquiry_id, "--rules", "default")
        if {reply["account_id"] for reply in story["facts"]["replies"]} - {comparison.own_account}:
            continue  # mailboxes of other accounts have no name on the page
        for language in ("en", "zh"):
            html = reader.fetch("/panel/why", inquiry=inquiry_id, rules="default", lang=language)
            block = html[html.index('id="sentences"') :]
            shown = [unescape(text) for text in re.findall(r"<p>(.*?)</p>", block[: block.index("</div>")], re.DOTALL)]
            sentences = story["sentences"][language]
            comparison.figures["explanation"] += len(sentences)
            if [_timeless(text, asked_at) for text in shown] != [_timeless(text, asked_at) for text in sentences]:
                comparison.differences.append(
                    f"{comparison.expected.company_id} {inquiry_id}: {shown} is not {sentences}"
                )


def _timeless(sentence: str, since: datetime) -> str:
    """A sentence without instants since `since`: that of an open inquiry names the time of the explanation."""
    return INSTANT.sub(lambda at: "now" if at[0] >= f"{since:%Y-%m-%d %H:%M:%S}" else at[0], sentence)


def prepare_doctor(owner: psycopg.Connection, evaluated: Sequence[World]) -> None:
    """Record the causes of worlds that were evaluated, as the refresh loop does, and the rule sets as active.

    The views compare with the clock, the worlds end at NOW: only a world whose pipeline is stuck is late.
    """
    owner.execute("UPDATE ledger.companies SET due_at = NULL WHERE company_id <> ALL (%s)", [_stuck(evaluated)])
    loaded = [rules.load_builtin(name) for name in sorted({name for world in evaluated for name in world.rule_sets})]
    for rule_set in loaded:
        owner.execute(
            "INSERT INTO ledger.rule_sets (name, identity, parameters) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [rule_set.name, rule_set.identity, Jsonb(rule_set.parameters())],
        )
    companies = [world.company_id for world in evaluated]
    for at in range(0, len(companies), evaluation.LOT):
        with owner.transaction():
            diagnosis.record(owner, loaded, companies[at : at + evaluation.LOT], NOW)


def _stuck(evaluated: Sequence[World]) -> list[str]:
    return [world.company_id for world in evaluated if world.stuck_since is not None]


def compare_doctor(
    owner: psycopg.Connection,
    dsn: str,
    portal: PortalInProcess,
    evaluated: Sequence[World],
    *,
    every: int,
    causes_of: int = 1,
) -> Compared:
    """Worlds of the doctor: the overview of each under its first rule set, the causes of one in `causes_of`, and all pages and files
    of one in `every` under each rule set."""
    compared = Compared(worlds=len(evaluated))
    tokens = frame_tokens(dsn, [(world.company_id, "main") for world in evaluated])
    names = sorted({name for world in evaluated for name in world.rule_sets})
    shown = [world for number, world in enumerate(evaluated) if number % every == 0 or number % causes_of == 0]
    causes = {name: doctor_causes(owner, name, shown) for name in names}
    for number, world in enumerate(evaluated):
        is_whole = number % every == 0
        facts = facts_of(world)
        for name in world.rule_sets if is_whole else world.rule_sets[:1]:
            expected = expected_of_doctor(world, facts, name, causes[name].get(world.company_id, {}))
            reader = Reader(portal, tokens[world.company_id, "main"])
            comparison = PanelComparison(reader.fetch, expected, "main", is_main=True)
            if is_whole:
                for account_id in (None, *expected.accounts):
                    comparison.pages(account_id)
                    comparison.exports(account_id)
            else:
                comparison.overview(None)
                if number % causes_of == 0:
                    comparison.causes("main")
            compared.add(comparison)
    return compared


def doctor_causes(
    owner: psycopg.Connection, name: str, evaluated: Sequence[World]
) -> dict[str, dict[str | None, list[str]]]:
    """Company → account → causes, as the command lists them, at NOW."""
    companies = [world.company_id for world in evaluated if name in world.rule_sets]
    causes: dict[str, dict[str | None, list[str]]] = {}
    for at in range(0, len(companies), evaluation.LOT):
        lot = companies[at : at + evaluation.LOT]
        for diagnosed in diagnosis.diagnose(owner, rules.load_builtin(name), lot, NOW):
            listed = [finding.cause for finding in diagnosed.findings]
            causes.setdefault(diagnosed.company_id, {})[diagnosed.account_id or None] = listed
    return causes


def expected_of_doctor(
    world: World, facts: CompanyFacts, name: str, causes: Mapping[str | None, Sequence[str]]
) -> Expected:
    """What the panel of a world must show; only the day of NOW was judged."""
    rule_set = rules.load_builtin(name)
    recount = CompanyRecount(world.company_id, facts, rule_set.parameters())
    judged = frozenset({days.local_day(NOW, rule_set)})
    return Expected(
        world.company_id, tuple(sorted(facts.accounts)), rule_set, recount, NOW, causes, judged_days=judged,
        mailboxes={"main": stored_mailboxes(world)},
    )  # fmt: skip


def masked(address: str) -> str:
    """An address as pages show it."""
    local, _, domain = address.rpartition("@")
    return f"{local[0]}***@{domain}"


def stored_mailboxes(world: World) -> list[ExpectedMailbox]:
    """The mailboxes of a world that are not removed, as its plan has them."""
    stored = [stored_row for stored_row in stored_rows(world)["registry.mailboxes"] if stored_row["state"] != "removed"]
    return [
        ExpectedMailbox(
            stored_row["mailbox_id"], stored_row["address_masked"], stored_row["role"], stored_row["state"], stored_row["host"], stored_row["connected_at"],
            stored_row["last_success_at"],
            None if stored_row["complete_from"] is None or stored_row["complete_through"] is None
            else (stored_row["complete_from"], stored_row["complete_through"]),
        )
        for stored_row in sorted(stored, key=lambda stored_row: (stored_row["connected_at"], stored_row["mailbox_id"]))
    ]  # fmt: skip


def facts_of(world: World) -> CompanyFacts:
    """What the tables have of a world, as the recount takes it."""
    stored = stored_rows(world)
    facts = CompanyFacts(accounts={stored_row["account_id"] for stored_row in stored["registry.accounts"]})
    facts.asked = [
        AskedInquiry(
            stored_row["inquiry_id"], stored_row["account_id"], stored_row["received_at"], stored_row["buyer_id"],
            from_china=stored_row["buyer_region"] == "CN",
        )
        for stored_row in stored["ledger.inquiries"]
    ]  # fmt: skip
    facts.marked = [
        StatusMark(stored_row["inquiry_id"], stored_row["status"], stored_row["at"])
        for stored_row in stored["ledger.statuses"]
    ]
    facts.replied = [
        GivenReply(**{name: value for name, value in stored_row.items() if name != "company_id"})
        for stored_row in stored["ledger.replies"]
    ]
    facts.covered = [
        CoveredInterval(**{name: value for name, value in stored_row.items() if name != "company_id"})
        for stored_row in sorted(
            stored["registry.coverage"], key=lambda stored_row: cast(datetime, stored_row["recorded_at"])
        )
    ]
    facts.unread = frozenset(
        stored_row["mailbox_id"]
        for stored_row in stored["registry.mailboxes"]
        if stored_row["state"] not in ("active", "needs_reconnect")
    )
    return facts


def tell(name: str, compared: Compared, results: dict[str, Compared]) -> None:
    """Print a line of the table as soon as it is known."""
    if not results:
        print("| Compared | Worlds | Figures | Different |\n|---|---|---|---|")
    results[name] = compared
    print(f"| {name} | {compared.worlds} | {compared.figures.total():,} | {len(compared.differences)} |", flush=True)


def main() -> int:
    """Compare everything and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--every",
        type=int,
        default=WHOLE,
        metavar="NUMBER",
        help="every page and file of every NUMBER-th world of the doctor; two pages of the others",
    )
    every: int = parser.parse_args().every
    folder = scratch_folder("replyrate-panel-")
    results: dict[str, Compared] = {}
    by_page: Counter[str] = Counter()
    try:
        with EmbeddedPostgres(folder / "postgres") as server:
            for seed in SEEDS:
                with _database(server, f"seed{seed}") as (owner, dsn, portal):
                    tell(f"demo world, seed {seed}", compare_seed(owner, dsn, portal, seed), results)
            with _database(server, "doctor") as (owner, dsn, portal):
                evaluated = worlds(evaluation.SEED, evaluation.EACH, evaluation.HEALTHY)
                evaluation.evaluate(owner, evaluated)
                prepare_doctor(owner, evaluated)
                tell("worlds of the doctor", compare_doctor(owner, dsn, portal, evaluated, every=every), results)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for compared in results.values():
        by_page += compared.figures
    print()
    print("\n".join(["| Page or file | Figures |", "|---|---|", *(f"| {page} | {count:,} |" for page, count in sorted(by_page.items()))]))  # fmt: skip
    differences = [difference for compared in results.values() for difference in compared.differences]
    print("\n".join(differences[:50]))
    return 1 if differences else 0


@contextmanager
def _database(server: EmbeddedPostgres, name: str) -> Any:
    dsn = server.create_database(name)
    with connect(dsn, "tests") as owner:
        migrations.migrate(owner, lambda _: None)
        with portal_login(dsn) as login, portal_in_process(login) as portal:
            yield owner, dsn, portal


if __name__ == "__main__":
    sys.exit(main())
