"""Alert rules and Grafana boards as data, and a check of the metrics that a PromQL expression names."""

import json
from collections.abc import Iterator
from typing import Any

import promql_parser
import yaml

from services.common.metrics import EVERY_SERVICE, REGISTRIES
from services.standalone.servers.paths import ROOT

GRAFANA = ROOT / "deploy" / "grafana"
BOARDS: dict[str, dict[str, Any]] = {
    f"{file.parent.name}/{file.stem}": json.loads(file.read_text("utf-8"))
    for file in sorted((GRAFANA / "dashboards").glob("*/*.json"))
}
"""Language and name → board."""
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
LABELS = {
    name: frozenset(getattr(collector, "_labelnames", ()))
    for registry in (EVERY_SERVICE, *REGISTRIES.values())
    for name, collector in registry._names_to_collectors.items()
}
"""Every series name of the registries (`…_total`, `…_bucket`, …) with its labels."""


def selectors(expression: str) -> Iterator[Any]:
    """The vector selectors of a PromQL expression. ValueError if it cannot be parsed."""
    nodes: list[Any] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            nodes.append(node)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    yield from nodes


def unknown(expression: str) -> list[str]:
    """Metrics and labels in an expression that no service exports."""
    problems = []
    for selector in selectors(expression):
        if selector.name not in LABELS:
            problems.append(f"no metric {selector.name}")
            continue
        labels = LABELS[selector.name] | {"job", "instance"} | ({"le"} if selector.name.endswith("_bucket") else set())
        problems += [
            f"{selector.name} has no label {matcher.name}"
            for matcher in selector.matchers.matchers
            if matcher.name not in labels
        ]
    return problems
