"""Requests that change something: carried out once for each Idempotency-Key, and recorded with the key that sent them.

The work, its entry in the list of changes, and the stored answer are one transaction: either all of it happened or nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec
import psycopg
from fastapi import Depends, Header
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from services.portal.api.callers import ApiCaller, requires
from services.portal.api.problems import ApiProblem
from services.registry.api_answers import AnotherRequest, ApiAnswers
from services.registry.api_changes import ApiAction, ApiChanges
from services.registry.api_keys import ApiScope

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="A name for this request. Sent again within a day, it gets the answer of the first time and nothing happens twice.",
    ),
]
REPLAYED: Final = "Idempotent-Replayed"
"""Header of an answer that was stored: `true`."""


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """An answer to store and send."""

    status: int
    body: BaseModel | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class StoredAnswer(msgspec.Struct):
    """An answer as it is stored and sent."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class ApiTransaction:
    """A transaction of a request that changes something."""

    connection: psycopg.Connection
    caller: ApiCaller

    def note(self, company_id: str, action: ApiAction, subject: str = "") -> None:
        """Record a change (services/registry/api_changes.py)."""
        ApiChanges(self.connection).note(self.caller.key_id, self.caller.name, company_id, action, subject)


@dataclass(frozen=True, slots=True)
class ApiPost:
    """A request that changes something."""

    caller: ApiCaller
    path: str
    name: str | None
    """The Idempotency-Key."""

    def answer(self, body: BaseModel | bytes | None, work: Callable[[ApiTransaction], ApiAnswer]) -> Response:
        """The response of `work`, which runs in a transaction, or of the same request before.

        ApiProblem: idempotency-key-used when the name belongs to another request. Whatever `work` raises undoes everything.
        """
        with self.caller.transaction() as connection:
            if self.name is None:
                return _response(_stored(work(ApiTransaction(connection, self.caller))), replayed=False)
            answers = ApiAnswers(connection, self.caller.key_id, self.caller.secret)
            sent = body.model_dump_json().encode() if isinstance(body, BaseModel) else body or b""
            try:
                earlier = answers.begin(self.name, self.path.encode() + b"\n" + sent)
            except AnotherRequest:
                raise ApiProblem("idempotency-key-used") from None
            if earlier is not None:
                return _response(msgspec.msgpack.decode(earlier, type=StoredAnswer), replayed=True)
            answer = _stored(work(ApiTransaction(connection, self.caller)))
            answers.finish(self.name, msgspec.msgpack.encode(answer))
            return _response(answer, replayed=False)


def posts(*scopes: ApiScope) -> Any:
    """The dependency of a route that changes something; `scopes` as in callers.requires."""

    def prepared(
        request: Request, caller: Annotated[ApiCaller, requires(*scopes)], idempotency_key: IdempotencyKey = None
    ) -> ApiPost:
        return ApiPost(caller, f"{request.method} {request.url.path}", idempotency_key)

    return Depends(prepared)


def _stored(answer: ApiAnswer) -> StoredAnswer:
    body = b"" if answer.body is None else answer.body.model_dump_json().encode()
    return StoredAnswer(answer.status, dict(answer.headers), body)


def _response(answer: StoredAnswer, *, replayed: bool) -> Response:
    headers = {**answer.headers, REPLAYED: "true"} if replayed else answer.headers
    return Response(answer.body, answer.status, headers, "application/json" if answer.body else None)
