"""Metrics: names, labels, and the registry that each one is in."""

from services.common import metrics


def test_metric_names_have_our_prefix_and_no_label_per_tenant() -> None:
    assert metrics.declared()
    for metric in metrics.declared():
        assert metric.name.startswith("replyrate_") and metric.meaning.endswith(".")
    labels = {
        label
        for registry in (metrics.EVERY_SERVICE, *metrics.REGISTRIES.values())
        for collector in registry._names_to_collectors.values()
        for label in getattr(collector, "_labelnames", ())
    }
    # A closed list: a label that is added must have few values, whichever mailboxes and companies are connected.
    assert labels == {"service", "reason", "dependency", "version", "python", "result", "again", "kind", "state",
                      "type", "topic", "evidence", "rule_set", "table"}  # fmt: skip


def test_a_metric_that_every_service_has_says_which_service_it_is_of() -> None:
    collectors = set(metrics.EVERY_SERVICE._names_to_collectors.values())
    assert collectors
    assert all("service" in getattr(collector, "_labelnames", ()) for collector in collectors)


def test_metrics_named_after_a_service_are_in_its_registry() -> None:
    for metric in metrics.declared():
        for service in metrics.REGISTRIES:
            if metric.name.startswith(f"replyrate_{service}_"):
                assert metric.service == service
