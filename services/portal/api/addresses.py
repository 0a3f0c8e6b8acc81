"""The addresses by which the platform knows an account. They are stored sealed, so a fetcher carries out every change; the portal
shows them masked."""

from typing import Annotated

from fastapi import APIRouter, Query
from msgspec import structs
from pydantic import Field
from starlette.responses import Response

from services.portal.api.callers import ApiCaller, requires
from services.portal.api.connect import MailAddress
from services.portal.api.posts import ApiAnswer, ApiPost, ApiTransaction, posts
from services.portal.api.requests import RequestStatus, submitted, without_login
from services.portal.api.values import ApiModel, Instant, PathId, PlatformId
from services.registry.accounts import Accounts
from services.registry.addresses import Role, address_missing, check_may_change
from services.registry.lists import RegistryLists

router = APIRouter(tags=["registry"])

PATH = "/companies/{company_id}/accounts/{account_id}/addresses"
WHO = "A fetcher carries it out. The registered address of a sub-account is changed by a main account, which `by_account` names."


class AccountAddress(ApiModel):
    """An address of an account on the platform."""

    role: Role
    address_masked: str
    changed_at: Instant


class AccountAddressList(ApiModel):
    """The addresses of an account, the registered one first; at most one for each role."""

    items: list[AccountAddress]


class AddressValues(ApiModel):
    """An address, and who sets it."""

    address: MailAddress = Field(repr=False)
    by_account: PlatformId | None = None
    """The account that sets it; the account itself when left out."""


@router.get(PATH, summary="List the addresses of an account")
def list_addresses(
    caller: Annotated[ApiCaller, requires("registry:read")], company_id: PathId, account_id: PathId
) -> AccountAddressList:
    with caller.transaction() as connection:
        Accounts(connection).get(company_id, account_id)
        stored = RegistryLists(connection).addresses(company_id, account_id)
    return AccountAddressList(items=[AccountAddress(**address) for address in stored])


@router.put(
    PATH + "/{role}",
    summary="Set an address of an account",
    description=f"{WHO} Mailboxes of the previous address must then be connected again; when none was known, those of every other"
    " address. The report of the request lists them.",
    status_code=202,
    response_model=RequestStatus,
)
def put_address(
    post: Annotated[ApiPost, posts("registry:write")],
    company_id: PathId,
    account_id: PathId,
    role: Role,
    values: AddressValues,
) -> Response:
    def work(transaction: ApiTransaction) -> ApiAnswer:
        check_may_change(Accounts(transaction.connection), company_id, account_id, role, values.by_account)
        typed = structs.replace(
            without_login(transaction), address=values.address, role=role, by_account=values.by_account
        )
        return submitted(transaction, "address-change", (company_id, account_id, ""), typed, "address-change-requested")

    return post.answer(values, work)


@router.delete(
    PATH + "/{role}",
    summary="Forget an address of an account",
    description=f"{WHO} Mailboxes stay connected.",
    status_code=202,
    response_model=RequestStatus,
)
def delete_address(
    post: Annotated[ApiPost, posts("registry:write")],
    company_id: PathId,
    account_id: PathId,
    role: Role,
    by_account: Annotated[
        PlatformId | None, Query(description="The account that removes it; the account itself when left out.")
    ] = None,
) -> Response:
    def work(transaction: ApiTransaction) -> ApiAnswer:
        check_may_change(Accounts(transaction.connection), company_id, account_id, role, by_account)
        stored = RegistryLists(transaction.connection).addresses(company_id, account_id)
        if role not in [address["role"] for address in stored]:
            raise address_missing(account_id, role)
        typed = structs.replace(without_login(transaction), role=role, by_account=by_account)
        return submitted(
            transaction, "address-removal", (company_id, account_id, ""), typed, "address-removal-requested"
        )

    return post.answer((by_account or "").encode(), work)
