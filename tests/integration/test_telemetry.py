"""Spans: what is told and what never is, and that nothing waits for who listens."""

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from services.aggregator.refresh import trace_handoff
from services.aggregator.refresh.trace_handoff import TraceHandoff
from services.common.errors import ConfigError
from services.common.kafka import Record
from services.common.settings import TelemetrySettings
from services.common.telemetry import NO_SPAN, OFF, ended, opened, telling
from services.common.topics import REPLIES, reply_key
from services.common.trace import TRACEPARENT, trace_id, traceparent
from services.fetcher.poll_report import PollReport
from services.standalone.demo.demo import EmbeddedStage
from services.standalone.demo.report import DemoReport
from services.standalone.servers.child import free_port
from services.standalone.servers.postgres import scratch_folder
from services.standalone.world import cast
from tests.support.collector import Collector
from tests.support.pollers import leased_mailbox

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOT_SAMPLED = PARENT[:-2] + b"00"


def settings(collector: Collector | str, **changes: Any) -> TelemetrySettings:
    endpoint = collector if isinstance(collector, str) else collector.endpoint
    return TelemetrySettings.model_validate({"endpoint": endpoint, **changes})


def test_off_is_nothing() -> None:
    tracing = opened(TelemetrySettings.model_validate({}), "fetcher", "1")
    assert tracing is OFF and not tracing.on
    span = tracing.start("poll")
    assert span is NO_SPAN and span.traceparent is None
    with ended(span):
        span.set(published=1)
        span.failed("x")
    tracing.close()


@pytest.mark.parametrize("service", ["fetcher", "matcher", "aggregator"])
def test_while_it_is_off_nothing_of_it_is_imported(service: str) -> None:
    code = (
        f"import services.{service}.__main__, sys;"
        " from services.common import telemetry; from services.common.settings import TelemetrySettings;"
        " telemetry.opened(TelemetrySettings.model_validate({}), 'x', '1');"
        " sys.exit(any(name.startswith(('opentelemetry', 'google.protobuf')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_endpoint_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "services.common.spans", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match=r"pip install --require-hashes -r requirements/telemetry\.txt"):
        opened(settings("http://127.0.0.1:9/v1/traces"), "fetcher", "1")


@pytest.mark.parametrize("endpoint", [
    "collector:4318", "ftp://collector/v1", "http://user:secret@collector/v1", "", "http://[", "http://x:99999/v1/traces",
    "http:///v1/traces", "http://:4318/v1/traces", "http://collector:4318", "http://collector:4318/", "http://c/v1?key=secret",
])  # fmt: skip
def test_an_endpoint_that_is_none_or_holds_a_secret_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="http://collector:4318/v1/traces"):
        settings(endpoint)


def test_a_span_belongs_to_the_trace_that_came() -> None:
    with Collector() as collector:
        with telling(settings(collector), "matcher", "1.2") as tracing:
            with ended(tracing.start("join", PARENT)) as span:
                span.set(topic="sent-messages.v1", first_offset=7)
            made = span.traceparent
            with pytest.raises(ZeroDivisionError), ended(tracing.start("merge", made)):
                raise ZeroDivisionError("a secret text")
            with ended(tracing.start("join", NOT_SAMPLED)) as unheard:
                pass
        join, merge = sorted(collector.spans(), key=lambda one: one["name"])
    assert made is not None and traceparent([(TRACEPARENT, made)]) == made
    assert (join["trace"], join["parent"]) == (trace_id(PARENT), PARENT[36:52].decode())
    assert (merge["trace"], merge["parent"]) == (join["trace"], join["id"])
    assert join["attributes"] == {"replyrate.topic": "sent-messages.v1", "replyrate.first_offset": 7}
    assert (join["failed"], merge["failed"]) == (None, "ZeroDivisionError")
    assert join["resource"] == {
        "service.namespace": "replyrate", "service.name": "replyrate-matcher", "service.version": "1.2",
    }  # fmt: skip
    assert b"secret text" not in collector.bytes
    assert unheard.traceparent is None


def test_the_ratio_decides_where_a_trace_begins_and_nowhere_else() -> None:
    with Collector() as collector:
        with telling(settings(collector, sample_ratio=0), "fetcher", "1") as tracing:
            with ended(tracing.start("poll")) as span:
                assert span.traceparent is None, "no record is to carry what nobody is told of"
            with ended(tracing.start("join", PARENT)):
                pass
        assert [one["name"] for one in collector.spans()] == ["join"]


@pytest.mark.parametrize("trouble", [{"status": 503}, {"hang_seconds": 60}, None])
def test_a_collector_in_trouble_holds_nobody_up(trouble: Mapping[str, Any] | None) -> None:
    with Collector(**(trouble or {})) as collector:
        endpoint = collector.endpoint if trouble is not None else f"http://127.0.0.1:{free_port()}/v1/traces"
        tracing = opened(settings(endpoint), "fetcher", "1")
        began = time.monotonic()
        for _ in range(10_000):
            tracing.start("poll").end()
        assert time.monotonic() - began < 10, "spans that cannot be sent are dropped"
        began = time.monotonic()
        tracing.close()
        assert time.monotonic() - began < 5, "a service must stop in time"


def record(company_id: str, offset: int, header: bytes | None) -> Record:
    headers = () if header is None else ((TRACEPARENT, header),)
    return Record(REPLIES, 3, offset, reply_key(company_id, f"i{offset}"), b"{}", headers)


def test_a_refresh_belongs_to_the_merges_that_made_it_due() -> None:
    other = PARENT.replace(b"0af7", b"1af7")
    with Collector() as collector:
        with telling(settings(collector), "aggregator", "1") as tracing:
            merged = TraceHandoff(tracing)
            records = [record("c1", 0, PARENT), record("c2", 1, PARENT), record("c3", 2, other), record("c4", 3, None),
                       record("c5", 4, NOT_SAMPLED)]  # fmt: skip
            with merged.merging(records):
                pass
            with merged.refreshing(["c1", "c2", "c4", "c5"]):
                pass
            with merged.refreshing(["c1"]):
                pass
        merges = {one["trace"]: one for one in collector.spans("merge")}
        assert merges.keys() == {trace_id(PARENT), trace_id(other)}
        (refresh,) = collector.spans("refresh")
        mine = merges[trace_id(PARENT)]
        assert (refresh["trace"], refresh["parent"]) == (mine["trace"], mine["id"])
        assert mine["attributes"] == {
            "replyrate.topic": REPLIES, "replyrate.partition": 3, "replyrate.first_offset": 0,
        }  # fmt: skip
        assert not any(name in collector.bytes for name in (b"c1", b"c2", b"i0"))


def test_what_others_judge_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_handoff, "MOST_COMPANIES", 2)
    clock = 0.0
    with Collector() as collector:
        with telling(settings(collector), "aggregator", "1") as tracing:
            merged = TraceHandoff(tracing, lambda: clock)
            for number in range(4):
                with merged.merging([record(f"c{number}", number, PARENT)]):
                    pass
            with merged.refreshing(["c0", "c1"]):
                pass
            with merged.refreshing(["c2"]):
                pass
            # Whatever makes it due now, it is not that merge.
            clock = 61.0
            with merged.refreshing(["c3"]):
                pass
        assert len(collector.spans("refresh")) == 1


def test_a_refresh_that_is_tried_again_is_told_again_and_a_merge_that_fails_makes_none() -> None:
    with Collector() as collector:
        with telling(settings(collector), "aggregator", "1") as tracing:
            merged = TraceHandoff(tracing)
            with pytest.raises(ZeroDivisionError), merged.merging([record("c2", 1, PARENT)]):
                raise ZeroDivisionError
            with merged.refreshing(["c2"]):
                pass
            with merged.merging([record("c1", 0, PARENT)]):
                with merged.refreshing(["c1"]):
                    pass  # it did not see what was not committed
            with pytest.raises(ZeroDivisionError), merged.refreshing(["c1"]):
                raise ZeroDivisionError
            with merged.refreshing(["c1"]):
                pass
        assert [one["failed"] for one in collector.spans("refresh")] == ["ZeroDivisionError", None]


def test_a_batch_without_an_acknowledgement_ends_as_failed() -> None:
    with Collector() as collector:
        with telling(settings(collector), "fetcher", "1") as tracing:
            report = PollReport(leased_mailbox(), tracing)
            report.batch_sent(3)
            report.close()
        (publish,) = collector.spans("publish")
        (poll,) = collector.spans("poll")
        assert (publish["failed"], publish["parent"]) == ("not-acknowledged", poll["id"])


def test_what_the_library_says_of_a_collector_is_one_line_of_ours(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.common.spans import LOST

    monkeypatch.setattr(LOST, "_said", float("-inf"))
    with Collector(status=404) as collector:
        with telling(settings(collector), "fetcher", "1") as tracing:
            for _ in range(3):
                tracing.start("poll").end()
                time.sleep(1.2)
    lines = [one for one in caplog.records if one.name.startswith("opentelemetry")]
    assert len(lines) == 1 and "REPLYRATE_TELEMETRY__ENDPOINT" in lines[0].getMessage()
    assert lines[0].__dict__["action"] == "spans-lost"


class Traced(EmbeddedStage):
    """The demo's play, with somebody who listens."""

    collector: Collector

    def environ(self) -> dict[str, str]:
        return super().environ() | {"REPLYRATE_TELEMETRY__ENDPOINT": self.collector.endpoint}


@pytest.mark.timeout(300)
def test_three_processes_tell_one_trace_from_the_poll_to_the_refresh() -> None:
    """Each span below the one that caused it; who they are about is in none; the numbers are what they are without."""
    folder = scratch_folder("replyrate-traces-")
    report = DemoReport()
    try:
        with ExitStack() as stack:
            stage = Traced(folder, cast.build(3, datetime.now(UTC).replace(microsecond=0)), lambda _: None, stack)
            collector = stage.collector = stack.enter_context(Collector())
            stage.open()
            stage.play()
            stage.read(report)
            assert report.differences == []
            assert stage.supervisor.stop() == {"matcher": 0, "fetcher": 0, "aggregator": 0}
            logs = b"".join(file.read_bytes() for file in (stage.folder / "services").glob("fetcher*.log"))
            world, ids = stage.world, [*stage.mailbox_ids.values()]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    spans = {one["id"]: one for one in collector.spans()}
    ways = {}
    for span in collector.spans("refresh"):
        way = [span]
        while way[-1]["parent"] in spans:
            way.append(spans[way[-1]["parent"]])
        assert len({one["trace"] for one in way}) == 1
        ways[tuple((one["service"].removeprefix("replyrate-"), one["name"]) for one in reversed(way))] = span["trace"]
    whole = (
        ("fetcher", "poll"), ("fetcher", "publish"), ("matcher", "join"), ("aggregator", "merge"), ("aggregator", "refresh"),
    )  # fmt: skip
    assert whole in ways, ways
    assert f'"trace_id": "{ways[whole]}"'.encode() in logs, "the log line of the poll leads to its trace"
    assert {one["attributes"]["replyrate.result"] for one in collector.spans("poll")} >= {"complete"}
    assert ids
    names = [one.address for one in world.mailboxes] + [one.account_id for one in world.mailboxes]
    for text in [*ids, *names, *(one.company_id for one in world.inquiries)]:
        assert text.encode() not in collector.bytes
