"""Third step: server and password. They are sealed for the fetchers at once; the web process stores neither."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form
from msgspec import structs
from starlette.responses import Response

from services.connect.typed_login import TypedLogin, are_folder_names
from services.portal.pages import address, redirect_sign_in, requests, servers
from services.portal.pages.cookies import Draft
from services.portal.pages.problems import PageProblem
from services.portal.pages.requests import RequestView
from services.portal.pages.seller import Seller, SellerGate
from services.portal.pages.servers import ServerChoice
from services.portal.pages.texts import text
from services.providers import catalog
from services.registry.connect_requests import Purpose
from services.registry.secret_tokens import new_id

PASSWORD_CHARACTERS: Final = 1000
Text = Annotated[str, Form(max_length=2000)]


def routes(gate: SellerGate) -> APIRouter:
    """The routes of the step."""
    router = APIRouter()

    @router.get(address.LOGIN_PATH)
    def show(
        seller: Annotated[Seller, Depends(gate.consenting_reader)], request: str = "", provider: str = ""
    ) -> Response:
        draft = gate.cookies.draft(seller.request)
        if not draft.address or address.address_error(seller, draft.address):
            return gate.redirect(address.PATH)
        earlier = _earlier(seller, request)
        chosen = servers.named(draft.address, provider)
        if chosen is not None:
            draft = Draft(draft.address, draft.mailbox_id, role=draft.role)
        return _page(seller, draft, earlier, chosen=chosen)

    @router.post(address.LOGIN_PATH)
    def send(
        seller: Annotated[Seller, Depends(gate.consenting_sender)],
        mailbox_address: Text = "",
        password: Text = "",
        host: Text = "",
        port: Text = "",
        starttls: Text = "",
        user: Text = "",
        request: Text = "",
        folders: Annotated[list[str], Form()] = [],  # noqa: B006 (FastAPI copies it)
    ) -> Response:
        if address.address_error(seller, mailbox_address):
            return gate.redirect(address.PATH)
        if not are_folder_names(folders):
            raise PageProblem("form-incomplete")  # the page offers no such name
        earlier_draft = gate.cookies.draft(seller.request)
        draft = servers.typed_draft(earlier_draft, mailbox_address, host, port, bool(starttls), user)
        wrong_fields = {
            "password": not password or len(password) > PASSWORD_CHARACTERS or not password.isprintable(),
            "host": not draft.host,
            "port": draft.port is None,
        }
        errors = {name: text(f"login.{name}_wrong", seller.language) for name, wrong in wrong_fields.items() if wrong}
        if errors:
            return _page(seller, draft, _earlier(seller, request), errors)
        typed = TypedLogin(
            mailbox_address, password, seller.session.consent_by or "", seller.session.consent_text_version or "",
            seller.session.consent_language or seller.language, seller.role(draft), host.strip(), draft.port, draft.starttls,
            draft.user or None, tuple(folders), session_id=seller.session.session_id,
        )  # fmt: skip
        mailbox_id = seller.session.mailbox_id or draft.mailbox_id
        purpose: Purpose = "connect" if mailbox_id is None else "reconnect"
        request_id = requests.submit(seller, purpose, mailbox_id or new_id("m"), typed)
        return gate.redirect(f"/connect/requests/{request_id}", draft)

    return router


def _earlier(seller: Seller, request_id: str) -> RequestView | None:
    """The request that the form follows: the look-up of the address, or a test that failed."""
    return requests.read(seller, request_id) if request_id else None


def _page(
    seller: Seller,
    draft: Draft,
    earlier: RequestView | None,
    errors: dict[str, str] | None = None,
    chosen: ServerChoice | None = None,
) -> Response:
    looked_up = earlier.report if earlier is not None and earlier.purpose == "look-up" else None
    choice = chosen or servers.in_directory(draft.address)
    if choice is None:
        choice = servers.of_look_up(looked_up) if looked_up else servers.at_server(draft.address, draft.host)
    query = f"request={earlier.request_id}&" if earlier is not None else ""
    if chosen is not None and chosen.provider is not None:
        query += f"provider={chosen.provider.id}&"
    draft = _filled_in(draft, choice)
    folder_choices = [] if earlier is None else earlier.folder_choices
    return seller.page(
        "login.html", status=422 if errors else 200, here=f"{address.LOGIN_PATH}?{query}lang=", step=3, errors=errors or {},
        draft=draft, choice=choice, sign_in=redirect_sign_in.offer(seller, choice, draft.host), secret=choice.secret(seller.language), earlier=earlier,
        earlier_id="" if earlier is None else earlier.request_id,
        providers=[] if choice.is_trusted else catalog.load().providers,
        folder_choices=folder_choices,
        # Closed where the seller need not look at it: the server is known, or it has just been used.
        opens_server=bool(errors and errors.keys() & {"host", "port"})
        or not (folder_choices or choice.is_trusted)
        or (earlier is not None and earlier.is_about_server),
        dns_failed=bool(looked_up and looked_up.get("dns_failed")),
    )  # fmt: skip


def _filled_in(draft: Draft, choice: ServerChoice) -> Draft:
    """The draft with the likely server where none was typed."""
    if draft.host or not choice.servers:
        return draft
    server = choice.servers[0]
    user = (
        draft.address.partition("@")[0] if choice.provider and choice.provider.user_name == "local-part" else draft.user
    )
    return structs.replace(draft, host=server.host, port=server.port, starttls=server.tls == "starttls", user=user)
