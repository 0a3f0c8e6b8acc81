"""Companies and their accounts."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from services.portal.api.callers import ApiCaller, requires, resources_of
from services.portal.api.posts import ApiAnswer, ApiPost, ApiTransaction, posts
from services.portal.api.problems import ApiProblem, FieldProblem
from services.portal.api.values import (
    ApiModel,
    Cursor,
    IdPrefix,
    Instant,
    PageSize,
    PathId,
    StoredInstant,
    decode_cursor,
    encode_cursor,
)
from services.registry.accounts import CLOCK_DIFFERENCE, Accounts
from services.registry.companies import Companies
from services.registry.keyset import KeysetRange
from services.registry.lists import RegistryLists

router = APIRouter(tags=["registry"])

Kind = Literal["main", "sub"]


class Company(ApiModel):
    """A company: a seller of the platform."""

    company_id: str
    created_at: Instant


class CompanyPage(ApiModel):
    """A page of companies in the order of their ids."""

    items: list[Company]
    next: str | None
    """`after` of the following page; null on the last one."""


class AccountValues(ApiModel):
    """What a platform says about an account."""

    kind: Kind = "main"
    synced_by_platform_from: StoredInstant | None = None
    """Since when the account answers through the platform's own mail, 2000-01-01 at the earliest; null when it answers from mailboxes."""


class Account(ApiModel):
    """An account of a company."""

    company_id: str
    account_id: str
    kind: Kind
    synced_by_platform_from: Instant | None
    created_at: Instant


class AccountPage(ApiModel):
    """A page of accounts in the order of their ids."""

    items: list[Account]
    next: str | None
    """`after` of the following page; null on the last one."""


@router.get("/companies", summary="List companies")
def list_companies(
    caller: Annotated[ApiCaller, requires("registry:read")],
    prefix: Annotated[IdPrefix, Query(description="Beginning of their ids.")] = "",
    after: Cursor = None,
    limit: PageSize = 100,
) -> CompanyPage:
    (last_id,) = decode_cursor(after, ("",))
    with caller.transaction() as connection:
        page = RegistryLists(connection).companies(KeysetRange.of(prefix, caller.company_prefix), last_id, limit)
    following = encode_cursor(page[-1]["company_id"]) if len(page) == limit else None
    return CompanyPage(items=[Company(**company) for company in page], next=following)


@router.get("/companies/{company_id}", summary="Show a company")
def get_company(caller: Annotated[ApiCaller, requires("registry:read")], company_id: PathId) -> Company:
    with caller.transaction() as connection:
        return _company(RegistryLists(connection), company_id)


@router.put(
    "/companies/{company_id}", summary="Register a company", response_model=Company, responses={201: {"model": Company}}
)
def put_company(post: Annotated[ApiPost, posts("registry:write")], company_id: PathId) -> Response:
    post.caller.check_company(company_id)

    def work(transaction: ApiTransaction) -> ApiAnswer:
        is_new = Companies(transaction.connection).add(company_id)
        if is_new:
            transaction.note(company_id, "company-added")
        return ApiAnswer(201 if is_new else 200, _company(RegistryLists(transaction.connection), company_id))

    return post.answer(None, work)


@router.get("/companies/{company_id}/accounts", summary="List the accounts of a company")
def list_accounts(
    caller: Annotated[ApiCaller, requires("registry:read")],
    company_id: PathId,
    after: Cursor = None,
    limit: PageSize = 100,
) -> AccountPage:
    (last_id,) = decode_cursor(after, ("",))
    with caller.transaction() as connection:
        Companies(connection).check_exists(company_id)
        page = RegistryLists(connection).accounts(company_id, last_id, limit)
    following = encode_cursor(page[-1]["account_id"]) if len(page) == limit else None
    return AccountPage(items=[Account(**account) for account in page], next=following)


@router.get("/companies/{company_id}/accounts/{account_id}", summary="Show an account")
def get_account(
    caller: Annotated[ApiCaller, requires("registry:read")], company_id: PathId, account_id: PathId
) -> Account:
    with caller.transaction() as connection:
        return _account(Accounts(connection), company_id, account_id)


@router.put(
    "/companies/{company_id}/accounts/{account_id}",
    summary="Register an account",
    description="An account that is registered with these values is left as it is; with others the request is refused.",
    response_model=Account,
    responses={201: {"model": Account}},
)
def put_account(
    request: Request,
    post: Annotated[ApiPost, posts("registry:write")],
    company_id: PathId,
    account_id: PathId,
    values: AccountValues,
) -> Response:
    post.caller.check_company(company_id)
    since = values.synced_by_platform_from
    if since is not None and since > resources_of(request).clock() + CLOCK_DIFFERENCE:
        raise ApiProblem("invalid-request", fields=[FieldProblem("synced_by_platform_from", "body", "in-the-future")])

    def work(transaction: ApiTransaction) -> ApiAnswer:
        accounts = Accounts(transaction.connection)
        is_new = accounts.add(company_id, account_id, kind=values.kind, synced_from=since)
        if is_new:
            transaction.note(company_id, "account-added", account_id)
        return ApiAnswer(201 if is_new else 200, _account(accounts, company_id, account_id))

    return post.answer(values, work)


def _company(lists: RegistryLists, company_id: str) -> Company:
    companies = lists.companies(KeysetRange.of(company_id), "", 1)
    if not companies or companies[0]["company_id"] != company_id:
        raise ApiProblem("company-unknown")
    return Company(**companies[0])


def _account(accounts: Accounts, company_id: str, account_id: str) -> Account:
    return Account(company_id=company_id, account_id=account_id, **accounts.get(company_id, account_id))
