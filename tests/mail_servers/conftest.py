"""Leaves out what a server cannot do, and keeps the results of a run for docs/dev/servers.md."""

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from services.standalone.servers.paths import cache_folder
from tests.mail_servers.servers import SERVERS, is_installed

RESULTS: Path = cache_folder() / "mail-servers" / "results.json"
RECREATES = "test_a_recreated_folder_is_scanned_again_without_new_events"
_results: dict[str, dict[str, bool]] = {}


def server_and_check(item: pytest.Item) -> tuple[str, str] | None:
    """("cyrus", "test_…") of a test of this folder that runs once for each server."""
    name, bracket, server = item.name.partition("[")
    return (server.rstrip("]"), name) if bracket and item.path.parent == Path(__file__).parent else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A server whose folders cannot be deleted has no recreated folder; an optional server may be missing."""
    keep_folders = {server.name for server in SERVERS if not server.deletes_folders}
    missing = {server.name for server in SERVERS if server.is_optional and not is_installed(server.name)}
    left_out = [
        item
        for item in items
        if (key := server_and_check(item)) and (key[0] in missing or (key[0] in keep_folders and key[1] == RECREATES))
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    key = server_and_check(item)
    if key and report.when in ("setup", "call") and not report.skipped:
        checks = _results.setdefault(key[0], {})
        checks[key[1]] = checks.get(key[1], True) and report.passed
    return report


def pytest_sessionfinish() -> None:
    """Results of servers that were not part of this run stay."""
    if _results and RESULTS.parent.exists():
        stored = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(stored | _results, indent=1, sort_keys=True), "utf-8")
