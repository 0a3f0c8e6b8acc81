"""Links: which further companies may connect the login of a mailbox too (services/registry/links.py). Each reads it for itself."""

from typing import Annotated

from fastapi import APIRouter
from starlette.responses import Response

from services.portal.api.callers import ApiCaller, requires
from services.portal.api.mailboxes import IfMatch, check_match
from services.portal.api.posts import ApiAnswer, ApiPost, ApiTransaction, posts
from services.portal.api.values import ApiModel, Instant, PathId
from services.registry.links import Links
from services.registry.lists import RegistryLists

router = APIRouter(tags=["registry"])

PATH = "/companies/{company_id}/mailboxes/{mailbox_id}/links"


class MailboxLink(ApiModel):
    """A company that may connect the login of the mailbox too."""

    company_id: str
    mailbox_id: str | None
    """The mailbox as which it has it connected; null when it has not."""
    linked_by: str
    linked_at: Instant


class MailboxLinkList(ApiModel):
    """The companies of this key that may connect the login of a mailbox too."""

    items: list[MailboxLink]


@router.get(PATH, summary="List the companies that a mailbox is linked with")
def list_links(
    caller: Annotated[ApiCaller, requires("registry:read")], company_id: PathId, mailbox_id: PathId
) -> MailboxLinkList:
    with caller.transaction() as connection:
        RegistryLists(connection).mailbox(company_id, mailbox_id)
        links = Links(connection).of_mailbox(company_id, mailbox_id)
    return MailboxLinkList(items=[MailboxLink(**link) for link in links])


@router.put(
    PATH + "/{linked_company_id}",
    summary="Let another company connect the login of a mailbox too",
    description="Both companies must be of this key. The other one then connects the login as its own mailbox, with a consent of its"
    " own. A link that exists is left as it is.",
    response_model=MailboxLink,
    responses={201: {"model": MailboxLink}},
)
def put_link(
    post: Annotated[ApiPost, posts("registry:write")],
    company_id: PathId,
    mailbox_id: PathId,
    linked_company_id: PathId,
    if_match: IfMatch = None,
) -> Response:
    post.caller.check_company(linked_company_id)

    def work(transaction: ApiTransaction) -> ApiAnswer:
        check_match(transaction, company_id, mailbox_id, if_match)
        links = Links(transaction.connection)
        existing = _with_company(links, company_id, mailbox_id, linked_company_id)
        if existing is not None:
            return ApiAnswer(200, existing)
        links.add(company_id, mailbox_id, linked_company_id, by=transaction.caller.actor)
        for company in (company_id, linked_company_id):
            transaction.note(company, "mailbox-linked", mailbox_id)
        return ApiAnswer(201, _with_company(links, company_id, mailbox_id, linked_company_id))

    return post.answer(None, work)


@router.delete(
    PATH + "/{linked_company_id}",
    summary="End the link of a mailbox with another company",
    description="Refused while both companies have the login connected: remove the mailbox of one of them first.",
    status_code=204,
    response_class=Response,
)
def delete_link(
    post: Annotated[ApiPost, posts("registry:write")],
    company_id: PathId,
    mailbox_id: PathId,
    linked_company_id: PathId,
    if_match: IfMatch = None,
) -> Response:
    def work(transaction: ApiTransaction) -> ApiAnswer:
        check_match(transaction, company_id, mailbox_id, if_match)
        Links(transaction.connection).remove(company_id, mailbox_id, linked_company_id)
        for company in (company_id, linked_company_id):
            transaction.note(company, "mailbox-unlinked", mailbox_id)
        return ApiAnswer(204)

    return post.answer(None, work)


def _with_company(links: Links, company_id: str, mailbox_id: str, linked_company_id: str) -> MailboxLink | None:
    for link in links.of_mailbox(company_id, mailbox_id):
        if link["company_id"] == linked_company_id:
            return MailboxLink(**link)
    return None
