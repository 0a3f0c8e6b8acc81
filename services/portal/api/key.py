"""The key of the request itself: a platform checks here that its key works, and what it may do."""

from typing import Annotated

from fastapi import APIRouter

from services.portal.api.callers import ApiCaller, requires
from services.portal.api.values import ApiModel

router = APIRouter(tags=["keys"])


class OwnKey(ApiModel):
    """The key of a request."""

    key_id: str
    name: str
    scopes: list[str]
    company_prefix: str
    """The key is for companies whose id begins with this."""


@router.get("/key", summary="Show what the key of the request may do")
def own_key(caller: Annotated[ApiCaller, requires()]) -> OwnKey:
    return OwnKey(
        key_id=caller.key_id, name=caller.name, scopes=sorted(caller.scopes), company_prefix=caller.company_prefix
    )
