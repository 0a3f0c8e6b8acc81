"""The behaviour of faust-streaming and aiokafka that the matcher relies on, so that a changed one is found in an upgrade.

The kill, freeze and two-worker runs of tests/integration/test_matcher.py belong to this contract too.
"""

import asyncio
import inspect
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict, deque
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.subscription_state import Assignment, TopicPartitionState
from aiokafka.producer.message_accumulator import BatchBuilder
from faust import channels, streams
from faust.assignor.partition_assignor import PartitionAssignor
from faust.tables import recovery
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver

from services.common.settings import KafkaSettings
from services.matcher import faust_batches
from services.matcher.faust_batches import BatchConsumer
from services.standalone.servers.paths import ROOT
from tests.support.topics import committed, create_topics, kafka_settings, publish

HERE = TopicPartition("inquiries.v1", 0)


@pytest.mark.parametrize("name", ["faust-streaming", "aiokafka"])
def test_the_libraries_are_pinned_exactly(name: str) -> None:
    pinned = re.search(
        rf"^{name}(?:\[\S+\])?==(\S+)", (ROOT / "requirements" / "runtime.in").read_text("utf-8"), re.MULTILINE
    )
    assert pinned and metadata.version(name) == pinned[1]


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (driver.Consumer, ["getmany", "_add_gap", "_new_offset", "commit_and_end_transactions", "maybe_wait_for_commit_to_finish", "perform_seek", "on_partitions_revoked", "_wait_next_records", "highwater", "_new_consumer_thread"]),
        (driver.AIOKafkaConsumerThread, ["_create_worker_consumer"]),
        (faust.App, ["_new_transport"]),
        (faust.Table, ["on_rebalance", "on_recovery_completed", "on_start"]),
        (faust.Schema, ["loads_key", "loads_value"]),
        (recovery.Recovery, ["need_recovery"]),
        (BatchBuilder, ["append", "record_count"]),
    ],
)  # fmt: skip
def test_the_names_that_we_override_and_use_exist(owner: type, names: list[str]) -> None:
    assert [name for name in names if not hasattr(owner, name)] == []


def test_the_private_state_that_we_use_is_created_by_the_consumer() -> None:
    source = inspect.getsource(base.Consumer.__init__)
    for name in ("_acked", "_acked_index", "_read_offset", "_committed_offset", "_unacked_messages"):
        assert f"self.{name} = " in source
    assert "_buffered_partitions" in inspect.getsource(base)
    # Read when the consumer starts, so it may be set after construction.
    assert "isolation_level=self._isolation_level" in inspect.getsource(AIOKafkaConsumer.start)
    state = TopicPartitionState.__dict__.keys()
    assert (
        {"has_valid_position", "position"} <= state
        and hasattr(Assignment, "state_value")
        and hasattr(Assignment, "tps")
    )


def test_an_event_is_acknowledged_even_if_the_body_raised() -> None:
    """Why an error in the agent's body must end the process: an exception acknowledges the event."""
    source = inspect.getsource(streams.Stream._py_aiter)
    body = source[source.index("yield value") :]
    assert "finally:" in body and "event.ack()" in body[body.index("finally:") :]


def consumer(ends: list[int], acked: list[int]) -> BatchConsumer:
    batch_consumer: Any = object.__new__(BatchConsumer)
    batch_consumer.app = SimpleNamespace(batch_topics=frozenset({HERE.topic}))
    batch_consumer._batch_ends = defaultdict(deque, {HERE: deque(ends)})
    batch_consumer._acked = defaultdict(list, {HERE: list(acked)})
    batch_consumer._acked_index = defaultdict(set, {HERE: set(acked)})
    batch_consumer._undelivered = set()
    batch_consumer._committed_offset = defaultdict(lambda: None)
    return batch_consumer  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("ends", "acked", "offset", "left"),
    [
        ([9, 19, 29], [], None, [9, 19, 29]),
        ([9, 19, 29], [9], 10, [19, 29]),
        ([9, 19, 29], [19], None, [9, 19, 29]),
        ([9, 19, 29], [9, 19], 20, [29]),
        ([9, 19, 29], [19, 9, 29], 30, []),
        ([], [5], None, []),
    ],
)
def test_offsets_move_to_the_end_of_the_acknowledged_prefix(
    ends: list[int], acked: list[int], offset: int | None, left: list[int]
) -> None:
    batch_consumer = consumer(ends, acked)
    assert batch_consumer._new_offset(HERE) == offset
    assert list(batch_consumer._batch_ends[HERE]) == left
    assert batch_consumer._new_offset(HERE) is None


def test_a_batch_that_is_delivered_again_after_its_commit_does_not_stop_the_commits() -> None:
    batch_consumer = consumer([9], [9])
    assert batch_consumer._new_offset(HERE) == 10
    batch_consumer._committed_offset[HERE] = 10
    # Faust ignores the second acknowledgement of 9: it is before the committed offset (Consumer.ack, 0.15.3).
    assert "offset >= committed" in inspect.getsource(base.Consumer.ack)
    batch_consumer._batch_ends[HERE] += [9, 19]
    batch_consumer._acked[HERE].append(19)
    batch_consumer._acked_index[HERE].add(19)
    assert batch_consumer._new_offset(HERE) == 20


def test_the_last_commit_covers_what_was_acknowledged_during_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust waits for a commit in progress and then commits nothing itself."""
    batch_consumer: Any = consumer([9, 19], [9])
    batch_consumer.app.client_only, batch_consumer._commit_fut, batch_consumer.loop = False, None, None
    committed_offsets: list[int | None] = []
    answered = asyncio.Event()

    async def force_commit(self: Any, topics: Any = None, start_new_transaction: bool = True) -> bool:
        committed_offsets.append(self._new_offset(HERE))
        await answered.wait()
        return True

    async def stop() -> None:
        batch_consumer.loop = asyncio.get_running_loop()
        periodic = asyncio.create_task(batch_consumer.commit())
        await asyncio.sleep(0)
        batch_consumer._acked[HERE].append(19)
        batch_consumer._acked_index[HERE].add(19)
        last = asyncio.create_task(batch_consumer.commit_and_end_transactions())
        await asyncio.sleep(0)
        answered.set()
        await asyncio.gather(periodic, last)

    monkeypatch.setattr(driver.Consumer, "force_commit", force_commit)
    asyncio.run(stop())
    assert committed_offsets == [10, 20]


def test_an_acknowledgement_from_before_a_seek_does_not_stop_the_commits() -> None:
    batch_consumer = consumer([], [5])
    assert batch_consumer._new_offset(HERE) is None
    assert not batch_consumer._acked[HERE] and not batch_consumer._acked_index[HERE]


def test_a_partition_without_a_committed_offset_is_read_from_its_beginning_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """aiokafka leaves it where it is, which may be behind records that were fetched and dropped during a rebalance."""
    assert "if offset and offset > 0" in inspect.getsource(AIOKafkaConsumer.seek_to_committed)
    there = TopicPartition(HERE.topic, 1)
    sought: list[Any] = []

    async def seek_to_committed(self: Any) -> None:
        self._read_offset |= {HERE: None, there: 7}

    async def seek_to_beginning(*partitions: Any) -> None:
        sought.extend(partitions)

    monkeypatch.setattr(driver.Consumer, "perform_seek", seek_to_committed)
    batch_consumer: Any = consumer([], [])
    batch_consumer._read_offset = {}
    batch_consumer._thread = SimpleNamespace(
        seek_to_beginning=seek_to_beginning, assignment=lambda: {HERE, there, TopicPartition("changelog", 0)}
    )
    asyncio.run(batch_consumer.perform_seek())
    assert sought == [HERE]


def test_nothing_is_delivered_before_the_queues_of_the_streams_are_emptied() -> None:
    """Faust empties them when the flow resumes, after the seek; what came in between would be lost without an acknowledgement."""
    source = inspect.getsource(recovery.Recovery.on_recovery_completed)
    steps = (
        "table.on_recovery_completed",
        "resume_partitions",
        "perform_seek",
        "flow_control.resume",
        "consumer.resume_flow",
    )
    assert sorted(map(source.index, steps)) == [*map(source.index, steps)]
    assert "clear_on_resume=True" in inspect.getsource(channels)
    calls: list[str] = []

    async def load(partitions: set[int]) -> None:
        calls.append(f"load {partitions}")

    async def super_completed(self: Any, active_tps: Any, standby_tps: Any) -> None:
        pass

    table: Any = object.__new__(faust_batches.PartitionTable)
    table.load, table.app = load, SimpleNamespace(consumer=SimpleNamespace(stop_flow=lambda: calls.append("stop")))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(faust.Table, "on_recovery_completed", super_completed)
        asyncio.run(table.on_recovery_completed({HERE}, set()))
    assert calls == ["load {0}", "stop"]


def test_a_revoked_partition_forgets_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    batch_consumer = consumer([9], [])

    async def nothing(self: Any, revoked: Any) -> None:
        pass

    monkeypatch.setattr(driver.Consumer, "on_partitions_revoked", nothing)
    asyncio.run(batch_consumer.on_partitions_revoked({HERE}))
    assert HERE not in batch_consumer._batch_ends


@pytest.mark.parametrize(
    ("position", "committed_offset", "ends", "acked", "undelivered", "offset"),
    [
        (5, 4, [], [], set(), 5),  # the end of a transaction
        (1, None, [], [], set(), 1),  # the partition never had a record
        (5, 5, [], [], set(), None),  # nothing to pass
        (5, 4, [4], [], set(), None),  # a batch is in hand
        (5, 4, [4], [4], set(), 5),  # it is acknowledged, and its end is committed
        (5, 4, [], [], {HERE}, None),  # something was fetched and not delivered
        (None, 4, [], [], set(), None),  # before the first fetch
    ],
)
def test_control_records_are_passed_when_everything_before_them_is_acknowledged(
    position: int | None, committed_offset: int | None, ends: list[int], acked: list[int], undelivered: Any, offset: int | None
) -> None:  # fmt: skip
    batch_consumer: Any = consumer(ends, acked)
    batch_consumer._undelivered, batch_consumer._committed_offset[HERE] = undelivered, committed_offset
    position_state = SimpleNamespace(has_valid_position=position is not None, position=position)
    assignment = SimpleNamespace(tps={HERE}, state_value={HERE: position_state}.get)
    library = SimpleNamespace(_subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment)))
    batch_consumer._thread = SimpleNamespace(_ensure_consumer=lambda: library)
    batch_consumer._pass_gaps()
    assert batch_consumer._new_offset(HERE) == offset


@pytest.mark.parametrize("partitions", [{0, 1}, None, set()])
def test_partitions_are_not_assigned_from_incomplete_metadata(
    monkeypatch: pytest.MonkeyPatch, partitions: set[int] | None
) -> None:
    """A restarted broker may not list its topics yet; Faust ignores such a topic and never looks again."""
    assert "Ignoring missing topic" in inspect.getsource(PartitionAssignor._get_copartitioned_groups)
    assert "cls._get_copartitioned_groups(" in inspect.getsource(PartitionAssignor) or (
        "self._get_copartitioned_groups(" in inspect.getsource(PartitionAssignor)
    )

    def exit_unsafe(reason: str) -> None:
        raise SystemExit(reason)

    monkeypatch.setattr(faust_batches, "exit_unsafe", exit_unsafe)
    cluster = SimpleNamespace(partitions_for_topic={HERE.topic: partitions}.get)
    if partitions:
        groups = faust_batches.CompleteAssignor._get_copartitioned_groups({HERE.topic}, cluster, {"w": [HERE.topic]})
        assert [set(topics) for topics in groups[2]] == [{HERE.topic}]
    else:
        with pytest.raises(SystemExit, match="does not list the partitions of inquiries.v1"):
            faust_batches.CompleteAssignor._get_copartitioned_groups({HERE.topic}, cluster, {"w": [HERE.topic]})


FAILING = """
import os
import faust

app = faust.App("trap", broker="kafka://" + os.environ["BROKER"], datadir="data", web_enabled=False, topic_allow_declare=False,
                topic_disable_leader=True, consumer_auto_offset_reset="earliest", broker_commit_interval=0.2)
topic = app.topic("inquiries.v1", value_serializer="raw")

@app.agent(topic)
async def failing(stream):
    async for value in stream:
        raise ValueError("the body fails")

app.main()
"""


def test_an_exception_in_the_body_loses_the_event(topics_gone: str, tmp_path: Path) -> None:
    """Shown on a real broker: the offset moves past an event whose body raised. services.matcher.host must never raise."""
    settings: KafkaSettings = kafka_settings(topics_gone)
    create_topics(settings)
    publish(settings, "inquiries.v1", [(b"c", b"x")])
    script = tmp_path / "trap.py"
    script.write_text(FAILING, "utf-8")
    process = subprocess.Popen(
        [sys.executable, str(script), "worker", "--without-web"],
        env={"PATH": os.environ["PATH"], "BROKER": settings.bootstrap_servers},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=tmp_path,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not any(offset for offset in committed(settings, "trap").values()):
            assert process.poll() is None, "Faust ended"
            assert time.monotonic() < deadline, (
                "the event was not acknowledged: Faust changed, and services/matcher/host.py may become simpler"
            )
            time.sleep(0.3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
