"""Spans: what is sent and what never is, and that nothing waits for a collector."""

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
from services.common.topics import REPLIES, reply_key
from services.common.trace_context import TRACEPARENT, trace_id, traceparent
from services.common.tracing import (
    OFF,
    ended,
    is_enabled,
    set_failed,
    set_values,
    start_span,
    traceparent_of,
    tracer_for,
)
from services.fetcher.poll_report import PollReport
from services.fetcher.poll_tally import PollTally
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


def test_tracing_is_off_without_an_endpoint_and_passes_a_parent_on() -> None:
    with tracer_for(TelemetrySettings.model_validate({}), "fetcher", "1") as tracer:
        assert tracer is OFF and not is_enabled(tracer)
        with ended(start_span(tracer, "poll")) as span:
            assert traceparent_of(span) is None and not span.is_recording()
            set_values(span, published=1)
            set_failed(span, "x")
        with ended(start_span(tracer, "join", PARENT)) as span:
            assert traceparent_of(span) == PARENT, "a record is still found by the trace that it came with"


@pytest.mark.parametrize("service", ["fetcher", "matcher", "aggregator"])
def test_while_it_is_off_only_the_api_of_opentelemetry_is_imported(service: str) -> None:
    code = (
        f"import services.{service}.__main__, sys;"
        " from services.common import tracing; from services.common.settings import TelemetrySettings;"
        " tracing.tracer_for(TelemetrySettings.model_validate({}), 'x', '1').__enter__();"
        " extra = ('opentelemetry.sdk', 'opentelemetry.exporter', 'opentelemetry.proto', 'google.protobuf', 'requests');"
        " sys.exit(any(name.startswith(extra) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_endpoint_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "services.common.tracing_export", raising=False)
    for package in ("opentelemetry.sdk", "opentelemetry.exporter"):
        for name in [name for name in sys.modules if name.startswith(package)]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
    with (
        pytest.raises(ConfigError, match=r"pip install --require-hashes -r requirements/telemetry\.txt"),
        tracer_for(settings("http://127.0.0.1:9/v1/traces"), "fetcher", "1"),
    ):
        pass


@pytest.mark.parametrize("endpoint", [
    "collector:4318", "ftp://collector/v1", "http://user:secret@collector/v1", "", "http://[", "http://x:99999/v1/traces",
    "http:///v1/traces", "http://:4318/v1/traces", "http://collector:4318", "http://collector:4318/", "http://c/v1?key=secret",
])  # fmt: skip
def test_an_endpoint_that_is_none_or_holds_a_secret_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="http://collector:4318/v1/traces"):
        settings(endpoint)


def test_a_span_belongs_to_the_trace_that_came() -> None:
    with Collector() as collector:
        with tracer_for(settings(collector), "matcher", "1.2") as tracer:
            with ended(start_span(tracer, "join", PARENT)) as span:
                set_values(span, topic="sent-messages.v1", first_offset=7)
            header = traceparent_of(span)
            with pytest.raises(ZeroDivisionError), ended(start_span(tracer, "merge", header)):
                raise ZeroDivisionError("a secret text")
            with ended(start_span(tracer, "join", NOT_SAMPLED)) as unsampled:
                pass
        join, merge = sorted(collector.spans(), key=lambda span: span["name"])
    assert header is not None and traceparent([(TRACEPARENT, header)]) == header
    assert (join["trace"], join["parent"]) == (trace_id(PARENT), PARENT[36:52].decode())
    assert (merge["trace"], merge["parent"]) == (join["trace"], join["id"])
    assert join["attributes"] == {"replyrate.topic": "sent-messages.v1", "replyrate.first_offset": 7}
    assert (join["failed"], merge["failed"]) == (None, "ZeroDivisionError")
    assert join["resource"] == {
        "service.namespace": "replyrate", "service.name": "replyrate-matcher", "service.version": "1.2",
    }  # fmt: skip
    assert b"secret text" not in collector.bytes
    assert traceparent_of(unsampled) is None


def test_the_ratio_decides_where_a_trace_starts_and_nowhere_else() -> None:
    with Collector() as collector:
        with tracer_for(settings(collector, sample_ratio=0), "fetcher", "1") as tracer:
            with ended(start_span(tracer, "poll")) as span:
                assert traceparent_of(span) is None, "no record carries a trace that is not sent"
            with ended(start_span(tracer, "join", PARENT)):
                pass
        assert [span["name"] for span in collector.spans()] == ["join"]


@pytest.mark.parametrize("trouble", [{"status": 503}, {"hang_seconds": 60}, None])
def test_a_collector_in_trouble_delays_nothing(trouble: Mapping[str, Any] | None) -> None:
    with Collector(**(trouble or {})) as collector, ExitStack() as stack:
        endpoint = collector.endpoint if trouble is not None else f"http://127.0.0.1:{free_port()}/v1/traces"
        tracer = stack.enter_context(tracer_for(settings(endpoint), "fetcher", "1"))
        started = time.monotonic()
        for _ in range(10_000):
            start_span(tracer, "poll").end()
        assert time.monotonic() - started < 10, "spans that cannot be sent are dropped"
        started = time.monotonic()
        stack.close()
        assert time.monotonic() - started < 5, "a service must stop in time"


def record(company_id: str, offset: int, header: bytes | None) -> Record:
    headers = () if header is None else ((TRACEPARENT, header),)
    return Record(REPLIES, 3, offset, reply_key(company_id, f"i{offset}"), b"{}", headers)


def test_a_refresh_belongs_to_the_merges_that_made_it_due() -> None:
    second_trace = PARENT.replace(b"0af7", b"1af7")
    with Collector() as collector:
        with tracer_for(settings(collector), "aggregator", "1") as tracer:
            merged = TraceHandoff(tracer)
            records = [record("c1", 0, PARENT), record("c2", 1, PARENT), record("c3", 2, second_trace), record("c4", 3, None),
                       record("c5", 4, NOT_SAMPLED)]  # fmt: skip
            with merged.merging(records):
                pass
            with merged.refreshing(["c1", "c2", "c4", "c5"]):
                pass
            with merged.refreshing(["c1"]):
                pass
        merges = {span["trace"]: span for span in collector.spans("merge")}
        assert merges.keys() == {trace_id(PARENT), trace_id(second_trace)}
        (refresh,) = collector.spans("refresh")
        mine = merges[trace_id(PARENT)]
        assert (refresh["trace"], refresh["parent"]) == (mine["trace"], mine["id"])
        assert mine["attributes"] == {
            "replyrate.topic": REPLIES, "replyrate.partition": 3, "replyrate.first_offset": 0,
        }  # fmt: skip
        assert not any(name in collector.bytes for name in (b"c1", b"c2", b"i0"))


def test_traces_of_companies_that_another_aggregator_judges_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_handoff, "MAX_COMPANIES", 2)
    clock = 0.0
    with Collector() as collector:
        with tracer_for(settings(collector), "aggregator", "1") as tracer:
            merged = TraceHandoff(tracer, lambda: clock)
            for number in range(4):
                with merged.merging([record(f"c{number}", number, PARENT)]):
                    pass
            with merged.refreshing(["c0", "c1"]):
                pass
            with merged.refreshing(["c2"]):
                pass
            # Whatever made it due now, it was not that merge.
            clock = 61.0
            with merged.refreshing(["c3"]):
                pass
        assert len(collector.spans("refresh")) == 1


def test_a_refresh_that_is_tried_again_has_a_span_again_and_a_merge_that_fails_has_none_below_it() -> None:
    with Collector() as collector:
        with tracer_for(settings(collector), "aggregator", "1") as tracer:
            merged = TraceHandoff(tracer)
            with pytest.raises(ZeroDivisionError), merged.merging([record("c2", 1, PARENT)]):
                raise ZeroDivisionError
            with merged.refreshing(["c2"]):
                pass
            with merged.merging([record("c1", 0, PARENT)]):
                with merged.refreshing(["c1"]):
                    pass  # it did not see what is not committed yet
            with pytest.raises(ZeroDivisionError), merged.refreshing(["c1"]):
                raise ZeroDivisionError
            with merged.refreshing(["c1"]):
                pass
        assert [span["failed"] for span in collector.spans("refresh")] == ["ZeroDivisionError", None]


def test_a_batch_without_an_acknowledgement_ends_as_failed() -> None:
    with Collector() as collector:
        with tracer_for(settings(collector), "fetcher", "1") as tracer:
            report = PollReport(leased_mailbox(), tracer, PollTally())
            report.batch_sent(3)
            report.close()
        (publish,) = collector.spans("publish")
        (poll,) = collector.spans("poll")
        assert (publish["failed"], publish["parent"]) == ("not-acknowledged", poll["id"])


def test_messages_of_the_library_about_a_collector_become_one_line_of_ours(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.common.tracing_export import LOST

    monkeypatch.setattr(LOST, "_logged_at", float("-inf"))
    with Collector(status=404) as collector:
        with tracer_for(settings(collector), "fetcher", "1") as tracer:
            for _ in range(3):
                start_span(tracer, "poll").end()
                time.sleep(1.2)
    lines = [line for line in caplog.records if line.name.startswith("opentelemetry")]
    assert len(lines) == 1 and "REPLYRATE_TELEMETRY__ENDPOINT" in lines[0].getMessage()
    assert lines[0].__dict__["action"] == "spans-lost"


class TracedStage(EmbeddedStage):
    """The demo with a collector."""

    collector: Collector

    def environ(self) -> dict[str, str]:
        # The log line of each poll, which has its trace, is at level debug.
        settings = {"REPLYRATE_TELEMETRY__ENDPOINT": self.collector.endpoint, "REPLYRATE_LOG__LEVEL": "debug"}
        return super().environ() | settings


def test_three_processes_send_one_trace_from_the_poll_to_the_refresh() -> None:
    """Each span is below the one that caused it; no span names a person, and the numbers are those without tracing."""
    folder = scratch_folder("replyrate-traces-")
    report = DemoReport()
    try:
        with ExitStack() as stack:
            stage = TracedStage(folder, cast.build(3, datetime.now(UTC).replace(microsecond=0)), lambda _: None, stack)
            collector = stage.collector = stack.enter_context(Collector())
            stage.open()
            stage.play()
            stage.read(report)
            assert report.differences == []
            assert stage.supervisor.stop() == {"matcher": 0, "fetcher": 0, "aggregator": 0, "portal": 0}
            logs = b"".join(file.read_bytes() for file in (stage.folder / "services").glob("fetcher*.log"))
            world, ids = stage.world, [*stage.mailbox_ids.values()]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    spans = {span["id"]: span for span in collector.spans()}
    trace_of_way = {}
    for refresh in collector.spans("refresh"):
        way = [refresh]
        while way[-1]["parent"] in spans:
            way.append(spans[way[-1]["parent"]])
        assert len({span["trace"] for span in way}) == 1
        names = tuple((span["service"].removeprefix("replyrate-"), span["name"]) for span in reversed(way))
        trace_of_way[names] = refresh["trace"]
    whole = (
        ("fetcher", "poll"), ("fetcher", "publish"), ("matcher", "join"), ("aggregator", "merge"), ("aggregator", "refresh"),
    )  # fmt: skip
    assert whole in trace_of_way, trace_of_way
    assert f'"trace_id": "{trace_of_way[whole]}"'.encode() in logs, "the log line of the poll leads to its trace"
    assert {span["attributes"]["replyrate.result"] for span in collector.spans("poll")} >= {"complete"}
    assert ids
    addresses = [mailbox.address for mailbox in world.mailboxes] + [mailbox.account_id for mailbox in world.mailboxes]
    for text in [*ids, *addresses, *(inquiry.company_id for inquiry in world.inquiries)]:
        assert text.encode() not in collector.bytes
