"""Settings: every problem is reported at once, by name, without repeating a value; a service needs only its own."""

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
from services.common.settings import (
    AggregatorConfig,
    ConsoleConfig,
    FetcherConfig,
    MatcherConfig,
    PortalConfig,
    PortalSettings,
    declarations,
    load_settings,
    readers,
)
from services.registry import login_slots
from services.standalone.servers.paths import ROOT

REQUIRED = {
    "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "broker:9092",
    "REPLYRATE_POSTGRES__DSN": "postgresql://user:secret-canary@db/replyrate",
    "REPLYRATE_HASH_KEY_FILE": "/nowhere/hash.key",
}


def problems(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ)
    return "\n".join(caught.value.problems)


def test_the_required_settings_are_enough() -> None:
    settings = load_settings(REQUIRED)
    assert settings.kafka.partitions == 12
    assert settings.horizon_days == 60
    assert settings.imap.allowed_ports == (993, 143)
    assert settings.warnings == ()


def test_all_problems_are_reported_at_once_by_name() -> None:
    text = problems(
        {
            "REPLYRATE_KAFKA__PARTITIONS": "many",
            "REPLYRATE_LOG__LEVEL": "loud",
            "REPLYRATE_IMAP__ALLOWED_PORTS": "993,70000",
        }
    )
    for name in (*REQUIRED, "REPLYRATE_KAFKA__PARTITIONS", "REPLYRATE_LOG__LEVEL", "REPLYRATE_IMAP__ALLOWED_PORTS"):
        assert name in text


def test_no_problem_repeats_a_value() -> None:
    text = problems(
        {**REQUIRED, "REPLYRATE_KAFKA__PARTITIONS": "canary-value", "REPLYRATE_HORIZON_DAYS": "canary-value"}
    )
    assert "canary" not in text


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "dsn"
    file.write_text("postgresql://from-file\n")
    environ = {name: text for name, text in REQUIRED.items() if "DSN" not in name}
    settings = load_settings({**environ, "REPLYRATE_POSTGRES__DSN_FILE": str(file)})
    assert settings.postgres.dsn.get_secret_value() == "postgresql://from-file"


def test_a_secret_that_is_set_twice_is_refused(tmp_path: Path) -> None:
    assert "both set" in problems({**REQUIRED, "REPLYRATE_POSTGRES__DSN_FILE": str(tmp_path / "dsn")})


def test_a_secret_file_that_is_missing_is_named(tmp_path: Path) -> None:
    environ = {name: text for name, text in REQUIRED.items() if "DSN" not in name}
    text = problems({**environ, "REPLYRATE_POSTGRES__DSN_FILE": str(tmp_path / "none")})
    assert text.startswith(f"REPLYRATE_POSTGRES__DSN_FILE: there is no file {tmp_path / 'none'};")
    assert "make secrets" in text and "\n" not in text


def test_an_empty_old_key_means_none_and_one_that_is_too_short_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "vault-old.key"
    file.touch()
    settings = load_settings({**REQUIRED, "REPLYRATE_VAULT_OLD_KEY_FILE": str(file)})
    assert settings.old_vault_key() is None
    assert load_settings({**REQUIRED, "REPLYRATE_VAULT_OLD_KEY_FILE": "/dev/null"}).old_vault_key() is None
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
def test_a_service_ends_with_78_and_names_the_file_and_the_fix(
    service: str, setting: str, request: pytest.FixtureRequest
) -> None:
    # Not tmp_path: only its owner can enter that.
    folder = Path(tempfile.mkdtemp(prefix="replyrate-secrets-"))
    request.addfinalizer(lambda: shutil.rmtree(folder))
    folder.chmod(0o755)
    secret, key = folder / "secret", folder / "hash.key"
    key.write_bytes(bytes(32))

    def problem_of_start(before: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-c", f"from services.{service}.__main__ import main, lifecycle\n{before}\nexit(lifecycle.run(main))"],
            env={
                "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **REQUIRED, "REPLYRATE_HASH_KEY_FILE": str(key),
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

    assert "there is no file" in (problem := problem_of_start()) and "`make secrets`" in problem
    secret.touch()
    assert re.search("is empty|with 0 bytes", problem := problem_of_start()) and "`make secrets`" in problem
    secret.write_bytes(b"canary" * 6)
    secret.chmod(0)
    # Root may read everything; a container never runs as root.
    assert (
        "may not read" in (problem := problem_of_start("import os; os.setuid(65534)" if os.geteuid() == 0 else ""))
        and "chmod 444" in problem
    )
    secret.unlink()
    secret.mkdir()
    assert "is a folder" in (problem := problem_of_start()) and "`make secrets`" in problem


def test_an_unknown_name_is_a_warning_with_the_nearest_name() -> None:
    settings = load_settings({**REQUIRED, "REPLYRATE_HORIZON_DAY": "30"})
    assert settings.warnings == ("REPLYRATE_HORIZON_DAY is not a setting; did you mean REPLYRATE_HORIZON_DAYS?",)
    assert settings.horizon_days == 60


BROKER = {"REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "broker:9092"}
HASH_KEY = {"REPLYRATE_HASH_KEY_FILE": "/nowhere/hash.key"}
DSN = {"REPLYRATE_POSTGRES__DSN": "postgresql://db/replyrate"}


def test_a_service_needs_only_the_settings_that_it_reads() -> None:
    assert load_settings({**BROKER, **HASH_KEY}, MatcherConfig).matcher.app_id == "replyrate-matcher"
    assert load_settings({**BROKER, **DSN}, AggregatorConfig).matcher.app_id == "replyrate-matcher"
    assert load_settings({**BROKER, **HASH_KEY, **DSN}, FetcherConfig).fetcher.workers == 8
    with pytest.raises(ConfigError) as caught:
        load_settings({}, MatcherConfig)
    assert [problem.partition(" ")[0] for problem in caught.value.problems] == [
        "REPLYRATE_HASH_KEY_FILE", "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS",
    ]  # fmt: skip


def test_settings_of_another_service_are_neither_read_nor_checked_nor_unknown(tmp_path: Path) -> None:
    foreign = {
        "REPLYRATE_POSTGRES__PASSWORD_FILE": str(tmp_path / "not-mounted-here"),
        "REPLYRATE_FETCHER__WORKERS": "many",
        "REPLYRATE_AGGREGATOR__GROUP": "replyrate-matcher",
    }
    assert load_settings({**BROKER, **HASH_KEY, **foreign}, MatcherConfig).warnings == ()


def test_every_setting_is_read_by_some_service_and_shared_ones_by_all() -> None:
    by_name = {setting.name: readers(setting) for setting in declarations()}
    assert all(by_name.values())
    assert by_name["REPLYRATE_KAFKA__BOOTSTRAP_SERVERS"] == ["fetcher", "matcher", "aggregator", "portal", "console"]
    assert by_name["REPLYRATE_POSTGRES__DSN"] == ["fetcher", "aggregator", "portal", "console"]
    assert by_name["REPLYRATE_MATCHER__APP_ID"] == ["matcher", "aggregator", "console"]
    assert by_name["REPLYRATE_VAULT_KEY_FILE"] == ["fetcher"]


def test_the_web_process_reads_the_id_of_a_client_and_no_secret() -> None:
    secrets = {setting.name for setting in declarations(PortalConfig) if setting.secret}
    assert secrets == {
        "REPLYRATE_KAFKA__SASL_PASSWORD", "REPLYRATE_POSTGRES__DSN", "REPLYRATE_POSTGRES__PASSWORD",
    }  # fmt: skip
    google = {"REPLYRATE_OAUTH2__GOOGLE__CLIENT_ID": "our-client", "REPLYRATE_OAUTH2__GOOGLE__CLIENT_SECRET": "canary"}
    loaded = load_settings({**REQUIRED, **google}, PortalConfig)
    assert loaded.oauth2.google.client_id == "our-client" and loaded.warnings == ()
    assert "canary" not in str(loaded.model_dump())


def test_only_the_console_needs_the_secret_of_its_client(tmp_path: Path) -> None:
    """With the settings of an installation in one file, `init` and the other commands run where the secret is not."""
    issuer = {
        "REPLYRATE_CONSOLE__ISSUER": "https://login.example/tenant",
        "REPLYRATE_CONSOLE__CLIENT_ID": "console",
    }
    client_id, secret = "REPLYRATE_CONSOLE__CLIENT_ID", "REPLYRATE_CONSOLE__CLIENT_SECRET"
    missing = {f"{secret}_FILE": str(tmp_path / "client-secret")}
    for more in ({}, missing, {secret: "canary"}, {secret: ""}):
        loaded = load_settings({**REQUIRED, **issuer, **more})
        assert loaded.console.issuer and loaded.console.client_secret is None and loaded.warnings == ()
    with pytest.raises(ConfigError, match=f"{secret} is not set"):
        load_settings({**REQUIRED, **issuer}, ConsoleConfig)
    with pytest.raises(ConfigError, match=f"{secret}_FILE: there is no file"):
        load_settings({**REQUIRED, **issuer, **missing}, ConsoleConfig)
    with pytest.raises(ConfigError, match=f"{client_id} is not set"):
        load_settings({**REQUIRED, "REPLYRATE_CONSOLE__ISSUER": "https://login.example", secret: "x"}, ConsoleConfig)
    assert load_settings({**REQUIRED, **missing}, ConsoleConfig).console.client_secret is None, "nobody signs in there"
    (tmp_path / "client-secret").write_text("canary\n", "utf-8")
    read = load_settings({**REQUIRED, **issuer, **missing}, ConsoleConfig).console.client_secret
    assert read is not None and read.get_secret_value() == "canary"


def test_sasl_needs_its_user_and_password() -> None:
    text = problems({**REQUIRED, "REPLYRATE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"})
    assert text.count("SASL_SSL needs it") == 3


@pytest.mark.parametrize(("lease", "session"), [("179.9", "120"), ("30", "21"), ("300", "300")])
def test_a_lease_that_a_session_could_outlive_is_refused_with_both_names(lease: str, session: str) -> None:
    text = problems({**REQUIRED, "REPLYRATE_FETCHER__LEASE_SECONDS": lease, "REPLYRATE_IMAP__SESSION_SECONDS": session})
    assert (
        f"REPLYRATE_FETCHER__LEASE_SECONDS ({lease})" in text and f"REPLYRATE_IMAP__SESSION_SECONDS ({session})" in text
    )
    assert "raise the first or lower the second" in text


def test_a_lease_of_one_and_a_half_sessions_is_enough() -> None:
    pair = {"REPLYRATE_FETCHER__LEASE_SECONDS": "30", "REPLYRATE_IMAP__SESSION_SECONDS": "20"}
    assert load_settings({**REQUIRED, **pair}).imap.session_seconds == 20


def test_values_that_contradict_each_other_are_refused() -> None:
    assert "lower it" in problems({**REQUIRED, "REPLYRATE_KAFKA__MIN_INSYNC_REPLICAS": "2"})
    same = {"REPLYRATE_MATCHER__APP_ID": "x", "REPLYRATE_AGGREGATOR__GROUP": "x"}
    assert "same consumer group" in problems({**REQUIRED, **same})


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_refused(tmp_path: Path, length: int) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"k" * length)
    settings = load_settings({**REQUIRED, "REPLYRATE_HASH_KEY_FILE": str(file)})
    with pytest.raises(ConfigError, match="HASH_KEY_FILE names a file with"):
        settings.hash_key()


def test_a_key_is_read_raw(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"\n" * 32)
    assert load_settings({**REQUIRED, "REPLYRATE_HASH_KEY_FILE": str(file)}).hash_key() == b"\n" * 32


def test_the_vault_key_is_required_only_where_it_is_used() -> None:
    with pytest.raises(ConfigError, match="REPLYRATE_VAULT_KEY_FILE is not set"):
        load_settings(REQUIRED).vault_key()


def test_no_secret_is_in_the_text_of_the_settings() -> None:
    assert "canary" not in repr(load_settings(REQUIRED))


def test_every_setting_is_described() -> None:
    assert [setting.name for setting in declarations() if len(setting.description) < 10] == []


def test_a_password_joins_the_dsn_in_either_form(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p/@ '\\:é\n", "utf-8")
    for dsn in ("postgresql://user@db:5432/replyrate", "host=db user=user", "postgresql://user@db/x?sslmode=require"):
        environ = {**REQUIRED, "REPLYRATE_POSTGRES__DSN": dsn, "REPLYRATE_POSTGRES__PASSWORD_FILE": str(file)}
        joined = conninfo_to_dict(load_settings(environ).postgres.dsn.get_secret_value())
        assert joined == {**conninfo_to_dict(dsn), "password": "p/@ '\\:é"}
    assert "canary" not in repr(load_settings(REQUIRED))


def test_a_private_host_is_a_name() -> None:
    settings = load_settings({**REQUIRED, "REPLYRATE_IMAP__PRIVATE_HOSTS": "mail.corp.example, demo-mail"})
    assert settings.imap.private_hosts == ("mail.corp.example", "demo-mail")
    assert "PRIVATE_HOSTS" in problems({**REQUIRED, "REPLYRATE_IMAP__PRIVATE_HOSTS": "https://mail"})


def test_numbers_by_name_are_read_and_refused_by_name() -> None:
    name = "REPLYRATE_IMAP__PROVIDER_SESSIONS"
    sessions = load_settings({**REQUIRED, name: "qq=20, imap.corp.example = 4,"}).imap.provider_sessions
    assert sessions == {"qq": 20, "imap.corp.example": 4}
    assert load_settings({**REQUIRED, name: ""}).imap.provider_sessions == {}
    for wrong in ("qq", "qq=", "=4", "qq=many", "qq=-1", "qq=1,qq=2", "qq=0", "QQ=4"):
        text = problems({**REQUIRED, name: wrong})
        assert text.startswith(f"{name}: ") and "NAME=NUMBER" in text
    with pytest.raises(ConfigError) as caught:
        login_slots.check(load_settings({**REQUIRED, name: "qq=1,imap.corp.example=1,imap.qq.com=1,qqq=1"}).imap)
    assert [problem.partition(": ")[2].split("; ")[-1] for problem in caught.value.problems] == [
        "write qq", "write one of them",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://Replies.example/", "https://replies.example"),
        ("https://replies.example:443", "https://replies.example"),
        ("http://replies.example:80/", "http://replies.example"),
        ("https://replies.example:80", "https://replies.example:80"),
        ("https://replies.example:4430", "https://replies.example:4430"),
        ("http://[::1]:8480", "http://[::1]:8480"),
    ],
)
def test_a_public_address_is_compared_as_browsers_send_it(written: str, origin: str) -> None:
    assert PortalSettings.model_validate({"public_url": written}).public_url == origin


def test_origins_are_compared_as_browsers_send_them() -> None:
    origins = "https://shop.example:443,https://shop.example:8443,http://localhost:80"
    settings = PortalSettings.model_validate({"return_origins": origins})
    assert settings.return_origins == ("https://shop.example", "https://shop.example:8443", "http://localhost")


@pytest.mark.parametrize(
    "written", ["replies.example", "ftp://replies.example", "https://replies.example/panel", "https://:443"]
)
def test_what_is_no_public_address_is_refused(written: str) -> None:
    assert "REPLYRATE_PORTAL__PUBLIC_URL: write scheme and host" in problems(
        REQUIRED | {"REPLYRATE_PORTAL__PUBLIC_URL": written}
    )
