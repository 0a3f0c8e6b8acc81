"""The pages of a service."""

import pytest

from services.common.errors import ConfigError
from services.common.http import serve
from services.common.settings import HttpSettings
from services.standalone.servers.child import free_port
from tests.support.processes import get


def settings(port: int) -> HttpSettings:
    return HttpSettings.model_validate({"port": port})


def test_state_pages_give_the_reasons_and_an_unhealthy_service_is_not_ready() -> None:
    healthy: list[str] = []
    ready = ["kafka does not answer", "no partition is assigned"]
    with serve(settings(free_port()), "fetcher", lambda: healthy, lambda: ready) as port:
        assert get(port, "/healthz") == (200, "yes\n")
        assert get(port, "/readyz") == (503, "no\nkafka does not answer\nno partition is assigned\n")
        ready.clear()
        assert get(port, "/readyz?x=1") == (200, "yes\n")
        healthy.append("the join loop has not progressed for 301 s")
        assert (
            get(port, "/healthz") == get(port, "/readyz") == (503, "no\nthe join loop has not progressed for 301 s\n")
        )
        assert get(port, "/else")[0] == 404


def test_a_service_shows_its_own_metrics_and_no_false_0_of_another() -> None:
    with serve(settings(free_port()), "fetcher", list, list) as port:
        text = get(port, "/metrics")[1]
    assert "replyrate_fetcher_poll_delay_seconds" in text and "replyrate_dependency_failures_total" in text
    assert "replyrate_matcher_" not in text and "replyrate_aggregator_" not in text
    assert "replyrate_dead_letters_waiting" not in text


def test_port_0_serves_nothing() -> None:
    with serve(settings(0), "matcher", list, list) as port:
        assert port == 0


def test_a_taken_port_is_named() -> None:
    with (
        serve(settings(free_port()), "matcher", list, list) as port,
        pytest.raises(ConfigError, match="REPLYRATE_HTTP__PORT"),
        serve(settings(port), "matcher", list, list),
    ):
        pass
