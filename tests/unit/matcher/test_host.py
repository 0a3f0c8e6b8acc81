"""What the matcher reports about itself while state is rebuilt."""

from pathlib import Path

from services.common.health import STUCK_SECONDS
from services.common.lifecycle import Heartbeat
from tests.support.matching import a_matcher


def test_a_recovery_is_healthy_while_rows_come_and_ready_when_it_is_done(tmp_path: Path) -> None:
    now = [0.0]
    heartbeat = Heartbeat(STUCK_SECONDS, lambda: now[0])
    matcher = a_matcher(tmp_path, heartbeat, lambda: now[0])
    assert matcher.not_ready() == ["joining the consumer group"]
    assert not matcher.ready()
    matcher.recovery.running = True
    for _ in range(5):
        now[0] += 200
        matcher.recovery.merge(0, [(b"i\x1fc1", None)])
        assert heartbeat.problems("join") == [], "rows come, however long it takes"
    now[0] += STUCK_SECONDS + 1
    assert heartbeat.problems("join") == ["the join loop has not progressed for 301 s"]
