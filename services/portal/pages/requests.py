"""Requests to the fetchers: how a page stores one, and what the seller may see of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.common.language import Language
from services.connect import texts
from services.connect.report import PASSED, SKIPPED, STAGES
from services.connect.typed_login import TypedLogin
from services.portal.pages.problems import PageProblem
from services.portal.pages.seller import Seller
from services.portal.pages.texts import text
from services.registry.connect_requests import GIVEN_UP, NOT_POSSIBLE, OF_MAILBOXES, ConnectRequests, Purpose
from services.registry.portal_sessions import PortalSessions

TITLES: Final = {
    "look-up": ("lookup", "lookup", "unknown"),
    "test": ("running", "passed", "failed"),
    "withdraw": ("withdrawing", "withdrawn", "not_withdrawn"),
    "folders": ("listing", "folders", "not_listed"),
    "folder-choice": ("choosing", "chosen", "not_chosen"),
}
"""Headings of a request that runs, has passed and has failed; of purposes without an entry as of a test."""
OF_FOLDERS: Final[tuple[Purpose, ...]] = ("folders", "folder-choice")
"""Purposes of requests about the Sent folders of a connected mailbox."""
NEXT_PAGES: Final = {
    "login-connected": ("/connect", "progress.mailboxes"),
    "consent-changed": ("/connect/consent", "site.continue"),
    "consent-missing": ("/connect/consent", "site.continue"),
}
"""Codes whose next step is done on another page than that of the password."""
OTHER_MAILBOX: Final = ("provider-unsupported", "address-malformed", "login-taken", "address-differs", "not-possible")
"""Codes with which neither another password nor another server helps."""
MOST_OPEN: Final = 5
"""Requests of one account that may wait or run at once."""
_REQUEST_ID: Final = re.compile(r"r-[0-9a-f]{32}")


def submit(seller: Seller, purpose: Purpose, mailbox_id: str, typed: TypedLogin) -> str:
    """Store a request, sealed for the fetchers; returns its id.

    PageProblem when the mailbox is not this session's (a cookie may name any), when the form is too long, when there are too many
    requests, or no fetcher yet.
    """
    session = seller.session
    try:
        encoded = typed.encoded()
    except ValueError:
        raise PageProblem("form-incomplete") from None
    with seller.database() as connection:
        if purpose in OF_MAILBOXES and all(
            mailbox["mailbox_id"] != mailbox_id for mailbox in PortalSessions(connection).own_mailboxes()
        ):
            raise PageProblem("not-found")
        requests = ConnectRequests(connection)
        if len(requests.open_requests(session.company_id, session.account_id)) >= MOST_OPEN:
            raise PageProblem("too-many")
        key = requests.sealing_key()
        if key is None:
            raise PageProblem("unavailable")
        return requests.add(key, session.company_id, session.account_id, mailbox_id, purpose, encoded)


def read(seller: Seller, request_id: str) -> "RequestView":
    """A request of this seller's account. PageProblem when there is none."""
    status = None
    if _REQUEST_ID.fullmatch(request_id):
        with seller.database() as connection:
            status = ConnectRequests(connection).status(request_id)
    if status is None:
        raise PageProblem("not-found")
    return RequestView(status, seller.language)


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage of a connection test: `state` is waiting, running, passed, failed or skipped; `says` is its result."""

    name: str
    state: str
    says: str


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request in the language of its reader."""

    status: Mapping[str, Any]
    language: Language

    @property
    def request_id(self) -> str:
        """Its id."""
        return str(self.status["request_id"])

    @property
    def purpose(self) -> str:
        """What was asked for."""
        return str(self.status["purpose"])

    @property
    def mailbox_id(self) -> str:
        """The mailbox that it is about."""
        return str(self.status["mailbox_id"])

    @property
    def code(self) -> str:
        """The code of its result; "" while there is none."""
        return self.status["code"] or ""

    @property
    def is_finished(self) -> bool:
        """Whether there is a result."""
        return self.status["state"] not in ("waiting", "running")

    @property
    def is_passed(self) -> bool:
        """Whether it succeeded."""
        return bool(self.status["state"] == "passed")

    @property
    def title(self) -> str:
        """The name of the page's heading in texts.toml."""
        titles = TITLES.get(self.purpose, TITLES["test"])
        return f"progress.title_{titles[0 if not self.is_finished else 1 if self.is_passed else 2]}"

    @property
    def running_text(self) -> str:
        """The name of the text under the heading while there is no result."""
        if self.purpose in ("look-up", "withdraw"):
            return f"progress.{TITLES[self.purpose][0]}"
        return "progress.waiting" if self.is_waiting else "progress.running"

    @property
    def is_about_folders(self) -> bool:
        """Whether it lists the folders of a mailbox, or changes which of them are read."""
        return self.purpose in OF_FOLDERS

    @property
    def is_list(self) -> bool:
        """Whether it has listed the folders of a mailbox, for a choice."""
        return self.is_passed and self.purpose == "folders"

    @property
    def is_connected(self) -> bool:
        """Whether it has connected its mailbox."""
        return self.is_passed and self.purpose in ("connect", "reconnect")

    @property
    def next_page(self) -> tuple[str, str] | None:
        """Path and name of the text of the link to where its next step can be done; None where that is another address."""
        if self.code in NEXT_PAGES:
            return NEXT_PAGES[self.code]
        if self.code in OTHER_MAILBOX:
            return None
        text_name = "progress.by_hand" if self.purpose == "look-up" else "progress.again"
        return f"/connect/login?request={self.request_id}", text_name

    @property
    def running_stage(self) -> str:
        """The name of the stage that runs; "" when none does."""
        return next((stage.name for stage in self.stages if stage.state == "running"), "")

    @property
    def is_waiting(self) -> bool:
        """Whether no fetcher has it yet."""
        return bool(self.status["state"] == "waiting")

    @property
    def report(self) -> Mapping[str, Any]:
        """The report of the connection test or the look-up."""
        return self.status["report"] or {}

    @property
    def stages(self) -> list[StageView]:
        """The stages of the connection test, as far as they are known; a look-up has none."""
        if self.purpose in ("look-up", "withdraw"):
            return []
        shown = STAGES[: STAGES.index("list") + 1] if self.purpose == "folders" else STAGES
        if self.is_finished:
            return [self._finished(stage) for stage in self.report.get("stages", []) if stage["stage"] in shown]
        current = STAGES.index(self.status["stage"]) if self.status["stage"] in STAGES else -1
        states = [
            "passed" if number < current else "running" if number == current else "waiting"
            for number in range(len(shown))
        ]
        return [
            StageView(texts.stage_name(name, self.language), state, "")
            for name, state in zip(shown, states, strict=True)
        ]

    @property
    def failure(self) -> tuple[str, str]:
        """What went wrong and what to do next: the sentences of `replyrate mailbox test`."""
        if self.purpose == "withdraw" and self.code in GIVEN_UP:
            return text("progress.not_withdrawn", self.language), text("progress.not_withdrawn_next", self.language)
        if self.is_about_folders and self.code in (*GIVEN_UP, NOT_POSSIBLE):
            return text("progress.folders_as_before", self.language), text("progress.not_withdrawn_next", self.language)
        sentences = texts.request_sentences(self.code, self.language)
        if sentences is not None:
            return sentences
        says = "" if self._failed_stage is None else self._failed_stage["says"][self.language]
        return says, (self.report.get("next") or {}).get(self.language) or ""

    @property
    def advice(self) -> str:
        """What this provider wants, when it is known and something failed at it."""
        return (self.report.get("advice") or {}).get(self.language) or ""

    @property
    def is_about_server(self) -> bool:
        """Whether a connection test failed before it could log in, so that the server may be the wrong one."""
        failed = self._failed_stage
        return failed is not None and failed["stage"] in STAGES[: STAGES.index("login")]

    @property
    def warnings(self) -> list[str]:
        """What is worth knowing about a mailbox that works."""
        return [warning["text"][self.language] for warning in self.report.get("warnings", [])]

    @property
    def folders(self) -> list[Mapping[str, Any]]:
        """The Sent folders that are read."""
        return list(self.report.get("sent_folders", []))

    @property
    def folder_choices(self) -> list[Mapping[str, Any]]:
        """Folders to choose from: those of a list, or of a test that recognised none."""
        if not self.is_list and self.code != "no-sent-folder":
            return []
        return [choice for choice in self.report.get("candidates", []) if choice.get("raw")]

    @property
    def watched_folders(self) -> list[str]:
        """Names of those of a list that are read now, as the server lists them."""
        return list(self.report.get("watched", []))

    @property
    def needs_login(self) -> bool:
        """Whether the mailbox has to be connected again: its stored secret is refused, or there is none that can be used."""
        failed = self._failed_stage
        return self.code == "reconnect-first" or (failed is not None and failed["stage"] in ("login", "id"))

    @property
    def _failed_stage(self) -> Mapping[str, Any] | None:
        """The stage with which the connection test ended."""
        stages = self.report.get("stages", [])
        return next((stage for stage in stages if stage["code"] not in (PASSED, SKIPPED)), None)

    def _finished(self, stage: Mapping[str, Any]) -> StageView:
        state = {PASSED: "passed", SKIPPED: "skipped"}.get(stage["code"], "failed")
        return StageView(texts.stage_name(stage["stage"], self.language), state, stage["says"][self.language])
