"""The demo as a person runs it: rates that agree with the recount, exit 0, nothing left behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from services.standalone.servers.paths import ROOT
from tests.support.connect_lab import Browser
from tests.support.processes import get, until


def environ(folder: Path) -> dict[str, str]:
    keep = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("REPLYRATE_") or name == "REPLYRATE_CACHE"
    }
    return {**keep, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own folder: an unprivileged Postgres may not enter that.
    scratch = Path(tempfile.mkdtemp(prefix="replyrate-demo-test-"))
    scratch.chmod(0o755)
    yield scratch
    shutil.rmtree(scratch, ignore_errors=True)


def ours(folder: Path) -> list[str]:
    """Processes that were started from or for this folder."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            lines.append(line)
    return lines


@pytest.mark.parametrize("seed", [1, 7])
def test_the_demo_agrees_with_its_recount(folder: Path, seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "demo", "--json", "--seed", str(seed)],
        env=environ(folder), cwd=folder, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["agrees"] is True
    assert report["rates_checked"] >= 30 and report["outcomes_checked"] >= 800
    default = {rate["company_id"]: rate for rate in report["companies"] if rate["rule_set"] == "default"}
    assert len(default) == 8
    assert default["hx-tools"]["rate"] > 0.7 and default["jh-marine"]["rate"] > 0.4
    assert [default[name]["rate"] for name in ("bf-valves", "ds-toys", "km-plastics", "yg-ceramics")] == [0, 0, 0, 0]
    assert default["lt-textile"]["unmeasured"] > 0
    stories = {story["company_id"]: story for story in report["stories"]}
    assert stories["bf-valves"]["matched"] == 0 and stories["bf-valves"]["seen"]["human"] > 50
    assert stories["km-plastics"]["seen"] is None
    assert "needs_reconnect" in stories["yg-ceramics"]["mailbox_states"]
    assert "backup not connected" in stories["ds-toys"]["addresses"]
    causes = {name: [finding["cause"] for finding in story["diagnosis"] if finding["confidence"] == story["diagnosis"][0]["confidence"]]
            for name, story in stories.items() if story["diagnosis"]}  # fmt: skip
    assert set(causes) == {"bf-valves", "ds-toys", "km-plastics", "yg-ceramics"}
    assert "mailbox-does-not-answer" in causes["bf-valves"] and "sent-not-stored" not in causes["bf-valves"]
    assert causes["ds-toys"][0] == "backup-not-connected"
    assert causes["km-plastics"][0] == "sent-not-stored" and "backup-not-connected" not in causes["km-plastics"]
    assert causes["yg-ceramics"][0] == "address-changed"
    assert sum(bucket["answered"] for bucket in report["histogram"]) > 100
    assert ours(folder) == []
    assert list(folder.glob("replyrate-demo-*")) == []


def test_a_demo_that_is_interrupted_leaves_nothing(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "demo"], env=environ(folder), cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not any("services.fetcher" in line for line in commands_in(folder)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 130
    finally:
        process.kill()
        process.communicate()
    assert ours(folder) == []
    assert list(folder.glob("replyrate-demo-*")) == []


def test_the_demo_opens_the_portal_with_a_link_for_a_seller(folder: Path) -> None:
    opened, browser = folder / "opened", folder / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" >"{opened}.new"\nmv "{opened}.new" "{opened}"\n', "utf-8")
    browser.chmod(0o755)
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "demo", "--open"], env={**environ(folder), "BROWSER": f"{browser} %s"},
            cwd=folder, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        until(opened.exists, 120, "the browser is opened")
        url = opened.read_text("utf-8")
        address = urlsplit(url)
        assert address.port is not None and address.path.startswith("/link/rrl_")
        until(lambda: get(address.port or 0, "/")[0] == 200, 30, "the portal answers")
        shown = (folder / "output").read_text("utf-8")
        assert url in shown and "ds-toys.sales@mail-backup.example" in shown
        check_console(shown)
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0
    finally:
        process.kill()
        process.wait(10)
    assert ours(folder) == []


def check_console(shown: str) -> None:
    """The link to the console that the demo prints begins a session of an operator, once."""
    link = re.search(r"http://127\.0\.0\.1:\d+/link/rrx_\S+", shown)
    assert link is not None, shown
    address = urlsplit(link[0])
    until(lambda: get(address.port or 0, "/sign-in")[0] == 200, 30, "the console answers")
    origin, path = f"http://{address.netloc}", f"{address.path}?{address.query}"
    browser = Browser(origin).get(path).fill_in("/link/.*")
    assert browser.heading == "Search" and browser.shows("Demo (operator)"), browser.answer.text
    assert (
        browser.get("/companies/ds-toys").status == 200 and browser.get("/overview").heading == "What needs attention"
    )
    assert Browser(origin).get(path).fill_in("/link/.*").status == 410


def commands_in(folder: Path) -> list[str]:
    """Command lines of the processes that work inside of this folder; other demos may run on the machine."""
    command_lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve().is_relative_to(folder):
                command_lines.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return command_lines
