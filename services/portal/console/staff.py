"""Who sends a request to the console: the session of the cookie, and for forms the proof that our own page sent it."""

import hmac
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Final

import psycopg
from fastapi import Form
from starlette.requests import Request
from starlette.responses import HTMLResponse

from services.common.display import duration_in_words
from services.common.language import Language
from services.portal.console.pages import PATHS, pages_for
from services.portal.console.problems import ConsoleProblem
from services.portal.console.resources import ConsoleResources
from services.portal.console.texts import text
from services.portal.pages.cookies import HostCookies
from services.portal.pages.seller import form_proof, is_own_form
from services.portal.pages.templates import page, preferred_language
from services.portal.panel import display
from services.registry.secret_tokens import is_token
from services.registry.staff_actions import NOBODY, StaffActions, StaffSessionEnded, Subject
from services.registry.staff_sessions import STAFF_PREFIX, StaffSession, StaffSessions

SESSION_COOKIE: Final = "staff"


@dataclass(frozen=True, slots=True)
class Staff:
    """The request of a member of the staff with an open session."""

    request: Request
    resources: ConsoleResources
    token: str = field(repr=False)
    session: StaffSession
    language: Language

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection]:
        """A transaction with the rights of the session: it reads every company."""
        with self.resources.database.transaction(self.token) as connection:
            yield connection

    @contextmanager
    def noted(self, action: str, subject: Subject = NOBODY, /, **detail: Any) -> Iterator[psycopg.Connection]:
        """A transaction that notes in the audit what it reads about people, or changes."""
        with self.transaction() as connection:
            self.note(connection, action, subject, **detail)
            yield connection

    def note(self, connection: psycopg.Connection, action: str, subject: Subject = NOBODY, /, **detail: Any) -> None:
        """Note in the audit what the transaction of a connection reads about people, or changes. `action`: a key of the texts [action]."""
        StaffActions(connection).note(action, subject, **detail)

    def note_outcome(self, action: str, /, **detail: Any) -> None:
        """Note in the audit how something ended that the session began, also after the end of the session."""
        with self.transaction() as connection:
            StaffActions(connection).note_outcome(action, **detail)

    def note_letters(self, action: str, company_ids: Iterable[str], /, **detail: Any) -> None:
        """Note in the audit that dead letters are shown, for each company among these ids that is registered: the key of a rejected
        record may be anything."""
        with self.transaction() as connection:
            actions = StaffActions(connection)
            actions.note_each(action, actions.registered(company_ids), **detail)

    def check_open(self) -> None:
        """StaffSessionEnded when the session is over, for work that goes on behind a request."""
        with self.transaction() as connection:
            if StaffSessions(connection).own_session() is None:
                raise StaffSessionEnded

    @property
    def csrf(self) -> str:
        """What a form of this session proves itself with."""
        return form_proof(self.token, "form")

    def says(self, name: str, /, **values: Any) -> str:
        """A text of the console in the language of the reader."""
        return text(name, self.language, **values)

    def page(self, template: str, here_name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A page with what every page of the console shows. `here_name`: the page of the navigation that it belongs to.

        The switch of the language leads to the address of the page; of a page that answers a form, which cannot be read again, to `here` or
        that page of the navigation.
        """
        if self.request.method == "POST" and not values.get("here"):
            values["here"] = f"{PATHS[here_name]}?lang="
        return page(
            self.request, template, self.language, status=status, site_name=self.says("site.name"), staff=self,
            pages=pages_for(self.session.role), here_name=here_name, p=self.says, show=display, csrf=self.csrf,
            duration=partial(duration_in_words, language=self.language), **values,
        )  # fmt: skip


class StaffGate:
    """Lets requests of an open session pass; others are led to the sign-in."""

    def __init__(self, resources: ConsoleResources) -> None:
        self.resources = resources
        self.cookies = HostCookies(is_https=resources.is_https)

    def token(self, request: Request) -> str | None:
        """The token of the session in the cookie; None when there is none or it is malformed."""
        token = self.cookies.get(request, SESSION_COOKIE)
        return token if is_token(token, STAFF_PREFIX) else None

    def reader(self, request: Request) -> Staff:
        """The member of the staff of any request. ConsoleProblem without an open session."""
        token = self.token(request)
        if token is None:
            raise ConsoleProblem("sign-in-needed")
        with self.resources.database.transaction(token) as connection:
            session = StaffSessions(connection).use()
        if session is None:
            raise ConsoleProblem("sign-in-needed")
        return Staff(request, self.resources, token, session, preferred_language(request))

    def sender(self, request: Request, csrf: Annotated[str, Form()] = "") -> Staff:
        """Who sent a form. ConsoleProblem when another page, or one of another session, sent it."""
        self.check_origin(request)
        staff = self.reader(request)
        if not hmac.compare_digest(csrf.encode(), staff.csrf.encode()):
            raise ConsoleProblem("form-outdated")
        return staff

    def operating_reader(self, request: Request) -> Staff:
        """The operator of a request. ConsoleProblem for anybody else."""
        return _operator(self.reader(request))

    def operating_sender(self, request: Request, csrf: Annotated[str, Form()] = "") -> Staff:
        """The operator who sent a form. ConsoleProblem for anybody else, and as `sender`."""
        return _operator(self.sender(request, csrf))

    def check_origin(self, request: Request) -> None:
        """ConsoleProblem when the browser says that another site sent a form."""
        if not is_own_form(request, self.resources.origin):
            raise ConsoleProblem("form-outdated")


def _operator(staff: Staff) -> Staff:
    if not staff.session.is_operator:
        raise ConsoleProblem("operators-only")
    return staff
