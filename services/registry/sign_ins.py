"""Sign-ins by redirect on their way through a provider: each belongs to one session, is used once and expires after ten minutes.

SQL is in sign_ins.sql; the functions behind it (schemas/database/0030_sign_ins.sql) see the session of the transaction alone.
"""

from dataclasses import dataclass
from typing import Literal

import psycopg

from services.common.postgres import Statements, load_statements
from services.registry.secret_tokens import token_hash

SQL = load_statements("services.registry", "sign_ins.sql")

SignInOutcome = Literal["open", "used", "expired", "unknown"]
"""Used up by this call; used up before; too old; not of this session."""


@dataclass(frozen=True, slots=True)
class UsedSignIn:
    """What was stored with a state. `request_id`: the connect request that an earlier use of it became."""

    outcome: SignInOutcome
    client: str | None
    request_id: str | None


class SignIns:
    """Reads and writes registry.sign_ins in the transaction of a session; not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._sql = Statements(connection, SQL)

    def begin(self, state: str, client: str) -> bool:
        """Store the hash of a new state with the client that it is for; False when the session has ended."""
        started = self._sql.one("begin_sign_in", state_hash=token_hash(state), client=client)
        return started is not None and bool(started["started"])

    def use(self, state: str) -> UsedSignIn:
        """Use a state up. It stays used even if what follows fails, when the transaction is committed before."""
        used = self._sql.one("use_sign_in", state_hash=token_hash(state))
        assert used is not None
        return UsedSignIn(**used)

    def note_request(self, state: str, request_id: str) -> None:
        """Note the connect request that a sign-in became, so that its callback leads there again."""
        self._sql.run("note_sign_in_request", state_hash=token_hash(state), request_id=request_id)
