"""What is said about our columns is true: every column is named, what is to go goes, and a mailbox's rows can be shown."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from services.cli.__main__ import main
from services.common.hashing import Hasher
from services.common.postgres import connect
from services.registry import personal_data, retention
from services.registry.registry import Registry
from services.registry.vault import Vault
from tests.support.mailboxes import connected

OURS = "('registry', 'ledger', 'shadow', 'access', 'replyrate')"
ADDRESS = "canary.seller@mail.test"
PASSWORD = "Canary-password-1"


@pytest.fixture
def mailbox(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A company with one mailbox, and the settings of the command line for it."""
    keys = {name: bytes([number]) * 32 for number, name in enumerate(("HASH", "VAULT"), 1)}
    monkeypatch.setenv("REPLYRATE_POSTGRES__DSN", dsn)
    monkeypatch.setenv("REPLYRATE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9")
    for name, key in keys.items():
        file = tmp_path / name
        file.write_bytes(key)
        file.chmod(0o600)
        monkeypatch.setenv(f"REPLYRATE_{name}_KEY_FILE", str(file))
    with connect(dsn, "tests") as connection:
        registry = Registry(connection, Hasher(keys["HASH"]), Vault(keys["VAULT"]))
        registry.companies.add("shop")
        registry.accounts.add("shop", "main")
        registry.addresses.set("shop", "main", "registered", ADDRESS)
        connected(registry, "shop", address=ADDRESS, password=PASSWORD, by="The Owner")
    return dsn


def columns(connection: psycopg.Connection) -> dict[str, set[str]]:
    rows = connection.execute(
        "SELECT table_schema || '.' || table_name, array_agg(column_name::text) FROM information_schema.columns"
        f" JOIN information_schema.tables USING (table_schema, table_name) WHERE table_type = 'BASE TABLE'"
        " AND NOT (SELECT relispartition FROM pg_class WHERE oid = (table_schema || '.' || table_name)::regclass)"
        f" AND table_schema IN {OURS} GROUP BY 1".encode()
    ).fetchall()
    return {name: set(columns) for name, columns in rows}


def test_every_column_is_described(dsn: str) -> None:
    with connect(dsn, "tests") as connection:
        there = columns(connection)
    declared = {name: set(table.columns) for name, table in personal_data.load().tables.items()}
    how = "say in schemas/personal_data.toml what it is and for how long it is kept, then run `make docs`"
    assert there.keys() - declared.keys() == set(), f"a new table: {how}"
    assert declared.keys() - there.keys() == set(), "this table is gone: take it out of schemas/personal_data.toml"
    for name, its in there.items():
        assert its - declared[name] == set(), f"a new column of {name}: {how}"
        assert declared[name] - its == set(), f"{name} has no such column any more"


def test_text_that_may_come_from_outside_is_not_declared_as_a_figure(dsn: str) -> None:
    """Columns declared as sealed, hashed or masked are so, and free text is declared as such."""
    declared = personal_data.load()
    sealed = {f"{name}.{column}" for name, table in declared.tables.items() for column in table.of_kind("sealed")}
    assert sealed == {
        "registry.addresses.address_sealed", "registry.mailboxes.address_sealed", "registry.mailboxes.user_sealed",
        "registry.secrets.sealed",
    }  # fmt: skip
    with connect(dsn, "tests") as connection:
        bytes_ = connection.execute(
            "SELECT table_schema || '.' || table_name, column_name FROM information_schema.columns"
            f" JOIN information_schema.tables USING (table_schema, table_name) WHERE data_type = 'bytea'"
            " AND NOT (SELECT relispartition FROM pg_class WHERE oid = (table_schema || '.' || table_name)::regclass)"
            f" AND table_type = 'BASE TABLE' AND table_schema IN {OURS}".encode()
        ).fetchall()
    assert bytes_
    for table, column in bytes_:
        assert declared.tables[table].columns[column] in {
            "sealed",
            "sealed-for-fetchers",
            "sealed-by-api-key",
            "server",
            "keyed-hash",
            "token-hash",
            "figure",
        }, (table, column)


def test_rows_beyond_their_retention_are_deleted_and_younger_ones_stay(mailbox: str) -> None:
    now = datetime.now(UTC)
    young, old = now - timedelta(days=9), now - timedelta(days=61)
    trimmed = {
        name
        for name, table in personal_data.load().tables.items()
        if table.retention in ("horizon", "30-days", "30-days-staff", "day", "day-unused", "audit")
    }
    assert {f"registry.{name}" for name in retention.SQL} == trimmed, "each such table has its statement"
    with connect(mailbox, "tests") as connection:
        for name, at in {"young": young, "old": old}.items():
            connection.execute(
                "INSERT INTO registry.published (company_id, mailbox_id, message_id, sent_at, record)"
                " VALUES ('shop', 'm1', %s, %s, '')",
                (name, at),
            )
            connection.execute(
                "INSERT INTO registry.message_counts VALUES ('shop', 'm1', 'Sent', %s, 'human', 1, 0)", (at.date(),)
            )
            connection.execute(
                "INSERT INTO registry.connection_tests (company_id, login_hash, tested_at) VALUES ('shop', 'x', %s)",
                (at,),
            )
            connection.execute(
                "INSERT INTO registry.connect_requests (request_id, company_id, account_id, mailbox_id, purpose, key_id, created_at)"
                " VALUES ('r-' || md5(%s), 'shop', 'main', 'm1', 'test', '', %s)",
                (name, at if name == "old" else datetime.now(UTC)),
            )
            connection.execute(
                "INSERT INTO registry.portal_sessions (session_id, token_hash, company_id, account_id, role, language,"
                " created_by, expires_at) VALUES ('s-' || left(md5(%s), 12), sha256(%s), 'shop', 'main', 'registered', 'en', 'x', %s)",
                (name, name.encode(), at),
            )
            connection.execute(
                "INSERT INTO registry.sign_ins (state_hash, session_id, client, created_at)"
                " SELECT sha256(%s), 's-' || left(md5(%s), 12), 'google', %s",
                (name.encode(), name, at if name == "old" else datetime.now(UTC)),
            )
        connection.execute(
            "INSERT INTO registry.api_keys (key_id, secret_hash, name, scopes, company_prefix, created_by)"
            " VALUES ('k-000000000000', sha256('k'), 'k', '{}', '', 'x')"
        )
        for hours in (23, 25):
            connection.execute(
                "INSERT INTO registry.api_answers (key_id, name_hash, request_hash, created_at)"
                " VALUES ('k-000000000000', sha256(%s), sha256(''), clock_timestamp() - make_interval(hours => %s))",
                (str(hours).encode(), hours),
            )
        for name, at in {"1": old, "2": young}.items():
            connection.execute(
                "INSERT INTO registry.staff_sessions (session_id, token_hash, method, subject, display_name, role, expires_at)"
                " VALUES ('w-' || left(md5(%s), 12), sha256(%s), 'link', 'x', 'x', 'support', %s)",
                (name, name.encode(), at),
            )
            connection.execute(
                "INSERT INTO registry.staff_actions (session_id, subject, display_name, role, action, expires_at)"
                " VALUES ('w', 'x', 'x', 'support', 'search', %s)",
                (at if name == "1" else now + timedelta(days=1),),
            )
        # With the privileges of the fetcher's role.
        connection.execute("SET ROLE replyrate_fetcher")
        retention.sum_up_counts(connection)
        connection.execute(
            "INSERT INTO registry.login_slots VALUES ('qq', 'login', 1, clock_timestamp() - interval '23 hours'),"
            " ('qq', 'login', 2, clock_timestamp() - interval '25 hours')"
        )
        assert retention.trim(connection, 60) == dict.fromkeys(retention.SQL, 1)
        assert retention.trim(connection, 60) == dict.fromkeys(retention.SQL, 0)
        left = connection.execute(
            "SELECT (SELECT min(sent_at) FROM registry.published_records), (SELECT min(day) FROM registry.message_counts),"
            " (SELECT min(tested_at) FROM registry.connection_tests)"
        ).fetchone()
    assert left == (young, young.date(), young)


def test_trimming_in_batches_ends(mailbox: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MOST", 7)
    with connect(mailbox, "tests") as connection:
        connection.execute(
            "INSERT INTO registry.connection_tests (company_id, login_hash, tested_at)"
            " SELECT 'shop', 'x', clock_timestamp() - interval '31 days' FROM generate_series(1, 21)"
        )
        assert retention.trim(connection, 60)["connection_tests"] == 21


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["privacy", "show", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("language", ["en", "zh"])
def test_everything_stored_about_a_mailbox_is_shown_and_nothing_sealed_is_opened(mailbox: str, language: str) -> None:
    text, data = shown("m1", "--lang", language), json.loads(shown("m1", "--json", "--lang", language))
    tables = {table["table"]: table for table in data["tables"]}
    named = {name for name, table in personal_data.load().tables.items() if "mailbox_id" in table.columns}
    named |= {
        "registry.addresses",
        "registry.mailbox_links",
        "registry.connection_tests",
        "registry.published_messages",
    }
    (own,) = tables["registry.addresses"]["shown"]
    assert own["address_masked"] == "c***@mail.test"
    assert tables.keys() == named and all(name in text for name in named)
    (stored,) = tables["registry.mailboxes"]["shown"]
    assert stored["address_masked"] == "c***@mail.test" and stored["consent_by"] == "The Owner"
    assert stored["address_sealed"].endswith(" bytes") and tables["registry.secrets"]["rows"] == 1
    assert "c***@mail.test" in text
    for canary in (ADDRESS, PASSWORD):
        assert canary not in text and canary not in json.dumps(data)


def test_a_user_who_may_not_read_the_ledger_is_told_so(mailbox: str) -> None:
    with connect(mailbox, "tests") as connection:
        connection.execute("SET ROLE replyrate_fetcher")
        from services.registry import holdings

        row_counts = {stored.table.name: stored.rows for stored in holdings.read(connection, "shop", "m1")}
    assert row_counts["registry.mailboxes"] == 1
    assert row_counts["ledger.replies"] is None


@pytest.mark.parametrize(
    ("arguments", "message"), [(["m2"], "no mailbox m2"), (["m1", "--company", "other"], "m1 of other")]
)
def test_a_wrong_id_is_reported(mailbox: str, arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(main, ["privacy", "show", *arguments])
    assert done.exit_code == 1 and message in done.output and "mailbox list" in done.output


def test_one_id_in_two_companies_asks_for_the_company(mailbox: str) -> None:
    with connect(mailbox, "tests") as connection:
        registry = Registry(connection, Hasher(bytes([1]) * 32), Vault(bytes([2]) * 32))
        registry.companies.add("other")
        registry.accounts.add("other", "main")
        connected(registry, "other", address="b@x.test")
    done = CliRunner().invoke(main, ["privacy", "show", "m1"])
    assert done.exit_code == 1 and "--company other or shop" in done.output
    assert "b***@x.test" in shown("m1", "--company", "other")
