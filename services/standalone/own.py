"""One's own world: embedded Postgres and Kafka with kept data, and the three services, for one's own mailboxes.

Everything lives in one folder: data of both servers, keys, logs, and `settings.env`, which every other command reads
with `--data`. Stop, kill and start again end in the same numbers: the servers keep what they acknowledged, the services
are those of production.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from psycopg.rows import dict_row

from services.common import migrations
from services.common.errors import ConfigError
from services.common.kafka import Admin, Reader
from services.common.postgres import connect
from services.common.settings import PREFIX, Settings, load_settings
from services.common.topics import INQUIRIES, REPLIES, SENT, specs
from services.standalone.servers.child import free_port, keep_port
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.postgres import EmbeddedPostgres
from services.standalone.servers.server import start_together
from services.standalone.servers.supervisor import Supervisor

PARTITIONS: Final = 4
SETTINGS_FILE: Final = "settings.env"
Progress = Callable[[str], None]


class OwnInstallation:
    """The servers and services of one folder. A context manager; `keep` runs them until told to stop."""

    def __init__(self, folder: Path, environ: Mapping[str, str], progress: Progress) -> None:
        """Settings in `environ` that are not about the embedded servers hold for the services too."""
        self.folder = folder.absolute()
        self._environ = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
        self._progress = progress
        self._stack = ExitStack()
        self.dsn = ""
        self.bootstrap_servers = ""

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def keep(self, stopping: Callable[[float], bool]) -> None:
        """Keep the services up until `stopping(seconds)` is true. ConfigError when one refuses its configuration."""
        while not stopping(0.5):
            for name, code in self._supervisor.revive():
                self._progress(f"the {name} ended with {code} and is started again")

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        # Postgres drops to an unprivileged user when root runs it, who must be able to enter; its files stay closed.
        self.folder.chmod(0o711)
        ports = self._ports()
        postgres = EmbeddedPostgres(self.folder / "postgres", ports["postgres"], durable=True)
        kafka = EmbeddedKafka(self.folder / "kafka", ports["kafka"])
        self._progress("starting Postgres and Kafka")
        start_together(self._stack, postgres, kafka)
        # Only now: another process that has this folder in use keeps its ports.
        (self.folder / "ports.json").write_text(json.dumps(ports), "utf-8")
        if postgres.sql("SELECT 1 FROM pg_database WHERE datname = 'replyrate'") != "1":
            postgres.create_database("replyrate")
        self.dsn, self.bootstrap_servers = postgres.dsn("replyrate"), kafka.bootstrap_servers
        settings = self._write_settings()
        self._progress("checking schema and topics")
        with connect(self.dsn, "replyrate-standalone") as connection:
            migrations.migrate(connection, lambda _: None)
        with Admin(settings.kafka, "replyrate-standalone") as admin:
            admin.create_topics(specs(partitions=PARTITIONS, horizon_days=settings.horizon_days))
        self._supervisor = self._stack.enter_context(Supervisor(self.folder / "logs", read_settings(self.folder)))
        self._progress("starting fetcher, matcher and aggregator")
        self._supervisor.start()

    def _ports(self) -> dict[str, int]:
        """The ports of last time, as far as nobody else took them."""
        file = self.folder / "ports.json"
        before = json.loads(file.read_text("utf-8")) if file.exists() else {}
        return {
            name: before[name] if name in before and keep_port(before[name]) else free_port()
            for name in ("postgres", "kafka")
        }

    def _write_settings(self) -> Settings:
        for name in ("hash.key", "vault.key"):
            file = self.folder / name
            if not file.exists():
                file.touch(mode=0o600)
                file.write_bytes(secrets.token_bytes(32))
        values = {
            "REPLYRATE_AGGREGATOR__SESSION_TIMEOUT_SECONDS": "10",
            "REPLYRATE_MATCHER__SESSION_TIMEOUT_SECONDS": "10",
            "REPLYRATE_MATCHER__STORE": "memory",
            "REPLYRATE_IMAP__POLL_INTERVAL_SECONDS": "60",
            "REPLYRATE_FETCHER__WORKERS": "2",
            **self._environ,
            "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "REPLYRATE_KAFKA__PARTITIONS": str(PARTITIONS),
            "REPLYRATE_POSTGRES__DSN": self.dsn,
            "REPLYRATE_HASH_KEY_FILE": str(self.folder / "hash.key"),
            "REPLYRATE_VAULT_KEY_FILE": str(self.folder / "vault.key"),
            "REPLYRATE_MATCHER__DATA_DIR": str(self.folder / "matcher"),
        }
        values.pop("REPLYRATE_DATA", None)
        settings = load_settings(values)
        file = self.folder / SETTINGS_FILE
        file.touch(mode=0o600)
        file.write_text("".join(f"{name}={text}\n" for name, text in sorted(values.items())), "utf-8")
        return settings


def read_settings(folder: Path) -> dict[str, str]:
    """The settings that a running (or stopped) world of `folder` has. ConfigError when there is none."""
    file = folder / SETTINGS_FILE
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError:
        raise ConfigError(
            f"{folder} holds no world of its own; make one: replyrate standalone --data {folder}"
        ) from None
    return dict(line.split("=", 1) for line in lines if "=" in line)


@dataclass(frozen=True, slots=True)
class InstallationStatus:
    """How far everything is. Lags are records that are not worked off."""

    mailboxes: list[dict[str, Any]]
    matcher_lag: int
    aggregator_lag: int
    companies_waiting: int
    inquiries: int
    last_judged_at: datetime | None

    @property
    def settled(self) -> bool:
        """Whether every published fact stands in the numbers."""
        return not (self.matcher_lag or self.aggregator_lag or self.companies_waiting)


MAILBOXES: Final = """
SELECT company_id, account_id, mailbox_id, role, state, state_reason, advice_en, messages_seen, last_success_at,
    complete_through, next_poll_at FROM report_v1.mailbox_health ORDER BY company_id, account_id, mailbox_id
"""
NUMBERS: Final = """
SELECT (SELECT count(DISTINCT company_id) FROM ledger.dirty) AS waiting, (SELECT count(*) FROM ledger.inquiries) AS inquiries,
    (SELECT max(judged_at) FROM ledger.companies) AS judged_at,
    (SELECT json_agg(json_build_array(partition, next_offset)) FROM ledger.offsets WHERE topic = %(topic)s) AS merged
"""


def status(settings: Settings) -> InstallationStatus:
    """Ask Kafka and Postgres. TransientError when they are away."""
    with connect(settings.postgres.dsn.get_secret_value(), "replyrate-status") as connection:
        with connection.cursor(row_factory=dict_row) as cursor:
            mailboxes = cursor.execute(MAILBOXES).fetchall()
            row = cursor.execute(NUMBERS, {"topic": REPLIES}).fetchone()
    assert row is not None
    with Admin(settings.kafka, "replyrate-status") as admin:
        committed = admin.committed(settings.matcher.app_id)
    matcher_lag = sum(
        end - max(begin, committed.get((topic, partition), 0))
        for topic in (INQUIRIES, SENT)
        for partition, (begin, end) in _spans(settings, topic).items()
    )
    merged = dict(row["merged"] or ())
    aggregator_lag = sum(
        end - max(begin, merged.get(partition, 0)) for partition, (begin, end) in _spans(settings, REPLIES).items()
    )
    return InstallationStatus(
        mailboxes, matcher_lag, aggregator_lag, row["waiting"], row["inquiries"], row["judged_at"]
    )


def _spans(settings: Settings, topic: str) -> dict[int, tuple[int, int]]:
    """First and next offset of each partition."""
    with Reader(settings.kafka, "replyrate-status", topic) as reader:
        partitions = reader.partitions()
        begins, ends = reader.beginning_offsets(partitions), reader.end_offsets(partitions)
    return {partition: (begins[partition], ends[partition]) for partition in partitions}
