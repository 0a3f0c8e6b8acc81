"""Requests that a fetcher carries out, since only a fetcher may use or delete a secret: they are sealed for it, and their status
is a resource (services/registry/connect_requests.py)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from starlette.responses import Response

from services.common.language import Language
from services.connect import consent, texts
from services.connect.typed_login import TypedLogin
from services.portal.api.callers import ApiCaller, requires
from services.portal.api.failures import RETRY_SECONDS
from services.portal.api.mailboxes import IfMatch, check_match
from services.portal.api.posts import ApiAnswer, ApiPost, ApiTransaction, posts
from services.portal.api.problems import ApiProblem
from services.portal.api.values import ApiModel, BilingualText, Instant, PathId, StoredInstant
from services.registry import states
from services.registry.accounts import Accounts
from services.registry.api_changes import ApiAction
from services.registry.connect_requests import NOT_POSSIBLE, ConnectRequests, Purpose
from services.registry.sealing import SealingKey
from services.registry.state_changes import refused

router = APIRouter(tags=["connect"])

RequestId = Annotated[str, Path(pattern=r"^r-[0-9a-f]{32}$")]


class RequestStatus(ApiModel):
    """How far a request is. Ask again until `state` is passed, failed or expired; ten minutes at most."""

    request_id: str
    company_id: str
    account_id: str
    mailbox_id: str
    """The mailbox that is connected or changed; empty when the request is about an account. Final when the request has ended: an earlier
    attempt to connect a mailbox of the account and role keeps its id."""
    purpose: Purpose
    state: Literal["waiting", "running", "passed", "failed", "expired"]
    stage: str | None
    """The stage of the connection test that runs, or ran last."""
    code: str | None
    """passed, or why not."""
    code_text: BilingualText | None
    report: dict[str, Any] | None
    """The result of the connection test: stages, Sent folders, warnings, and what to do next, with texts in both languages. Of a
    change of an address: `reconnect`, the mailboxes to connect again."""
    created_at: Instant
    expires_at: Instant
    finished_at: Instant | None


class SyncChange(ApiModel):
    """Whether an account answers through the platform's own mail."""

    on: bool
    since: StoredInstant | None = None
    """With `on`: the start of the sync, 2000-01-01 at the earliest; now when left out."""


@router.get("/requests/{request_id}", summary="Show how far a request is")
def get_request(caller: Annotated[ApiCaller, requires("registry:read")], request_id: RequestId) -> RequestStatus:
    with caller.transaction() as connection:
        return _status(ConnectRequests(connection), request_id)


@router.post(
    "/companies/{company_id}/mailboxes/{mailbox_id}/remove",
    summary="Withdraw the consent to read a mailbox",
    description="A fetcher deletes password, address and user name; the mailbox is never read again. What was counted stays.",
    status_code=202,
    response_model=RequestStatus,
)
def remove_mailbox(
    post: Annotated[ApiPost, posts("registry:write")],
    company_id: PathId,
    mailbox_id: PathId,
    if_match: IfMatch = None,
) -> Response:
    def work(transaction: ApiTransaction) -> ApiAnswer:
        mailbox = check_match(transaction, company_id, mailbox_id, if_match)
        event = states.load().events["withdrawn"]
        if not event.allows(mailbox.state):
            raise refused(event, company_id, mailbox_id, mailbox.state)
        return submitted(
            transaction,
            "withdraw",
            (company_id, mailbox.account_id, mailbox_id),
            without_login(transaction),
            "mailbox-removal-requested",
        )

    return post.answer(None, work)


@router.post(
    "/companies/{company_id}/accounts/{account_id}/platform-sync",
    summary="Say whether an account answers through the platform's own mail",
    description="A fetcher carries it out: with `on` the account's mailboxes are no longer read and their passwords are deleted;"
    " without it they must be connected again.",
    status_code=202,
    response_model=RequestStatus,
)
def change_platform_sync(
    post: Annotated[ApiPost, posts("registry:write")], company_id: PathId, account_id: PathId, values: SyncChange
) -> Response:
    def work(transaction: ApiTransaction) -> ApiAnswer:
        Accounts(transaction.connection).get(company_id, account_id)
        typed = without_login(transaction, values.since if values.on else None)
        return submitted(
            transaction, "platform-sync-on" if values.on else "platform-sync-off", (company_id, account_id, ""), typed,
            "platform-sync-requested",
        )  # fmt: skip

    return post.answer(values, work)


def submitted(
    transaction: ApiTransaction,
    purpose: Purpose,
    of: tuple[str, str, str],
    typed: TypedLogin,
    action: ApiAction,
) -> ApiAnswer:
    """Seal and store a request; 202 with its status. `of`: company, account, mailbox. ApiProblem: no-fetcher."""
    requests = ConnectRequests(transaction.connection)
    request_id = submit(transaction, requests, sealing_key(requests), purpose, of, typed, action)
    return ApiAnswer(202, _status(requests, request_id), {"Location": f"/v1/requests/{request_id}"})


def submit(
    transaction: ApiTransaction,
    requests: ConnectRequests,
    key: SealingKey,
    purpose: Purpose,
    of: tuple[str, str, str],
    typed: TypedLogin,
    action: ApiAction,
) -> str:
    """Seal and store a request; returns its id."""
    company_id, account_id, mailbox_id = of
    request_id = requests.add(key, company_id, account_id, mailbox_id, purpose, typed.encoded())
    transaction.note(company_id, action, request_id)
    return request_id


def sealing_key(requests: ConnectRequests) -> SealingKey:
    """The fetchers' key. ApiProblem when no fetcher has published one."""
    key = requests.sealing_key()
    if key is None:
        raise ApiProblem("no-fetcher", headers={"Retry-After": str(RETRY_SECONDS)})
    return key


def _status(requests: ConnectRequests, request_id: str) -> RequestStatus:
    stored = requests.status(request_id)
    if stored is None:
        raise ApiProblem("request-unknown")
    return RequestStatus(**stored, code_text=_code_text(stored["code"], stored["report"] or {}))


def without_login(transaction: ApiTransaction, since: Any = None) -> TypedLogin:
    """A request without a login: who asks, and since when."""
    return TypedLogin(
        address="", password="", consent_by=transaction.caller.actor, text_version=consent.load().current.version,
        language="en", since=since,
    )  # fmt: skip


def _code_text(code: str | None, report: Mapping[str, Any]) -> BilingualText | None:
    """Why a request was refused, else the sentences of its code."""
    if code is None:
        return None
    if "reason" in report and code == NOT_POSSIBLE:
        return BilingualText(**report["reason"])
    return BilingualText(en=_sentence(code, "en"), zh=_sentence(code, "zh"))


def _sentence(code: str, language: Language) -> str:
    sentences = texts.request_sentences(code, language)
    if sentences is not None:
        return ("" if language == "zh" else " ").join(sentences)
    return texts.code_sentence(code, language) or code
