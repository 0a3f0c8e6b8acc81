"""What the matcher says about itself while state is rebuilt."""

from datetime import UTC, datetime
from pathlib import Path

from services.common.hashing import Hasher
from services.common.health import STUCK_SECONDS
from services.common.lifecycle import Heartbeat
from services.common.settings import KafkaSettings, MatcherSettings
from services.matcher.host import Matcher


def test_a_recovery_is_healthy_while_rows_come_and_ready_when_it_is_done(tmp_path: Path) -> None:
    now = [0.0]
    heartbeat = Heartbeat(STUCK_SECONDS, lambda: now[0])
    matcher = Matcher(
        KafkaSettings.model_validate({"bootstrap_servers": "127.0.0.1:9", "partitions": 4}),
        MatcherSettings.model_validate({"store": "memory", "data_dir": tmp_path}),
        Hasher(bytes(32)),
        horizon_days=60,
        version="0",
        clock=lambda: datetime.now(UTC),
        monotonic=lambda: now[0],
        heartbeat=heartbeat,
    )
    assert matcher.not_ready() == ["joining the consumer group"]
    assert not matcher.ready()
    matcher._recovering = True
    for _ in range(5):
        now[0] += 200
        matcher._recover(0, [(b"i\x1fc1", None)])
        assert heartbeat.problems("join") == [], "rows come, however long it takes"
    now[0] += STUCK_SECONDS + 1
    assert heartbeat.problems("join") == ["the join loop stands still for 301 s"]
