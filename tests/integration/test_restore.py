"""A dump of Postgres that is older than what the services have done since: restored, they catch up by themselves."""

import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from services.common.postgres import connect
from services.common.topics import DEAD
from services.standalone.demo.demo import EmbeddedStage
from services.standalone.demo.report import DemoReport
from services.standalone.world import cast
from services.standalone.world.world import Wave
from tests.support.topics import kafka_settings, read_all


class BackedUp(EmbeddedStage):
    """The demo; a dump is taken while the services work, before the second wave of facts."""

    @property
    def dump(self) -> Path:
        return self.folder / "replyrate.dump"

    def _publish(self, wave: Wave) -> None:
        if wave == "second":
            self.run("pg_dump", "--format=custom", f"--file={self.dump}", self.dsn)
            with connect(self.dsn, "tests") as connection:
                self.dumped_facts = facts(connection)
        super()._publish(wave)

    def run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.postgres.binaries / program), *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr

    def restore(self) -> None:
        """As docs/keys-and-backup.md describes it: an empty database of the same name, filled from the dump."""
        self.postgres.drop_database("replyrate")
        self.postgres.create_database("replyrate", "template0")
        self.run("pg_restore", "--exit-on-error", f"--dbname={self.dsn}", str(self.dump))


def facts(connection: object) -> tuple[int, ...]:
    settled = connection.execute(  # type: ignore[attr-defined]
        "SELECT (SELECT count(*) FROM ledger.inquiries), (SELECT count(*) FROM ledger.replies),"
        " (SELECT coalesce(sum(next_offset), 0)::int FROM ledger.offsets), (SELECT count(*) FROM registry.published_messages)"
    ).fetchone()
    return tuple(settled)


def test_services_catch_up_from_an_older_dump(scratch: Path) -> None:
    with ExitStack() as stack:
        stage = BackedUp(scratch, cast.build(5, datetime.now(UTC).replace(microsecond=0)), lambda _: None, stack)
        stage.open()
        stage.play()
        before = DemoReport()
        stage.read(before)
        assert before.differences == [] and before.checked_outcomes > 800
        with connect(stage.dsn, "tests") as connection:
            full = facts(connection)
        assert all(now > then for now, then in zip(full, stage.dumped_facts, strict=True)), (
            "the dump is older in everything"
        )

        assert set(stage.supervisor.stop().values()) == {0}
        stage.restore()
        with connect(stage.dsn, "tests") as connection:
            assert facts(connection)[0] < full[0]
        stage.supervisor.start()
        # What people changed since the dump is not in Kafka: they must do it again.
        stage._change_addresses()
        after = DemoReport()
        stage.read(after)
        assert after.differences == [] and after.checked_outcomes == before.checked_outcomes
        with connect(stage.dsn, "tests") as connection:
            assert facts(connection)[:2] == full[:2], "no fact is missing, none is there twice"
        assert read_all(kafka_settings(stage.kafka.bootstrap_servers), DEAD) == []
        assert set(stage.supervisor.stop().values()) == {0}
