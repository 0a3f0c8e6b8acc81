"""The command line on real servers: from an empty database to a mailbox and a rate."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from services.cli.__main__ import main
from services.standalone.servers.imap import EmbeddedImap
from services.standalone.servers.postgres import EmbeddedPostgres
from tests.support.pgbouncer import PgBouncer
from tests.support.processes import until
from tests.support.servers import USERS
from tests.support.topics import kafka_settings, read_all, set_config

USER = "seller-1@mail.test"


@pytest.fixture
def run(
    postgres_server: EmbeddedPostgres, pooler: PgBouncer, topics_gone: str, pymap: EmbeddedImap, tmp_path: Path
) -> Any:
    """Calls commands through PgBouncer, except `migrate`, which needs Postgres itself."""
    name = f"cli_{tmp_path.name[-8:].replace('-', '_')}"
    direct_dsn = postgres_server.create_database(name)
    dsn = pooler.pooled(direct_dsn)
    for key in ("hash.key", "vault.key"):
        (tmp_path / key).write_bytes(bytes(32))
    env = {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": topics_gone, "REPLYRATE_KAFKA__PARTITIONS": "2", "REPLYRATE_POSTGRES__DSN": dsn,
        "REPLYRATE_HASH_KEY_FILE": str(tmp_path / "hash.key"), "REPLYRATE_VAULT_KEY_FILE": str(tmp_path / "vault.key"),
        "REPLYRATE_IMAP__CA_FILE": str(pymap.ca_file), "REPLYRATE_IMAP__ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128",
        "REPLYRATE_IMAP__ALLOWED_PORTS": str(pymap.port), "COLUMNS": "200",
    }  # fmt: skip

    def call(*args: str, code: int = 0, **options: Any) -> Result:
        environ = {**env, "REPLYRATE_POSTGRES__DSN": direct_dsn} if args[0] == "migrate" else env
        done = CliRunner().invoke(main, [str(arg) for arg in args], env=environ, **options)
        assert done.exit_code == code, (args, done.stdout, done.stderr, done.exception)
        return done

    call.dsn, call.env = dsn, env  # type: ignore[attr-defined]
    yield call
    postgres_server.drop_database(name)


def is_refused_for_its_clock(run: Any, file: Path) -> bool:
    """Whether `publish` reports the clock; a record that arrives within the broker's millisecond is accepted."""
    try:
        return "the clock of this host differs from the broker's" in run("publish", file, code=69).stderr
    except AssertionError:
        return False


def test_from_nothing_to_a_mailbox(run: Any, pymap: EmbeddedImap, topics_gone: str, tmp_path: Path) -> None:
    pymap.client.create(USER, "Sent")
    assert "run `replyrate migrate`" in run("rate", code=78).stderr
    assert "applied" in run("migrate").stderr
    assert "up to date" in run("migrate").stderr
    assert "is missing; run `replyrate topics create`" in run("topics", "check", code=1).stderr
    assert "inquiries.v1" in json.loads(run("topics", "create", "--json").stdout)["created"]
    run("topics", "check")
    for name, safe in (("unclean.leader.election.enable", "false"), ("message.timestamp.after.max.ms", "3600000")):
        set_config(topics_gone, "inquiries.v1", name, "true" if safe == "false" else str(2**62))
        assert f"{name}={safe}" in run("topics", "check", code=1).stderr
        set_config(topics_gone, "inquiries.v1", name, safe)
    assert "Configuration is valid." in run("config", "check").stderr
    printed = json.loads(run("config", "print", "--json").stdout)
    assert printed["REPLYRATE_POSTGRES__DSN"] == "********"
    assert "replyrate company add c1" in run("account", "add", "c1", "main", code=1).stderr
    run("company", "add", "c1")
    run("account", "add", "c1", "main", "--address", USER)
    run("account", "add", "c1", "desk", "--sub", "--synced-by-platform", "--since", "2026-11-01")
    password = tmp_path / "password"
    password.write_text(USERS[USER] + "\n", "utf-8")
    base = [
        "mailbox",
        "add",
        "--company",
        "c1",
        "--account",
        "main",
        "--address",
        USER,
        "--host",
        "localhost",
        "--port",
        pymap.port,
    ]
    assert "--consent-by" in run(*base, "--password-file", password, code=1).stderr
    wrong = run(*base, "--consent-by", "x", input="wrong-canary\n", code=1)
    assert "authorization" in wrong.stderr and "canary" not in wrong.stdout
    refused = run(*base[:5], "desk", *base[6:], "--consent-by", "x", "--password-file", password, code=1)
    assert "needs no mailbox" in refused.stderr
    added = json.loads(run(*base, "--consent-by", "Li", "--password-file", password, "--json").stdout)
    assert (added["state"], added["sent_folders"]) == ("active", ["Sent"])
    mailbox_id = added["mailbox_id"]
    (listed,) = json.loads(run("mailbox", "list", "--json").stdout)
    assert (listed["mailbox_id"], listed["address_masked"]) == (mailbox_id, "s***@mail.test")
    assert USER not in run("mailbox", "show", "c1", mailbox_id).stdout
    run("mailbox", "pause", "c1", mailbox_id)
    assert "only an active mailbox" in run("mailbox", "pause", "c1", mailbox_id, code=1).stderr
    run("mailbox", "resume", "c1", mailbox_id)
    run("mailbox", "rescan", "c1", mailbox_id)
    assert mailbox_id in run("account", "change-address", "c1", "main", "new@mail.test").stderr
    run("mailbox", "remove", "c1", mailbox_id)
    assert "replyrate mailbox list c1" in run("mailbox", "show", "c1", "m-none", code=1).stderr
    file = tmp_path / "facts.csv"
    file.write_text(
        "company_id,account_id,inquiry_id,received_at,buyer_id\nc1,main,i1,2026-11-20T08:00:00Z,b1\n", "utf-8"
    )
    assert json.loads(run("publish", file, "--json").stdout) == {"published": 1, "invalid": []}
    (record,) = read_all(kafka_settings(topics_gone, 2), "inquiries.v1")
    assert record.key == b"c1"
    set_config(topics_gone, "inquiries.v1", "message.timestamp.before.max.ms", "0")
    until(lambda: is_refused_for_its_clock(run, file), 30, "a record older than the broker's present millisecond")
    assert "No rate" in run("rate", "c1", code=1).stderr


def test_rule_sets_are_listed_shown_validated_and_activated(run: Any, tmp_path: Path) -> None:
    run("migrate")
    file = tmp_path / "mine.toml"
    file.write_text(
        Path("services/aggregator/judge/rule_sets/default.toml")
        .read_text("utf-8")
        .replace('name = "default"', 'name = "mine"'),
        "utf-8",
    )
    checked = json.loads(run("rules", "validate", file, "--json").stdout)
    assert checked["name"] == "mine" and checked["identity"].startswith("1+")
    file.write_text(file.read_text("utf-8").replace('unit = "first-per-buyer-day"', 'unit = "day"'), "utf-8")
    printed = " ".join(run("rules", "validate", file, code=78).stderr.split())
    assert "unit: 'day' is not one of" in printed and "'each-inquiry'" in printed
    assert "first-per-buyer-day" in run("rules", "show", "default").stdout
    assert json.loads(run("rules", "show", "etsy", "--json").stdout)["period_by"] == "deadline"
    assert "choose one of" in " ".join(run("rules", "show", "none", code=78).stderr.split())
    assert "REPLYRATE_HORIZON_DAYS=114" in "".join(run("rules", "activate", "airbnb", code=78).stderr.split())
    assert "is active" in run("rules", "activate", "alibaba-2016").stderr
    assert "already" in run("rules", "activate", "alibaba-2016").stderr
    counts = {rule_set["name"]: rule_set["counts"] for rule_set in json.loads(run("rules", "list", "--json").stdout)}
    assert counts["alibaba-2016"] is True and counts["default"] is False
    run("rules", "deactivate", "alibaba-2016")
    assert "is not active" in run("rules", "deactivate", "alibaba-2016", code=1).stderr
    assert "alibaba-2016" in run("rules", "list").stdout


def test_an_invalid_file_does_not_hide_the_other_rule_sets(run: Any, tmp_path: Path) -> None:
    run("migrate")
    (tmp_path / "mine.toml").write_text('name = "mine"\nunit = "day"\n', "utf-8")
    call = CliRunner().invoke
    env = {**run.env, "REPLYRATE_AGGREGATOR__RULES_DIR": str(tmp_path)}
    listed = {
        rule_set["name"]: rule_set for rule_set in json.loads(call(main, ["rules", "list", "--json"], env=env).stdout)
    }
    assert listed["default"]["version"].startswith("1+")
    assert listed["mine"]["version"] == "cannot be used" and "'day' is not one of" in listed["mine"]["title"]
