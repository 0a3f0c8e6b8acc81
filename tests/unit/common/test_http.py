"""The pages of a service."""

import urllib.error
import urllib.request

import pytest

from services.common.errors import ConfigError
from services.common.http import serve
from services.common.metrics import REGISTRY, declared
from services.standalone.child import free_port


def get(port: int, page: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_live_ready_and_metrics() -> None:
    state = {"live": True, "ready": False}
    with serve(free_port(), lambda: state["live"], lambda: state["ready"]) as port:
        assert get(port, "/live") == (200, "yes\n")
        assert get(port, "/ready") == (503, "no\n")
        state.update(live=False, ready=True)
        assert get(port, "/live?x=1") == (503, "no\n")
        assert get(port, "/ready") == (200, "yes\n")
        assert "replyrate_fetcher_polls_total" in get(port, "/metrics")[1]
        assert get(port, "/else")[0] == 404


def test_port_0_serves_nothing() -> None:
    with serve(0, lambda: True, lambda: True) as port:
        assert port == 0


def test_a_taken_port_is_named() -> None:
    with serve(free_port(), lambda: True, lambda: True) as port:
        with pytest.raises(ConfigError, match="REPLYRATE_HTTP__PORT"), serve(port, lambda: True, lambda: True):
            pass


def test_metric_names_have_our_prefix_and_no_label_per_tenant() -> None:
    assert declared()
    for name, _, text in declared():
        assert name.startswith("replyrate_") and text.endswith(".")
    labels = {
        label for family in REGISTRY._names_to_collectors.values() for label in getattr(family, "_labelnames", ())
    }
    assert not labels & {"mailbox_id", "company_id", "account_id", "address", "host"}
