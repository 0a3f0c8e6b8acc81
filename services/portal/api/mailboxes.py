"""Mailboxes: lists, states with their reasons and what to do, and what a platform does with them."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query
from pydantic import StringConstraints
from starlette.responses import Response

from services.common.language import Bilingual
from services.common.tables import read_sentences
from services.connect import texts
from services.portal.api.callers import ApiCaller, requires
from services.portal.api.posts import ApiAnswer, ApiPost, ApiTransaction, posts
from services.portal.api.problems import ApiProblem, FieldProblem
from services.portal.api.values import (
    ApiModel,
    BilingualText,
    Cursor,
    IdPrefix,
    Instant,
    PageSize,
    PathId,
    PlatformId,
    decode_cursor,
    encode_cursor,
)
from services.providers import catalog
from services.registry import states
from services.registry.addresses import Role
from services.registry.api_changes import ApiAction
from services.registry.keyset import KeysetRange
from services.registry.lists import MailboxFilter, RegistryLists
from services.registry.mailboxes import MailboxAction, Mailboxes
from services.registry.state_changes import StateChanges
from services.registry.states import State

router = APIRouter(tags=["registry"])

Reason = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z0-9-]+$")]
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match", max_length=200, description="The ETag of the mailbox that was read; another one is refused."
    ),
]
DONE: Final[Mapping[str, ApiAction]] = {
    "pause": "mailbox-paused", "resume": "mailbox-resumed", "rescan": "mailbox-rescanned",
}  # fmt: skip


class MailboxResource(ApiModel):
    """A mailbox whose Sent folder is read."""

    company_id: str
    mailbox_id: str
    account_id: str
    role: Role
    """Which address of the account it belongs to."""
    state: State
    state_name: BilingualText
    reason: str | None
    """Why it is in this state: an event (docs/mailbox-states.md) or a code of the connection test."""
    reason_text: BilingualText | None
    advice: BilingualText
    """What to do next."""
    state_changed_at: Instant
    address_masked: str
    host: str
    port: int
    provider: str | None
    """Id of the provider that its server belongs to; null when it is not in the directory."""
    connected_at: Instant
    reconnected_at: Instant | None
    removed_at: Instant | None
    last_success_at: Instant | None
    last_attempt_at: Instant | None
    next_poll_at: Instant
    expected_from: Instant | None
    """From when on the connection test expects it to be complete."""
    complete_from: Instant | None
    complete_through: Instant | None
    """Coverage: every message sent from `complete_from` through `complete_through` is known."""
    etag: str
    """For If-Match: changes with the state and the login, and not with each poll."""


class MailboxPage(ApiModel):
    """A page of mailboxes in the order of company and id."""

    items: list[MailboxResource]
    next: str | None
    """`after` of the following page; null on the last one."""


class StateChange(ApiModel):
    """A change of a mailbox's state."""

    from_state: str | None
    to_state: str
    reason: str | None
    reason_text: BilingualText | None
    changed_at: Instant
    changed_by: str


class GivenConsents(ApiModel):
    """Who consented to which text, and who withdrew."""

    consented_by: str
    consented_at: Instant
    text_version: str
    language: str
    withdrawn_by: str | None
    withdrawn_at: Instant | None


class MailboxHistory(ApiModel):
    """Everything that happened to a mailbox, oldest first."""

    history: list[StateChange]
    consents: list[GivenConsents]


@router.get("/mailboxes", summary="List mailboxes")
def list_mailboxes(
    caller: Annotated[ApiCaller, requires("registry:read")],
    company_id: Annotated[PlatformId | None, Query(description="Of this company.")] = None,
    company_prefix: Annotated[IdPrefix, Query(description="Of companies whose id begins with this.")] = "",
    account_id: Annotated[PlatformId | None, Query(description="Of this account.")] = None,
    state: Annotated[list[State] | None, Query(description="In one of these states.", max_length=7)] = None,
    reason: Annotated[Reason | None, Query(description="With this reason of its state.")] = None,
    provider: Annotated[Reason | None, Query(description="Id of the provider (GET /v1/providers).")] = None,
    after: Cursor = None,
    limit: PageSize = 100,
) -> MailboxPage:
    wanted = MailboxFilter(
        KeysetRange.of(company_prefix, caller.company_prefix), company_id, account_id, state, reason,
        None if provider is None else _hosts(provider),
    )  # fmt: skip
    last_company, last_mailbox = decode_cursor(after, ("", ""))
    with caller.transaction() as connection:
        page = RegistryLists(connection).mailboxes(wanted, (last_company, last_mailbox), limit)
    following = encode_cursor(page[-1]["company_id"], page[-1]["mailbox_id"]) if len(page) == limit else None
    return MailboxPage(items=[as_mailbox(mailbox) for mailbox in page], next=following)


@router.get("/companies/{company_id}/mailboxes/{mailbox_id}", summary="Show a mailbox")
def get_mailbox(
    response: Response, caller: Annotated[ApiCaller, requires("registry:read")], company_id: PathId, mailbox_id: PathId
) -> MailboxResource:
    with caller.transaction() as connection:
        mailbox = as_mailbox(RegistryLists(connection).mailbox(company_id, mailbox_id))
    response.headers["ETag"] = mailbox.etag
    return mailbox


@router.get("/companies/{company_id}/mailboxes/{mailbox_id}/history", summary="Show what happened to a mailbox")
def get_mailbox_history(
    caller: Annotated[ApiCaller, requires("registry:read")], company_id: PathId, mailbox_id: PathId
) -> MailboxHistory:
    with caller.transaction() as connection:
        lists = RegistryLists(connection)
        lists.mailbox(company_id, mailbox_id)
        stored = lists.history(company_id, mailbox_id)
    return MailboxHistory(
        history=[StateChange(**change, reason_text=_reason_text(change["reason"])) for change in stored["history"]],
        consents=[GivenConsents(**consent) for consent in stored["consents"]],
    )


@router.post(
    "/companies/{company_id}/mailboxes/{mailbox_id}/pause",
    summary="Stop reading a mailbox until it is resumed",
    response_model=MailboxResource,
)
def pause_mailbox(
    post: Annotated[ApiPost, posts("registry:write")],
    company_id: PathId,
    mailbox_id: PathId,
    if_match: IfMatch = None,
) -> Response:
    return _change(post, "pause", company_id, mailbox_id, if_match)


@router.post(
    "/companies/{company_id}/mailboxes/{mailbox_id}/resume",
    summary="Read a paused mailbox again",
    response_model=MailboxResource,
)
def resume_mailbox(
    post: Annotated[ApiPost, posts("registry:write")],
    company_id: PathId,
    mailbox_id: PathId,
    if_match: IfMatch = None,
) -> Response:
    return _change(post, "resume", company_id, mailbox_id, if_match)


@router.post(
    "/companies/{company_id}/mailboxes/{mailbox_id}/rescan",
    summary="Read everything within the horizon again",
    response_model=MailboxResource,
)
def rescan_mailbox(
    post: Annotated[ApiPost, posts("registry:write")],
    company_id: PathId,
    mailbox_id: PathId,
    if_match: IfMatch = None,
) -> Response:
    return _change(post, "rescan", company_id, mailbox_id, if_match)


def _change(post: ApiPost, action: MailboxAction, company_id: str, mailbox_id: str, if_match: str | None) -> Response:
    def work(transaction: ApiTransaction) -> ApiAnswer:
        check_match(transaction, company_id, mailbox_id, if_match)
        Mailboxes(transaction.connection).change(action, company_id, mailbox_id, by=transaction.caller.actor)
        transaction.note(company_id, DONE[action], mailbox_id)
        mailbox = as_mailbox(RegistryLists(transaction.connection).mailbox(company_id, mailbox_id))
        return ApiAnswer(200, mailbox, {"ETag": mailbox.etag})

    return post.answer(None, work)


def check_match(transaction: ApiTransaction, company_id: str, mailbox_id: str, if_match: str | None) -> MailboxResource:
    """Lock a mailbox, compare its ETag (RFC 9110 section 13.1.1), and return it. ApiProblem when it is another; RegistryError when
    there is no such mailbox."""
    StateChanges(transaction.connection).lock(company_id, mailbox_id)
    mailbox = as_mailbox(RegistryLists(transaction.connection).mailbox(company_id, mailbox_id))
    tags = ["*"] if if_match is None else [tag.strip() for tag in if_match.split(",")]
    if "*" not in tags and mailbox.etag not in tags:
        raise ApiProblem("changed-meanwhile", headers={"ETag": mailbox.etag})
    return mailbox


def as_mailbox(stored: Mapping[str, Any]) -> MailboxResource:
    """A row of services/registry/lists.sql as the API shows it."""
    shown = {name: value for name, value in stored.items() if name != "state_reason"}
    provider = catalog.load().by_host(stored["host"])
    return MailboxResource(
        **shown,
        state_name=BilingualText.of(states.load().names[stored["state"]]),
        reason=stored["state_reason"],
        reason_text=_reason_text(stored["state_reason"]),
        advice=BilingualText.of(advice()[stored["state"]]),
        provider=None if provider is None else provider.id,
        etag=_etag(stored),
    )


def advice() -> Mapping[str, Bilingual]:
    """What to do next about a mailbox, by its state: advice.toml."""
    return read_sentences("services.portal.api", "advice.toml", "state")


def _etag(stored: Mapping[str, Any]) -> str:
    names = ("mailbox_id", "account_id", "role", "state", "state_reason", "state_changed_at", "reconnected_at", "removed_at", "host", "port")  # fmt: skip
    return f'"{hashlib.sha256(repr([stored[name] for name in names]).encode()).hexdigest()[:24]}"'


def _reason_text(code: str | None) -> BilingualText | None:
    return None if code is None else BilingualText(en=texts.state_reason(code, "en"), zh=texts.state_reason(code, "zh"))


def _hosts(provider_id: str) -> list[str]:
    """The servers that lead to a provider. ApiProblem when there is none with this id."""
    hosts = catalog.load().hosts_of(provider_id)
    if hosts is None:
        raise ApiProblem("invalid-request", fields=[FieldProblem("provider", "query", "provider-unknown")])
    return hosts
