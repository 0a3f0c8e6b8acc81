"""What the keys of platforms changed (the audit log)."""

from typing import Annotated

from fastapi import APIRouter, Query

from services.portal.api.callers import ApiCaller, requires
from services.portal.api.values import (
    ApiModel,
    Cursor,
    Instant,
    PageSize,
    PlatformId,
    decode_cursor,
    encode_cursor,
)
from services.registry.api_changes import ApiAction, ApiChanges
from services.registry.keyset import KeysetRange

router = APIRouter(tags=["keys"])


class ApiChange(ApiModel):
    """A change and the key that made it."""

    changed_at: Instant
    key_id: str
    key_name: str
    company_id: str
    action: ApiAction
    subject: str
    """Id of the account, mailbox, session or request; empty for the company itself."""


class ApiChangePage(ApiModel):
    """A page of changes, newest first."""

    items: list[ApiChange]
    next: str | None
    """`after` of the following page; null on the last one."""


@router.get("/changes", summary="List what keys changed, newest first")
def list_changes(
    caller: Annotated[ApiCaller, requires("audit:read")],
    company_id: Annotated[PlatformId | None, Query(description="Of this company.")] = None,
    after: Cursor = None,
    limit: PageSize = 100,
) -> ApiChangePage:
    before = None if after is None else decode_cursor(after, (0,))[0]
    with caller.transaction() as connection:
        page = ApiChanges(connection).page(KeysetRange.of(caller.company_prefix), company_id, before, limit)
    following = encode_cursor(page[-1]["change_id"]) if len(page) == limit else None
    return ApiChangePage(
        items=[ApiChange(**{name: value for name, value in change.items() if name != "change_id"}) for change in page],
        next=following,
    )
