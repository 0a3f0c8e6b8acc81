"""Sessions of staff in the console, and the links of the command line that begin one. SQL is in staff_sessions.sql.

A session begins when an OpenID provider names somebody with a role, or with a link that somebody with access to the command line made. The
token of a session goes into each transaction of the console; the functions behind the statements (schemas/database/0040_console.sql) look it up.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

import psycopg

from services.common.postgres import Statements, load_statements
from services.registry.secret_tokens import new_id, new_token, token_hash

SQL: Final = load_statements("services.registry", "staff_sessions.sql")
StaffRole = Literal["support", "operator"]
STAFF_ROLES: Final[tuple[StaffRole, ...]] = ("support", "operator")
"""Support reads and makes links for sellers; operators can use every page and action."""
LINK_PREFIX: Final = "rrx_"
STAFF_PREFIX: Final = "rrw_"
"""Of the tokens of links and sessions."""
LINK_MINUTES: Final = 15
NAME_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class StaffSession:
    """An open session. `method`: how it began."""

    session_id: str
    method: Literal["oidc", "link"]
    subject: str = field(repr=False)
    display_name: str = field(repr=False)
    role: StaffRole
    expires_at: datetime

    @property
    def is_operator(self) -> bool:
        """Whether its role is operator."""
        return self.role == "operator"

    @property
    def signature(self) -> str:
        """The person and the session, for rows that name who changed them."""
        return f"{self.display_name} ({self.session_id})"


@dataclass(frozen=True, slots=True)
class StaffSessionLimits:
    """How long a session lasts at most, and without a request; how long what is done in it stays recorded."""

    minutes: int
    idle_minutes: int
    audit_days: int


@dataclass(frozen=True, slots=True)
class StaffLink:
    """A link that was made. `token` is shown once and stored nowhere."""

    session_id: str
    token: str = field(repr=False)
    expires_at: datetime

    def url(self, origin: str) -> str:
        """The URL at the console's public address."""
        return f"{origin}/link/{self.token}"


class StaffSessions:
    """Reads and writes registry.staff_sessions over one connection; not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._sql = Statements(connection, SQL)

    def make_link(self, role: StaffRole, display_name: str) -> StaffLink:
        """Store a link that can be opened for LINK_MINUTES. `display_name`: what the audit shows as who did something."""
        token, session_id = new_token(LINK_PREFIX), new_id("w")
        stored = self._sql.one(
            "insert_link", session_id=session_id, token_hash=token_hash(token), display_name=display_name, role=role,
            minutes=LINK_MINUTES,
        )  # fmt: skip
        assert stored is not None
        return StaffLink(session_id, token, stored["expires_at"])

    def open_link(self, link_token: str, session_token: str, limits: StaffSessionLimits) -> bool:
        """Turn a link into the session of `session_token`; False when it is unknown, used or expired."""
        opened = self._sql.one(
            "open_link", link_hash=token_hash(link_token), session_hash=token_hash(session_token), minutes=limits.minutes,
            idle_minutes=limits.idle_minutes, audit_days=limits.audit_days,
        )  # fmt: skip
        return opened is not None and opened["session_id"] is not None

    def begin(self, subject: str, display_name: str, role: StaffRole, limits: StaffSessionLimits) -> str:
        """Begin the session of somebody whom the provider named; its token."""
        token = new_token(STAFF_PREFIX)
        self._sql.run(
            "begin", session_id=new_id("w"), token_hash=token_hash(token), subject=subject, display_name=display_name,
            role=role, minutes=limits.minutes, idle_minutes=limits.idle_minutes, audit_days=limits.audit_days,
        )  # fmt: skip
        return token

    def own_session(self) -> StaffSession | None:
        """The session of this transaction's token; None when it is unknown, idle for too long, expired or ended."""
        stored = self._sql.one("own_session")
        return None if stored is None or stored["session_id"] is None else StaffSession(**stored)

    def use(self) -> StaffSession | None:
        """As `own_session`, and the session stays open."""
        self._sql.run("use")
        return self.own_session()

    def end(self) -> None:
        """End this transaction's session."""
        self._sql.run("end")
