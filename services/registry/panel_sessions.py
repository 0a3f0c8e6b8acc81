"""Sessions of the panel: who reads figures, in a browser or within a frame of the platform. SQL is in panel_sessions.sql.

A session in a browser begins with a link (portal_sessions.py). One within a frame has no link: the platform's backend gets its token,
and the page that contains the frame passes it on. It can read for some minutes and change nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

import psycopg
from psycopg.types.json import Jsonb

from services.common.language import Language
from services.common.postgres import Statements, load_statements
from services.registry.accounts import Accounts
from services.registry.portal_sessions import SESSION_PREFIX, site_of
from services.registry.secret_tokens import new_id, new_token, token_hash

SQL: Final = load_statements("services.registry", "panel_sessions.sql")


@dataclass(frozen=True, slots=True)
class PanelSession:
    """An open session. `account_kind`: a main account also reads the figures of the company's other accounts."""

    session_id: str
    company_id: str
    account_id: str
    account_kind: Literal["main", "sub"]
    purpose: Literal["panel", "frame"]
    language: Language
    return_url: str | None
    expires_at: datetime

    @property
    def is_main(self) -> bool:
        """Whether it reads the figures of the whole company."""
        return self.account_kind == "main"

    @property
    def is_framed(self) -> bool:
        """Whether it is shown within a frame, and may only read."""
        return self.purpose == "frame"

    @property
    def return_site(self) -> str:
        """The host that the return URL leads to; "" without one."""
        return site_of(self.return_url)


@dataclass(frozen=True, slots=True)
class FrameToken:
    """A token for a frame. Its hash is stored; an answer to a request with an Idempotency-Key is stored encrypted
    with a key that only the sender of the request has (api_answers.py)."""

    session_id: str = field(repr=False)
    token: str = field(repr=False)
    expires_at: datetime


class PanelSessions:
    """Reads and writes registry.portal_sessions over one connection; not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._sql = Statements(connection, SQL)
        self._accounts = Accounts(connection)

    def own_session(self) -> PanelSession | None:
        """The session of the panel that this transaction's token belongs to; None when there is none."""
        stored = self._sql.one("own_session")
        return None if stored is None or stored["session_id"] is None else PanelSession(**stored)

    def begin_probe(self, gone_before: Mapping[str, int]) -> bool:
        """Note in the session of this transaction that it looks for a test mail from now on; whether it may, which a frame may not."""
        begun = self._sql.one("begin_probe", gone_before=Jsonb(dict(gone_before)))
        return begun is not None and begun["began_at"] is not None

    def own_probe(self) -> tuple[datetime, dict[str, int]] | None:
        """When the session of this transaction began to look for a test mail, and what `begin_probe` noted; None while it has not."""
        stored = self._sql.one("own_probe")
        return None if stored is None or stored["began_at"] is None else (stored["began_at"], stored["gone"])

    def make_frame_token(
        self, company_id: str, account_id: str, *, language: Language, by: str, minutes: int
    ) -> FrameToken:
        """A token that reads the figures of an account for some minutes. RegistryError when there is no such account."""
        self._accounts.get(company_id, account_id)
        token, session_id = new_token(SESSION_PREFIX), new_id("s")
        stored = self._sql.one(
            "insert_frame", session_id=session_id, token_hash=token_hash(token), company_id=company_id, account_id=account_id,
            language=language, created_by=by, minutes=minutes,
        )  # fmt: skip
        assert stored is not None
        return FrameToken(session_id, token, stored["expires_at"])
