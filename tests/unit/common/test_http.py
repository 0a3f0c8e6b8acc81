"""The pages of a service."""

import pytest

from services.common.errors import ConfigError
from services.common.http import serve
from services.common.metrics import REGISTRY, declared
from services.standalone.servers.child import free_port
from tests.support.processes import get


def test_states_tell_their_reasons_and_who_is_not_healthy_is_not_ready() -> None:
    healthy: list[str] = []
    ready = ["kafka does not answer", "no partition is assigned"]
    with serve(free_port(), lambda: healthy, lambda: ready) as port:
        assert get(port, "/healthz") == (200, "yes\n")
        assert get(port, "/readyz") == (503, "no\nkafka does not answer\nno partition is assigned\n")
        ready.clear()
        assert get(port, "/readyz?x=1") == (200, "yes\n")
        healthy.append("the join loop has not progressed for 301 s")
        assert (
            get(port, "/healthz") == get(port, "/readyz") == (503, "no\nthe join loop has not progressed for 301 s\n")
        )
        assert "replyrate_fetcher_polls_total" in get(port, "/metrics")[1]
        assert get(port, "/else")[0] == 404


def test_port_0_serves_nothing() -> None:
    with serve(0, list, list) as port:
        assert port == 0


def test_a_taken_port_is_named() -> None:
    with serve(free_port(), list, list) as port:
        with pytest.raises(ConfigError, match="REPLYRATE_HTTP__PORT"), serve(port, list, list):
            pass


def test_metric_names_have_our_prefix_and_no_label_per_tenant() -> None:
    assert declared()
    for name, _, text in declared():
        assert name.startswith("replyrate_") and text.endswith(".")
    labels = {
        label for family in REGISTRY._names_to_collectors.values() for label in getattr(family, "_labelnames", ())
    }
    # A closed list: what is added must be known to have few values, whoever is connected.
    assert labels == {"service", "reason", "dependency", "version", "python", "result", "again", "kind", "state",
                      "type", "topic", "evidence", "rule_set", "table"}  # fmt: skip
