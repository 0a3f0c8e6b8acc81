"""The panel for sellers: links to it, and tokens for frames on pages of the platform (docs/panel.md)."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from services.common.language import Language
from services.portal.api.callers import resources_of
from services.portal.api.connect import ConnectLink, ReturnUrl
from services.portal.api.posts import ApiAnswer, ApiPost, ApiTransaction, posts
from services.portal.api.problems import ApiProblem, FieldProblem
from services.portal.api.values import ApiModel, Instant, PlatformId
from services.registry.panel_sessions import PanelSessions
from services.registry.portal_sessions import LinkRequest, PortalSessions, return_origin

router = APIRouter(tags=["panel"])


class PanelFrameValues(ApiModel):
    """Whose figures a frame shows."""

    company_id: PlatformId
    account_id: PlatformId
    """A main account sees the figures of the whole company, a sub-account its own."""
    language: Language = "en"
    """Language of the pages; the seller can change it."""


class PanelSessionValues(PanelFrameValues):
    """Whose panel a link opens."""

    return_url: ReturnUrl | None = None
    """Page of the platform that the panel leads back to; the operator allows origins (REPLYRATE_PORTAL__RETURN_ORIGINS)."""
    minutes: int | None = Field(None, ge=1, le=10_080)
    """Life of the link; the operator's setting when left out."""


class PanelToken(ApiModel):
    """A token that reads figures for some minutes: of the frame, and of the lists of figures of this API. It can change nothing."""

    session_id: str = Field(repr=False)
    token: str = Field(repr=False)
    url: str = Field(repr=False)
    """Address of the frame with the token in its fragment, which browsers send to no server."""
    expires_at: Instant


@router.post("/panel-sessions", summary="Create a link to the panel", status_code=201, response_model=ConnectLink)
def create_panel_session(
    request: Request, post: Annotated[ApiPost, posts("connect:write", "numbers:read")], values: PanelSessionValues
) -> Response:
    resources = resources_of(request)
    settings = resources.settings.portal
    if values.return_url is not None and return_origin(values.return_url) not in settings.return_origins:
        raise ApiProblem("invalid-request", fields=[FieldProblem("return_url", "body", "origin-not-allowed")])

    def work(transaction: ApiTransaction) -> ApiAnswer:
        wanted = LinkRequest(
            values.company_id, values.account_id, transaction.caller.actor, language=values.language,
            return_url=values.return_url, purpose="panel",
        )  # fmt: skip
        link = PortalSessions(transaction.connection).make_link(wanted, values.minutes or settings.link_minutes)
        transaction.note(values.company_id, "panel-session-created", link.session_id)
        url = link.url(resources.origin, values.language)
        body = ConnectLink(session_id=link.session_id, url=url, expires_at=link.expires_at)
        return ApiAnswer(201, body, {"Location": f"/v1/connect-sessions/{link.session_id}"})

    return post.answer(values, work)


@router.post(
    "/panel-tokens",
    summary="Create a token for a frame with the panel",
    description="The token also reads the lists of figures of this API, as far as the account may see them. The key needs the scope"
    " `registry:read`, too, since the panel shows the account its mailboxes.",
    status_code=201,
    response_model=PanelToken,
)
def create_panel_token(
    request: Request, post: Annotated[ApiPost, posts("numbers:read", "registry:read")], values: PanelFrameValues
) -> Response:
    resources = resources_of(request)

    def work(transaction: ApiTransaction) -> ApiAnswer:
        made_token = PanelSessions(transaction.connection).make_frame_token(
            values.company_id, values.account_id, language=values.language, by=transaction.caller.actor,
            minutes=resources.settings.portal.frame_minutes,
        )  # fmt: skip
        transaction.note(values.company_id, "panel-token-created", made_token.session_id)
        url = f"{resources.origin}/panel/frame?lang={values.language}#token={made_token.token}"
        body = PanelToken(
            session_id=made_token.session_id, token=made_token.token, url=url, expires_at=made_token.expires_at
        )
        return ApiAnswer(201, body)

    return post.answer(values, work)
