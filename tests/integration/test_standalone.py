"""The walk of docs/own-mailbox.md against Dovecot: wrong password, wrong host, a rate that moves, a kill, a restart."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.inquiries.facts import check
from services.inquiries.lines import check_header, lines
from services.inquiries.sentences import columns
from services.standalone.servers.paths import ROOT
from services.standalone.servers.postgres import scratch_folder
from tests.support.dovecot import Dovecot
from tests.support.processes import get, until
from tests.support.servers import USERS

USER = "seller-1@mail.test"


class Walker:
    """A person with a terminal: one `replyrate standalone`, and commands beside it."""

    def __init__(self, folder: Path, server: Dovecot) -> None:
        self.folder = folder
        self.data = folder / "world"
        self._environ = {
            name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "REPLYRATE_CACHE") if name in os.environ
        }
        self._environ["PYTHONPATH"] = str(ROOT)
        self._imap = {
            "REPLYRATE_IMAP__CA_FILE": str(server.ca_file),
            "REPLYRATE_IMAP__ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128",
            "REPLYRATE_IMAP__ALLOWED_PORTS": str(server.port),
            "REPLYRATE_IMAP__POLL_INTERVAL_SECONDS": "1",
            # A kill may hit a poll, and then the mailbox waits for the end of its lease.
            "REPLYRATE_FETCHER__LEASE_SECONDS": "30",
            "REPLYRATE_IMAP__SESSION_SECONDS": "20",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "standalone.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.cli", "standalone", "--data", str(self.data)],
                env={**self._environ, **self._imap}, stdout=log, stderr=log, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        until(lambda: self.status() is not None, 60, f"it comes up:\n{self.log()}")

    def log(self) -> str:
        return (self.folder / "standalone.log").read_text("utf-8")

    def stop(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        # The services side by side (25 s), then Kafka (20 s) and Postgres (10 s) at the longest.
        code = self._process.wait(70)
        self._process = None
        return code

    def run(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", "--data", str(self.data), *arguments],
            env=self._environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def status(self) -> dict[str, Any] | None:
        """The output of `--status`; None while the servers do not answer."""
        assert self._process is None or self._process.poll() is None, self.log()
        try:
            shown: dict[str, Any] = json.loads(self.run("standalone", "--status", "--json").stdout)
        except (AssertionError, ValueError):
            return None
        return shown

    def portal_port(self) -> int:
        """The port of the pages for sellers."""
        return int(json.loads((self.data / "ports.json").read_text("utf-8"))["portal"])

    def rate(self) -> dict[str, Any] | None:
        """The company's row of the default rule set."""
        done = self.run("rate", "my-shop", "--rules", "default", "--json", code=None)
        if done.returncode == 1:  # the company is not known yet, and the message says so
            assert "No rate" in done.stderr or done.stdout.strip() == "[]"
            return None
        rows = json.loads(done.stdout)
        return next((rate for rate in rows if rate["level"] == "company"), None)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)


@pytest.fixture
def walker(dovecot: Dovecot) -> Iterator[Walker]:
    folder = scratch_folder("replyrate-own-")
    started = Walker(folder, dovecot)
    yield started
    started.end()
    shutil.rmtree(folder, ignore_errors=True)


def letter(number: int, at: datetime) -> bytes:
    return (
        f"Message-ID: <walk-{number}@mail.test>\r\nDate: {at:%a, %d %b %Y %H:%M:%S} +0000\r\nFrom: {USER}\r\n"
        f"To: buyer-{number}@shop.example\r\nSubject: Re: Inquiry\r\n\r\nhello\r\n"
    ).encode()


def test_the_walk(walker: Walker, dovecot: Dovecot, tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    received = now - timedelta(days=10)
    server = dovecot
    walker.run("company", "add", "my-shop", code=78)
    walker.start()
    until(lambda: get(walker.portal_port(), "/")[0] == 200, 30, "the portal answers")
    assert f"http://127.0.0.1:{walker.portal_port()}" in walker.log()
    walker.run("company", "add", "my-shop")
    walker.run("account", "add", "my-shop", "main")
    link = walker.run("connect-link", "my-shop", "main").stdout
    assert link.startswith(f"http://127.0.0.1:{walker.portal_port()}/link/")
    add = ("mailbox", "add", "--company", "my-shop", "--account", "main", "--address", USER, "--port", str(server.port))
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(USERS[USER] + "\n", "utf-8")
    bad.write_text("not the password\n", "utf-8")
    yes = ("--consent-by", "the walker")
    without_consent = walker.run(*add, "--host", "localhost", "--password-file", str(good), code=1)
    assert "--consent-by" in without_consent.stderr
    wrong = walker.run(*add, *yes, "--host", "localhost", "--password-file", str(bad), code=1)
    assert "password" in wrong.stderr and "not the password" not in wrong.stderr
    nowhere = walker.run(*add, *yes, "--host", "no-such-host.invalid", "--password-file", str(good), code=1)
    assert "Check the server name" in nowhere.stderr
    (attempt,) = (walker.status() or {})["mailboxes"]
    assert (attempt["state"], attempt["messages_seen"]) == ("pending_test", 0)
    walker.run(*add, *yes, "--host", "localhost", "--password-file", str(good))

    file = tmp_path / "inquiries.csv"
    rows = [
        {
            "company_id": "my-shop", "account_id": "main", "inquiry_id": f"i{number}", "received_at": received.isoformat(),
            "buyer_id": f"b{number}", "buyer_addresses": f"buyer-{number}@shop.example",
        }
        for number in (1, 2)
    ]  # fmt: skip
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    walker.run("publish", str(file))
    # The mailbox is connected after the inquiries: what was not seen is unmeasured or unanswered, never answered.
    until(lambda: (rate := walker.rate()) is not None and rate["inquiries"] == 2, 60, "both are counted")
    assert (walker.rate() or {})["late"] == 0
    server.append(USER, "Sent", letter(1, now), now)
    until(lambda: (rate := walker.rate()) is not None and rate["late"] == 1, 60, "the answer is found")
    until(lambda: (walker.status() or {}).get("settled") is True, 60, "all is settled")
    (shown,) = (walker.status() or {})["mailboxes"]
    assert shown["state"] == "active" and shown["messages_seen"] == 1 and shown["last_success_at"] is not None
    before = walker.rate()

    walker.stop(signal.SIGKILL)
    walker.start()
    server.append(USER, "Sent", letter(2, now), now)
    until(lambda: (rate := walker.rate()) is not None and rate["late"] == 2, 90, "it goes on after a kill")
    after = walker.rate()
    assert before is not None and after is not None and before["inquiries"] == after["inquiries"] == 2
    assert walker.stop(signal.SIGTERM) == 0
    walker.start()
    again = walker.rate()
    assert again is not None and {**again, "computed_at": ""} == {**after, "computed_at": ""}
    assert walker.stop(signal.SIGINT) == 0
    assert USERS[USER] not in "".join(log.read_text("utf-8") for log in (walker.data / "logs").glob("*.log"))


def test_the_page_names_every_column_and_the_sample_is_valid() -> None:
    page = (ROOT / "docs" / "own-mailbox.md").read_text("utf-8")
    for name, text in columns().items():
        assert f"| `{name}` | {text.en} |" in page
    sample = (ROOT / "examples" / "inquiries.csv").read_text("utf-8")
    check_header(sample, csv_form=True)
    facts, problems = check(lines(sample, csv_form=True), datetime(2026, 11, 20, tzinfo=UTC), horizon_days=60)
    assert len(facts) == 5 and not problems
