"""Who sends a request to the API: the key, what it may do, and transactions that see the companies of its prefix.

A route names the scopes that it needs; the document of the API (schemas/api.v1.yaml) has them from there:

    @router.get("/companies")
    def list_companies(caller: Annotated[ApiCaller, requires("registry:read")]) -> CompanyPage:
        with caller.transaction() as connection:
            ...
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import psycopg
from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from starlette.requests import Request

from services.common.postgres import Statements, load_statements
from services.portal.api.edge import add_headers
from services.portal.api.problems import ApiProblem
from services.portal.api.rate_limits import RateLimiter
from services.portal.database import TokenDatabase
from services.portal.resources import PortalResources
from services.registry.api_keys import KEY_PREFIX, ApiScope
from services.registry.panel_sessions import PanelSession, PanelSessions
from services.registry.portal_sessions import SESSION_PREFIX
from services.registry.secret_tokens import is_token

SQL: Final = load_statements("services.portal.api", "callers.sql")
OF_FRAMES: Final[ApiScope] = "numbers:read"
"""The only scope of such a token, and that for requests that change nothing."""
BEARER: Final = HTTPBearer(
    auto_error=False,
    scheme_name="api-key",
    description="A key that `replyrate api-key add` created. It allows the operations of its scopes, for the companies of its prefix.",
)
FRAME_BEARER: Final = HTTPBearer(
    auto_error=False,
    scheme_name="frame-token",
    description="The token of a frame with the panel (POST /panel-tokens). For some minutes it reads the lists of figures of one account, of"
    " the whole company for a main account, and nothing else.",
)


@dataclass(frozen=True, slots=True)
class ApiCaller:
    """A request's key, or the token of a frame with the panel of one account (`panel`), which reads figures alone."""

    key_id: str
    name: str
    scopes: frozenset[str]
    company_prefix: str
    panel: PanelSession | None
    _token: str = field(repr=False)
    _database: TokenDatabase = field(repr=False)

    @property
    def actor(self) -> str:
        """As the history of mailboxes and the audit log name it."""
        return f"{self.key_id} ({self.name})"

    @property
    def limited_as(self) -> str:
        """Whose requests are counted together: those of a key, or of an account with all tokens of its frames."""
        return self.key_id if self.panel is None else f"{self.panel.company_id} {self.panel.account_id}"

    @property
    def secret(self) -> str:
        """The secret of the key, from which the key of stored answers follows (services/registry/api_answers.py)."""
        return self._token

    def transaction(self) -> AbstractContextManager[psycopg.Connection]:
        """A transaction that sees the rows of the companies of this key. TransientError.

        It belongs to one thread: open it inside the function of a route, which runs in one, and not in a dependency.
        """
        return self._database.transaction(self._token)

    def check_scope(self, scope: str) -> None:
        """ApiProblem when the key lacks a scope."""
        if scope not in self.scopes:
            raise ApiProblem("scope-missing", {"scope": scope})

    def check_company(self, company_id: str) -> None:
        """ApiProblem when the key is for other companies."""
        if not company_id.startswith(self.company_prefix):
            raise ApiProblem("company-not-allowed", {"prefix": self.company_prefix})


def requires(*scopes: ApiScope) -> Any:
    """The dependency of a route: the caller, whose key has all of `scopes` (none: any key). The document of the API lists them for the operation.
    ApiProblem: not-authenticated, scope-missing, too-many-requests."""

    def authorised(
        request: Request,
        needed: SecurityScopes,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
    ) -> ApiCaller:
        return _admitted(request, credentials, needed, accepts_frames=False)

    return Security(authorised, scopes=scopes)


def reads_figures() -> Any:
    """The dependency of a route that reads figures and changes nothing: the caller with the scope for that, or the token of a frame.
    ApiProblem as above."""

    def authorised(
        request: Request,
        needed: SecurityScopes,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
        _: Annotated[HTTPAuthorizationCredentials | None, Depends(FRAME_BEARER)],
    ) -> ApiCaller:
        return _admitted(request, credentials, needed, accepts_frames=True)

    return Security(authorised, scopes=[OF_FRAMES])


def resources_of(request: Request) -> PortalResources:
    """What the requests of this process share."""
    resources: PortalResources = request.app.state.resources
    return resources


def _admitted(
    request: Request,
    credentials: HTTPAuthorizationCredentials | None,
    needed: SecurityScopes,
    *,
    accepts_frames: bool,
) -> ApiCaller:
    token = "" if credentials is None else credentials.credentials
    caller = _identified(resources_of(request).database, token, accepts_frames=accepts_frames)
    limiter: RateLimiter = request.app.state.limiter
    decision = limiter.take(caller.limited_as)
    add_headers(request, decision.headers)
    if not decision.allowed:
        raise ApiProblem("too-many-requests", {"seconds": decision.wait_seconds})
    for scope in needed.scopes:
        caller.check_scope(scope)
    return caller


def _identified(database: TokenDatabase, token: str, *, accepts_frames: bool) -> ApiCaller:
    if accepts_frames and is_token(token, SESSION_PREFIX):
        with database.transaction(token) as connection:
            panel = PanelSessions(connection).own_session()
        if panel is not None and panel.is_framed:
            scopes = frozenset({OF_FRAMES})
            return ApiCaller(panel.session_id, "panel", scopes, panel.company_id, panel, token, database)
    key = None
    if is_token(token, KEY_PREFIX):
        with database.transaction(token) as connection:
            key = Statements(connection, SQL).one("own_key")
    if key is None or key["key_id"] is None:
        raise ApiProblem("not-authenticated", headers={"WWW-Authenticate": "Bearer"})
    return ApiCaller(key["key_id"], key["name"], frozenset(key["scopes"]), key["company_prefix"], None, token, database)
