"""`replyrate keys rotate`, killed in the middle while fetchers go on."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from services.cli.__main__ import main
from services.common.errors import ConfigError
from services.common.hashing import Hasher
from services.common.postgres import connect
from services.common.settings import load_settings
from services.registry.connect_requests import ConnectRequests, open_sealed
from services.registry.leases import Leases
from services.registry.registry import Registry
from services.registry.rotation import SEALED_TOGETHER, Rotation
from services.registry.sealing import OpeningKeys
from services.registry.vault import Vault
from services.standalone.servers.paths import ROOT
from tests.support.mailboxes import connected
from tests.support.processes import until
from tests.unit.registry.test_vault import first_version

OLD, NEW, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))
HASHER = Hasher(bytes(32))
COUNT = 2 * SEALED_TOGETHER + 7


@pytest.fixture
def environ(dsn: str, tmp_path: Path) -> dict[str, str]:
    for name, key in (("hash", bytes(32)), ("old", OLD), ("new", NEW)):
        (tmp_path / f"{name}.key").write_bytes(key)
    return {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "REPLYRATE_POSTGRES__DSN": dsn,
        "REPLYRATE_HASH_KEY_FILE": str(tmp_path / "hash.key"),
        "REPLYRATE_VAULT_KEY_FILE": str(tmp_path / "new.key"),
        "REPLYRATE_VAULT_OLD_KEY_FILE": str(tmp_path / "old.key"),
    }


def fill(dsn: str, count: int) -> None:
    with connect(dsn, "tests") as connection:
        registry = Registry(connection, HASHER, Vault(OLD))
        registry.companies.add("c1")
        registry.accounts.add("c1", "main")
        registry.addresses.set("c1", "main", "registered", "main@mail.test")
        for number in range(count):
            user = f"user-{number}@mail.test"
            connected(registry, "c1", mailbox_id=f"m{number:04}", address=user, password=f"secret-{number}")


def passwords(dsn: str, vault: Vault) -> dict[str, str]:
    """The login that a fetcher with this vault would use, by mailbox; every mailbox is due and leased once."""
    with connect(dsn, "tests") as connection:
        connection.execute("UPDATE registry.mailboxes SET lease_until = NULL, next_poll_at = clock_timestamp()")
        leases, passwords = Leases(connection, vault), {}
        while (leased := leases.lease("tests", 300)) is not None:
            passwords[leased.mailbox_id] = leased.password
            assert leased.user == leased.password.replace("secret", "user") + "@mail.test"
        return passwords


def states(dsn: str, vault: Vault) -> dict[str, int]:
    counts: dict[str, int] = {}
    with connect(dsn, "tests") as connection:
        for sealed in Rotation(connection, vault).rotate(write=False):
            counts[sealed.state] = counts.get(sealed.state, 0) + 1
    return counts


def test_a_kill_in_the_middle_loses_nothing_and_the_next_run_continues(dsn: str, environ: dict[str, str]) -> None:
    fill(dsn, COUNT)
    both, expected = Vault(NEW, OLD), {f"m{number:04}": f"secret-{number}" for number in range(COUNT)}
    assert states(dsn, both) == {"old": COUNT + 1}
    with connect(dsn, "tests") as connection:
        # The rotation waits for a row of its second batch, and is killed while it waits.
        with connection.transaction():
            connection.execute(
                "SELECT FROM registry.mailboxes WHERE mailbox_id = %s FOR UPDATE", [f"m{SEALED_TOGETHER + 3:04}"]
            )
            rotating = subprocess.Popen(
                [sys.executable, "-m", "services.cli", "keys", "rotate"],
                cwd=ROOT, env={"PATH": os.environ["PATH"], **environ}, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                with connect(dsn, "tests") as look:
                    until(
                        lambda: look.execute(
                            "SELECT count(*) FROM registry.secrets WHERE key_id = %s", [both.key_id]
                        ).fetchone() == (SEALED_TOGETHER,),
                        30, "the first batch is sealed again",
                    )  # fmt: skip
            finally:
                rotating.kill()
                rotating.wait(10)
    assert states(dsn, both) == {"current": SEALED_TOGETHER, "old": COUNT + 1 - SEALED_TOGETHER}
    assert passwords(dsn, both) == expected, "fetchers that know both keys go on"
    assert passwords(dsn, Vault(OLD, NEW)) == expected
    done = CliRunner().invoke(main, ["keys", "rotate", "--json"], env=environ)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == {"current": SEALED_TOGETHER, "rotated": COUNT + 1 - SEALED_TOGETHER}
    assert passwords(dsn, Vault(NEW)) == expected
    with pytest.raises(ConfigError, match="REPLYRATE_VAULT_OLD_KEY_FILE"):
        passwords(dsn, Vault(OLD))
    with connect(dsn, "tests") as connection:
        assert connection.execute("SELECT DISTINCT key_id FROM registry.secrets").fetchall() == [(both.key_id,)]


def test_values_that_cannot_be_opened_are_reported_and_stop_nothing(dsn: str, environ: dict[str, str]) -> None:
    fill(dsn, 4)
    with connect(dsn, "tests") as connection:
        connection.execute(
            "UPDATE registry.secrets SET sealed = set_byte(sealed, 60, get_byte(sealed, 60) # 1) WHERE mailbox_id = 'm0001'"
        )
        strange = Vault(OTHER).seal("u", "c1", "m0002", "h", "993", field="user")
        connection.execute("UPDATE registry.mailboxes SET user_sealed = %s WHERE mailbox_id = 'm0002'", [strange])
    done = CliRunner().invoke(main, ["keys", "rotate", "--json"], env=environ)
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert result["counts"] == {"rotated": 3, "unreadable": 1, "another-key": 1}
    assert [(bad_row["what"], bad_row["state"]) for bad_row in result["bad"]] == [
        ("m0001", "unreadable"),
        ("m0002", "another-key"),
    ]
    checked = CliRunner().invoke(main, ["keys", "check"], env=environ)
    assert checked.exit_code == 1 and "m0001: not readable; connect the mailbox again" in checked.stderr
    assert "secret" not in done.stdout + done.stderr + checked.stdout + checked.stderr


@pytest.mark.parametrize("column", ["registry.secrets SET sealed", "registry.mailboxes SET user_sealed"])
def test_a_mailbox_that_is_sealed_with_a_missing_key_is_named(dsn: str, environ: dict[str, str], column: str) -> None:
    """`mailbox test` blames the configuration only when no stored secret opens."""
    fill(dsn, 2)
    strange = Vault(OTHER).seal("p", "c1", field="secret")
    with connect(dsn, "tests") as connection:
        connection.execute(f"UPDATE {column} = %s WHERE mailbox_id = 'm0001'".encode(), [strange])
    done = CliRunner().invoke(main, ["mailbox", "test", "c1", "m0001"], env=environ)
    assert done.exit_code == 1, done.stderr
    for part in ("m0001", "REPLYRATE_VAULT_OLD_KEY_FILE", "replyrate mailbox reconnect c1 m0001"):
        assert part in done.stderr
    # Another mailbox is tested as usual: its server does not exist.
    assert "sealed" not in CliRunner().invoke(main, ["mailbox", "test", "c1", "m0000"], env=environ).stderr
    without = {**environ, "REPLYRATE_VAULT_OLD_KEY_FILE": environ["REPLYRATE_VAULT_KEY_FILE"]}
    done = CliRunner().invoke(main, ["mailbox", "test", "c1", "m0000"], env=without)
    assert done.exit_code == 78 and "REPLYRATE_VAULT_KEY_FILE" in done.stderr


@pytest.mark.parametrize("what", ["another key", "another version", "cut"])
@pytest.mark.parametrize("column", ["registry.secrets SET sealed", "registry.mailboxes SET user_sealed"])
def test_a_secret_that_no_key_opens_costs_one_mailbox(
    dsn: str, caplog: pytest.LogCaptureFixture, column: str, what: str
) -> None:
    fill(dsn, 4)
    strange = {
        "another key": Vault(OTHER).seal("p", "c1", field="secret"), "another version": b"\x07" + bytes(90), "cut": b"\x02",
    }[what]  # fmt: skip
    with connect(dsn, "tests") as connection:
        original = connection.execute("SELECT sealed FROM registry.secrets WHERE mailbox_id = 'm0001'").fetchone()
        connection.execute(f"UPDATE {column} = %s WHERE mailbox_id = 'm0001'".encode(), [strange])
    assert sorted(passwords(dsn, Vault(OLD))) == ["m0000", "m0002", "m0003"]
    with connect(dsn, "tests") as connection:
        reasons = connection.execute(
            "SELECT state, state_reason, lease_owner, next_poll_at > clock_timestamp() FROM registry.mailboxes"
            " WHERE mailbox_id = 'm0001'"
        )
        assert reasons.fetchone() == ("active", "secret-unreadable", None, True)
        advice = connection.execute("SELECT advice_en, advice_zh FROM ledger.advice WHERE code = 'secret-unreadable'")
        assert advice.fetchone() is not None
        (logged,) = [record for record in caplog.records if record.__dict__.get("action") == "mailbox-failed"]
        assert logged.__dict__["mailbox_id"] == "m0001" and logged.__dict__["reason"] == "secret-unreadable"
        if column.startswith("registry.secrets"):
            connection.execute("UPDATE registry.secrets SET sealed = %s WHERE mailbox_id = 'm0001'", original)
            assert len(passwords(dsn, Vault(OLD))) == 4, "the key returned; nobody has to connect the mailbox again"
        with pytest.raises(ConfigError, match="REPLYRATE_VAULT_KEY_FILE"):
            passwords(dsn, Vault(OTHER + b"") if what != "another key" else Vault(NEW))


def test_values_of_an_earlier_release_are_sealed_again_with_the_same_key(dsn: str, environ: dict[str, str]) -> None:
    fill(dsn, 2)
    vault = Vault(OLD)
    with connect(dsn, "tests") as connection:
        stored = connection.execute(
            "SELECT mailbox_id, host, port::text, user_sealed FROM registry.mailboxes"
        ).fetchall()
        for mailbox_id, host, port, sealed in stored:
            place = ("c1", mailbox_id, host, port)
            user = vault.open(sealed, *place, field="user")
            connection.execute(
                "UPDATE registry.mailboxes SET user_sealed = %s WHERE mailbox_id = %s",
                (first_version(vault, user, *place, "user", key=OLD), mailbox_id),
            )
    same = {name: text for name, text in environ.items() if "OLD" not in name}
    same["REPLYRATE_VAULT_KEY_FILE"] = environ["REPLYRATE_VAULT_OLD_KEY_FILE"]
    checked = json.loads(CliRunner().invoke(main, ["keys", "check", "--json"], env=same).stdout)
    assert checked["counts"] == {"old": 2, "current": 1}
    done = CliRunner().invoke(main, ["keys", "rotate", "--json"], env=same)
    assert (done.exit_code, json.loads(done.stdout)["counts"]) == (0, {"rotated": 2, "current": 1}), done.stderr
    assert passwords(dsn, vault) == {"m0000": "secret-0", "m0001": "secret-1"}


def test_wrong_keys_are_named(dsn: str, environ: dict[str, str], tmp_path: Path) -> None:
    fill(dsn, 2)
    without = {name: value for name, value in environ.items() if "OLD" not in name}
    done = CliRunner().invoke(main, ["keys", "rotate"], env=without)
    assert done.exit_code == 1 and "--old-key-file" in done.stderr
    done = CliRunner().invoke(main, ["keys", "rotate", "--old-key-file", str(tmp_path / "new.key")], env=environ)
    assert done.exit_code == 78 and "the same key" in done.stderr
    done = CliRunner().invoke(main, ["keys", "rotate", "--old-key-file", str(tmp_path / "none")], env=environ)
    assert done.exit_code == 78 and "VAULT_OLD_KEY_FILE" in done.stderr
    (tmp_path / "old.key").write_bytes(b"short")
    done = CliRunner().invoke(main, ["config", "check"], env=environ)
    assert done.exit_code == 78 and "VAULT_OLD_KEY_FILE names a file with 5 bytes" in done.stderr


def test_the_steps_of_the_page_for_the_compose_file(dsn: str, tmp_path: Path) -> None:
    """docs/keys-and-backup.md, with the files and settings that docker-compose.yml gives to its containers."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))

    def make_secrets() -> str:
        done = subprocess.run([ROOT / "deploy" / "secrets", tmp_path], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def container(service: str) -> dict[str, str]:
        """The secret settings of a container as it would start now."""
        line = (tmp_path / ".env").read_text("utf-8").splitlines()
        variables = dict(assignment.split("=", 1) for assignment in line)
        files = {
            f"/run/secrets/{name}": re.sub(
                r"\$\{(\w+)(?::\?[^}]*|:-([^}]*))\}",
                lambda match: variables.get(match[1], match[2]),
                compose["secrets"][name]["file"],
            )
            for name in compose["services"][service]["secrets"]
        }
        given = compose["services"][service]["environment"]
        return {
            "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9",
            "REPLYRATE_POSTGRES__DSN": dsn,
            **{name: str(tmp_path / files[path]) for name, path in given.items() if path in files and "KEY" in name},
        }

    def fetcher() -> Vault:
        settings = load_settings(container("fetcher"))
        return Vault(settings.vault_key(), settings.old_vault_key())

    def opening_keys() -> OpeningKeys:
        settings = load_settings(container("fetcher"))
        return OpeningKeys(settings.vault_key(), settings.old_vault_key())

    def submit(typed: bytes) -> None:
        """What a seller types now, as the web process stores it."""
        with connect(dsn, "tests") as connection:
            requests = ConnectRequests(connection)
            key = requests.sealing_key()
            assert key is not None
            requests.add(key, "c1", "main", "m-new", "test", typed)

    def taken_requests(keys: OpeningKeys) -> set[bytes]:
        """What a fetcher with these keys opens of the requests that wait."""
        with connect(dsn, "tests") as connection:
            requests, opened = ConnectRequests(connection), set()
            while (taken := requests.take("tests", keys)) is not None:
                opened.add(open_sealed(keys, taken))
        return opened

    def replyrate(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, [*arguments], env=container("replyrate"))
        assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
        return done.stdout + done.stderr

    make_secrets()
    with connect(dsn, "tests") as connection:
        registry = Registry(connection, Hasher((tmp_path / "secrets" / "hash.key").read_bytes()), fetcher())
        registry.companies.add("c1")
        registry.accounts.add("c1", "main")
        for number in range(3):
            user = f"user-{number}@mail.test"
            connected(registry, "c1", mailbox_id=f"m{number}", address=user, password=f"secret-{number}")
    expected = {f"m{number}": f"secret-{number}" for number in range(3)}
    assert passwords(dsn, fetcher()) == expected, "no old key, and the start goes on"
    assert "3 sealed with the vault key\nDone.\n" in replyrate("keys", "rotate")
    with connect(dsn, "tests") as connection:
        ConnectRequests(connection).publish_key(opening_keys().current)
    submit(b"before")

    (tmp_path / "secrets" / "vault.key").rename(tmp_path / "secrets" / "vault-old.key")
    assert "secrets/vault.key is new" in make_secrets()
    with pytest.raises(ConfigError, match="REPLYRATE_VAULT_OLD_KEY_FILE"):
        passwords(dsn, fetcher())
    assert taken_requests(opening_keys()) == set(), "what waits is left to a fetcher that opens it"
    with (tmp_path / ".env").open("a", encoding="utf-8") as env:
        env.write("VAULT_OLD_KEY=./secrets/vault-old.key\n")
    assert passwords(dsn, fetcher()) == expected, "a restarted fetcher knows both keys"
    with connect(dsn, "tests") as connection:
        ConnectRequests(connection).publish_key(opening_keys().current)
    submit(b"after")
    assert taken_requests(opening_keys()) == {b"before", b"after"}
    submit(b"without the old key")
    assert "3 sealed again with the vault key" in replyrate("keys", "rotate")
    assert "with the previous key" not in replyrate("keys", "check")
    text = (tmp_path / ".env").read_text("utf-8").replace("VAULT_OLD_KEY=./secrets/vault-old.key\n", "")
    (tmp_path / ".env").write_text(text, "utf-8")
    (tmp_path / "secrets" / "vault-old.key").unlink()
    assert "3 sealed with the vault key" in replyrate("keys", "check")
    assert passwords(dsn, fetcher()) == expected
    assert taken_requests(opening_keys()) == {b"without the old key"}
