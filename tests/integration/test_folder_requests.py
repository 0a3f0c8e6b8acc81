"""A seller chooses the Sent folders of a connected mailbox: a fetcher lists and tests them with the stored password, at a real server."""

import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.common.postgres import connect
from services.imap.folders import folder_name
from services.registry import connect_requests, retention
from services.registry.connect_requests import ConnectRequests
from tests.integration.test_connect_requests import KEYS, MAILBOX, PortalLogin, portal_dsn
from tests.support.dovecot import Dovecot
from tests.support.fetcher_lab import USER, Lab, Server, letter, make_lab
from tests.support.processes import until
from tests.support.servers import USERS

__all__ = ["make_lab", "portal_dsn"]

FOLDERS = ("Sent", "Archiv", "客户往来")
OWN_NAME = folder_name(FOLDERS[2]).decode()
"""As the server lists it."""


def override(lab: Lab) -> list[bytes] | None:
    """The chosen folders of the mailbox."""
    with connect(lab.dsn, "tests") as connection:
        stored = connection.execute("SELECT sent_override FROM registry.mailboxes").fetchone()
    assert stored is not None
    return stored[0] and [bytes(name) for name in stored[0]]


def test_folders_are_listed_and_chosen_with_the_stored_password(
    make_lab: Callable[[Server], Lab], dovecot: Dovecot, portal_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(dovecot)
    sent_at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    for number, folder in enumerate(FOLDERS, 1):
        dovecot.append(USER, folder, letter(number, sent_at), sent_at)

    portal = PortalLogin(portal_dsn)
    nothing: dict[str, Any] = {"address": "", "password": "", "text_version": ""}

    def choose(*folders: str) -> tuple[str, str]:
        result = portal.result(portal.submit("folder-choice", sent_folders=folders, **nothing))
        return result["state"], result["code"]

    with lab.fetcher() as fetcher:
        until(lambda: portal.requests.sealing_key() is not None, 60, "a fetcher has started", (fetcher,))
        connected = portal.result(portal.submit(host="localhost", port=dovecot.port))
        assert connected["state"] == "passed", connected
        until(lambda: lab.complete(MAILBOX), 60, "the mailbox is complete", (fetcher,))
        assert len(lab.sent()) == 1
        before = lab.mailbox(MAILBOX)

        listed = portal.result(portal.submit("folders", **nothing))
        assert (listed["state"], listed["code"]) == ("passed", "passed"), listed
        names = [choice["raw"] for choice in listed["report"]["candidates"]]
        assert names[0] == "Sent" and {"Archiv", OWN_NAME, "Drafts"} <= set(names) and "INBOX" not in names
        assert listed["report"]["watched"] == ["Sent"]
        assert override(lab) is None and lab.mailbox(MAILBOX)["history"] == before["history"], "a list changes nothing"

        assert choose("Sent", "Gone") == ("failed", "folder-missing")
        assert override(lab) is None
        assert choose("Sent", OWN_NAME) == ("passed", "passed")
        assert override(lab) == [b"Sent", OWN_NAME.encode()]
        until(lambda: len(lab.sent()) == 2, 60, "the chosen folder is read", (fetcher,))
        history = lab.mailbox(MAILBOX)["history"]
        assert [(entry["reason"], entry["changed_by"]) for entry in history][-1] == ("folders-chosen", "seller 1")
        after = lab.mailbox(MAILBOX)
        assert (after["state"], after["connected_at"]) == ("active", before["connected_at"])
        assert len(after["consents"]) == len(before["consents"])
        assert choose() == ("passed", "passed")
        assert override(lab) is None, "without a choice the recognised folders are read"

        # A fetcher dies with the choice; another one carries it out again.
        fetcher.signal(signal.SIGSTOP)
        interrupted = portal.submit("folder-choice", sent_folders=("Archiv",), **nothing)
        with connect(lab.dsn, "tests") as connection:
            monkeypatch.setattr(connect_requests, "LEASE_SECONDS", 0.0)
            assert ConnectRequests(connection).take("dead", KEYS) is not None
            fetcher.signal(signal.SIGCONT)
            assert portal.result(interrupted)["state"] == "passed"
            tries = "SELECT tries, sealed IS NULL FROM registry.connect_requests WHERE request_id = %s"
            assert connection.execute(tries, [interrupted]).fetchone() == (2, True)
        assert override(lab) == [b"Archiv"]
        assert choose() == ("passed", "passed")

        with lab.registry() as registry:
            registry.mailboxes.pause("c1", MAILBOX)
        assert portal.result(portal.submit("folders", **nothing))["code"] == "reconnect-first"
        assert choose("Archiv") == ("failed", "reconnect-first")
        with lab.registry() as registry:
            registry.mailboxes.resume("c1", MAILBOX)
        with dovecot.password_changed(USER):
            refused = portal.result(portal.submit("folders", **nothing))
            assert (refused["state"], refused["code"]) == ("failed", "login-refused")
            assert choose("Archiv") == ("failed", "login-refused")
        assert override(lab) is None
        assert USERS[USER] not in lab.folder.joinpath("fetcher.log").read_text("utf-8")


def test_names_of_folders_stay_for_an_hour_and_other_results_for_a_day(portal_dsn: str, dsn: str) -> None:
    with connect(dsn, "tests") as connection:
        connection.execute(
            "INSERT INTO registry.connect_requests (request_id, company_id, account_id, mailbox_id, purpose, key_id, created_at)"
            " SELECT 'r-' || md5(hours || purpose), 'c1', 'main', 'm-1', purpose, 'k', now() - hours * interval '61 minutes'"
            " FROM unnest(ARRAY[0, 1, 24]) hours, unnest(ARRAY['folders', 'connect']) purpose"
        )
        retention.trim(connection, 60)
        counts = connection.execute(
            "SELECT purpose, count(*) FROM registry.connect_requests GROUP BY purpose"
        ).fetchall()
    assert dict(counts) == {"folders": 1, "connect": 2}
