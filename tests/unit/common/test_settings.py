"""Settings: everything wrong is said at once, by name, without repeating a value."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from services.common.errors import ConfigError
from services.common.settings import declarations, load_settings
from services.registry import login_slots
from services.standalone.servers.paths import ROOT

LEAST = {
    "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "broker:9092",
    "REPLYRATE_POSTGRES__DSN": "postgresql://user:secret-canary@db/replyrate",
    "REPLYRATE_HASH_KEY_FILE": "/nowhere/hash.key",
}


def problems(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ)
    return "\n".join(caught.value.problems)


def test_the_least_that_must_be_set_is_enough() -> None:
    settings = load_settings(LEAST)
    assert settings.kafka.partitions == 12
    assert settings.horizon_days == 60
    assert settings.imap.allowed_ports == (993,)
    assert settings.warnings == ()


def test_all_problems_are_told_at_once_by_name() -> None:
    told = problems(
        {
            "REPLYRATE_KAFKA__PARTITIONS": "many",
            "REPLYRATE_LOG__LEVEL": "loud",
            "REPLYRATE_IMAP__ALLOWED_PORTS": "993,70000",
        }
    )
    for name in (*LEAST, "REPLYRATE_KAFKA__PARTITIONS", "REPLYRATE_LOG__LEVEL", "REPLYRATE_IMAP__ALLOWED_PORTS"):
        assert name in told


def test_no_problem_repeats_a_value() -> None:
    told = problems({**LEAST, "REPLYRATE_KAFKA__PARTITIONS": "canary-value", "REPLYRATE_HORIZON_DAYS": "canary-value"})
    assert "canary" not in told


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "dsn"
    file.write_text("postgresql://from-file\n")
    environ = {name: text for name, text in LEAST.items() if "DSN" not in name}
    settings = load_settings({**environ, "REPLYRATE_POSTGRES__DSN_FILE": str(file)})
    assert settings.postgres.dsn.get_secret_value() == "postgresql://from-file"


def test_a_secret_twice_is_refused(tmp_path: Path) -> None:
    assert "both set" in problems({**LEAST, "REPLYRATE_POSTGRES__DSN_FILE": str(tmp_path / "dsn")})


def test_a_secret_file_that_is_missing_is_named(tmp_path: Path) -> None:
    environ = {name: text for name, text in LEAST.items() if "DSN" not in name}
    told = problems({**environ, "REPLYRATE_POSTGRES__DSN_FILE": str(tmp_path / "none")})
    assert told.startswith(f"REPLYRATE_POSTGRES__DSN_FILE: there is no file {tmp_path / 'none'};")
    assert "make secrets" in told and "\n" not in told


def test_an_old_key_that_is_empty_is_none_and_one_that_is_cut_is_told(tmp_path: Path) -> None:
    file = tmp_path / "vault-old.key"
    file.touch()
    settings = load_settings({**LEAST, "REPLYRATE_VAULT_OLD_KEY_FILE": str(file)})
    assert settings.old_vault_key() is None
    assert load_settings({**LEAST, "REPLYRATE_VAULT_OLD_KEY_FILE": "/dev/null"}).old_vault_key() is None
    file.write_bytes(b"k" * 31)
    with pytest.raises(ConfigError, match="VAULT_OLD_KEY_FILE names a file with 31 bytes"):
        settings.old_vault_key()
    file.write_bytes(b"k" * 32)
    assert settings.old_vault_key() == b"k" * 32


@pytest.mark.parametrize(
    ("service", "setting"),
    [
        ("fetcher", "VAULT_KEY_FILE"),
        ("fetcher", "POSTGRES__PASSWORD_FILE"),
        ("matcher", "HASH_KEY_FILE"),
        ("aggregator", "POSTGRES__PASSWORD_FILE"),
    ],
)
def test_a_service_ends_with_78_and_names_the_file_and_the_cure(
    service: str, setting: str, request: pytest.FixtureRequest
) -> None:
    # Not tmp_path: nobody but its owner gets through to that.
    folder = Path(tempfile.mkdtemp(prefix="replyrate-secrets-"))
    request.addfinalizer(lambda: shutil.rmtree(folder))
    folder.chmod(0o755)
    secret, key = folder / "secret", folder / "hash.key"
    key.write_bytes(bytes(32))

    def told(before: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-c", f"from services.{service}.__main__ import main, lifecycle\n{before}\nexit(lifecycle.run(main))"],
            env={
                "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **LEAST, "REPLYRATE_HASH_KEY_FILE": str(key),
                "REPLYRATE_VAULT_KEY_FILE": str(key), f"REPLYRATE_{setting}": str(secret),
            },
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 78, done.stderr
        (line,) = done.stderr.splitlines()
        # Keys are read once the log is set up, passwords with the settings before it.
        text = str(json.loads(line)["text"]) if line.startswith("{") else line.removeprefix("configuration: ")
        assert text.startswith(f"REPLYRATE_{setting}") and str(secret) in text and "canary" not in line
        return text

    assert "there is no file" in (said := told()) and "`make secrets`" in said
    secret.touch()
    assert re.search("is empty|with 0 bytes", said := told()) and "`make secrets`" in said
    secret.write_bytes(b"canary" * 6)
    secret.chmod(0)
    # Root may read everything; a container never runs as root.
    assert (
        "may not read" in (said := told("import os; os.setuid(65534)" if os.geteuid() == 0 else ""))
        and "chmod 444" in said
    )
    secret.unlink()
    secret.mkdir()
    assert "is a folder" in (said := told()) and "`make secrets`" in said


def test_an_unknown_name_is_a_warning_with_the_nearest_name() -> None:
    settings = load_settings({**LEAST, "REPLYRATE_HORIZON_DAY": "30"})
    assert settings.warnings == ("REPLYRATE_HORIZON_DAY is not a setting; did you mean REPLYRATE_HORIZON_DAYS?",)
    assert settings.horizon_days == 60


def test_sasl_needs_its_user_and_password() -> None:
    told = problems({**LEAST, "REPLYRATE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"})
    assert told.count("SASL_SSL needs it") == 3


def test_more_replicas_in_sync_than_there_are_is_refused() -> None:
    assert "lower it" in problems({**LEAST, "REPLYRATE_KAFKA__MIN_INSYNC_REPLICAS": "2"})
    same = {"REPLYRATE_MATCHER__APP_ID": "x", "REPLYRATE_AGGREGATOR__GROUP": "x"}
    assert "same consumer group" in problems({**LEAST, **same})


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_refused(tmp_path: Path, length: int) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"k" * length)
    settings = load_settings({**LEAST, "REPLYRATE_HASH_KEY_FILE": str(file)})
    with pytest.raises(ConfigError, match="HASH_KEY_FILE names a file with"):
        settings.hash_key()


def test_a_key_is_read_raw(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"\n" * 32)
    assert load_settings({**LEAST, "REPLYRATE_HASH_KEY_FILE": str(file)}).hash_key() == b"\n" * 32


def test_the_vault_key_is_asked_for_only_where_it_is_needed() -> None:
    with pytest.raises(ConfigError, match="REPLYRATE_VAULT_KEY_FILE is not set"):
        load_settings(LEAST).vault_key()


def test_no_secret_shows_in_the_settings_text() -> None:
    assert "canary" not in repr(load_settings(LEAST))


def test_every_setting_is_described() -> None:
    assert [one.name for one in declarations() if len(one.description) < 10] == []


def test_a_password_joins_the_dsn_in_either_form(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p/@ '\\:é\n", "utf-8")
    for dsn in ("postgresql://user@db:5432/replyrate", "host=db user=user", "postgresql://user@db/x?sslmode=require"):
        environ = {**LEAST, "REPLYRATE_POSTGRES__DSN": dsn, "REPLYRATE_POSTGRES__PASSWORD_FILE": str(file)}
        joined = conninfo_to_dict(load_settings(environ).postgres.dsn.get_secret_value())
        assert joined == {**conninfo_to_dict(dsn), "password": "p/@ '\\:é"}
    assert "canary" not in repr(load_settings(LEAST))


def test_a_host_that_may_be_private_is_a_name() -> None:
    settings = load_settings({**LEAST, "REPLYRATE_IMAP__PRIVATE_HOSTS": "mail.corp.example, demo-mail"})
    assert settings.imap.private_hosts == ("mail.corp.example", "demo-mail")
    assert "PRIVATE_HOSTS" in problems({**LEAST, "REPLYRATE_IMAP__PRIVATE_HOSTS": "https://mail"})


def test_figures_by_name_are_read_and_refused_by_name() -> None:
    name = "REPLYRATE_IMAP__PROVIDER_SESSIONS"
    read = load_settings({**LEAST, name: "qq=20, imap.corp.example = 4,"}).imap.provider_sessions
    assert read == {"qq": 20, "imap.corp.example": 4}
    assert load_settings({**LEAST, name: ""}).imap.provider_sessions == {}
    for wrong in ("qq", "qq=", "=4", "qq=many", "qq=-1", "qq=1,qq=2", "qq=0", "QQ=4"):
        told = problems({**LEAST, name: wrong})
        assert told.startswith(f"{name}: ") and "NAME=NUMBER" in told
    with pytest.raises(ConfigError) as caught:
        login_slots.check(load_settings({**LEAST, name: "qq=1,imap.corp.example=1,imap.qq.com=1,qqq=1"}).imap)
    assert [problem.partition(": ")[2].split("; ")[-1] for problem in caught.value.problems] == [
        "write qq", "write one of them",
    ]  # fmt: skip
