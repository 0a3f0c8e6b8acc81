"""Sign-in by redirect, in place of a password: the seller signs in at the provider and comes back with a code.

1. The form of the login step is sent to `start`: it stores a state for the session and shows a page that leads to the provider.
2. The provider leads back to `come_back`: it uses the state up, checks the answer, and seals the code for the fetchers.
3. The page of the request goes on as with a password (progress.py).

Each client has a callback of its own, so an answer of another provider is noticed also where providers do not send their name.
"""

from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form
from starlette.responses import Response

from services.connect import texts
from services.connect.typed_login import AUTHORIZATION_CODE, TypedLogin, are_folder_names
from services.imap.errors import SignInNotConfigured
from services.portal.pages import address, requests, servers
from services.portal.pages.cookies import Draft, StartedSignIn
from services.portal.pages.problems import PageProblem
from services.portal.pages.seller import Seller, SellerGate
from services.portal.pages.servers import ServerChoice
from services.registry.connect_requests import Purpose
from services.registry.secret_tokens import new_id, token_hash
from services.registry.sign_ins import SignIns
from services.signin.authorization import (
    AuthorizationAnswer,
    authorization_url,
    new_state,
    parse_answer,
    refusal_of,
    secrets_of,
)
from services.signin.clients import RedirectClient, redirect_client_for
from services.signin.code_exchange import ReturnedCode

PATH: Final = "/connect/sign-in"
CALLBACK_PATH: Final = f"{PATH}/callback"
STATUS: Final = {"sign-in-used": 409, "sign-in-expired": 410, "sign-in-unavailable": 503, "sign-in-not-set-up": 422}
"""Status of the page of a code; others have 400."""
OUTCOMES: Final = {"used": "sign-in-used", "expired": "sign-in-expired", "unknown": "other-session"}
"""Why a state cannot be used → our code."""
FOLDER_CHARACTERS: Final = 1500
"""Of all chosen folders together, so that they fit into a cookie."""
USER_CHARACTERS: Final = 320
Text = Annotated[str, Form(max_length=2000)]


def routes(gate: SellerGate) -> APIRouter:
    """The routes of the sign-in."""
    router = APIRouter()

    @router.post(PATH)
    def start(
        seller: Annotated[Seller, Depends(gate.consenting_sender)],
        mailbox_address: Text = "",
        host: Text = "",
        port: Text = "",
        starttls: Text = "",
        user: Annotated[str, Form(max_length=USER_CHARACTERS)] = "",
        confirms: Text = "",
        folders: Annotated[list[str], Form()] = [],  # noqa: B006 (FastAPI copies it)
    ) -> Response:
        draft, confirmed_identity = gate.cookies.draft(seller.request), None
        if confirms:
            confirmed_identity = requests.read(seller, confirms).report.get("confirm")
        else:
            draft = servers.typed_draft(draft, mailbox_address, host, port, bool(starttls), user)
        if address.address_error(seller, draft.address):
            return gate.redirect(address.PATH)
        if sum(map(len, folders)) > FOLDER_CHARACTERS or not are_folder_names(folders):
            raise PageProblem("form-incomplete")
        client = _client(seller, draft.host)
        if client is None or draft.port is None:
            return _refused(seller, "sign-in-not-set-up")
        return _leave(gate, seller, client, draft, tuple(folders), confirmed_identity)

    @router.get(CALLBACK_PATH + "/{client_name}")
    def come_back(seller: Annotated[Seller, Depends(gate.consenting_reader)], client_name: str) -> Response:
        answer = parse_answer(seller.request.query_params.multi_items())
        if answer is None:
            return _refused(seller, "sign-in-incomplete")
        with seller.database() as connection:
            used = SignIns(connection).use(answer.state)
        if used.outcome != "open":
            return _refused(seller, OUTCOMES[used.outcome], used.request_id)
        started = gate.cookies.started_sign_in(seller.request)
        if started is None or started.state_hash != token_hash(answer.state).hex():
            return _refused(seller, "other-session")
        client = _client(seller, started.draft.host)
        if client is None or not client_name == used.client == client.name:
            return _refused(seller, "issuer-differs")
        refusal = refusal_of(answer, client)
        if refusal is not None:
            return _refused(seller, refusal)
        if address.address_error(seller, started.draft.address):
            return gate.redirect(address.PATH)
        request_id = _submit(seller, client, answer, started)
        response = gate.redirect(f"/connect/requests/{request_id}", started.draft)
        gate.cookies.delete(response, "sign-in")
        return response

    return router


def offer(seller: Seller, choice: ServerChoice, host: str) -> str | None:
    """The client with which the seller may sign in instead of typing a password; None where there is none.

    At a server that nobody knows yet, the client `other` is offered if there is one; it must be for the server that is typed.
    """
    client = _client(seller, host)
    if client is not None:
        return client.name
    settings = seller.resources.settings.oauth2.other
    return "other" if choice.provider is None and settings.client_id and settings.authorize_url else None


def _client(seller: Seller, host: str) -> RedirectClient | None:
    try:
        return redirect_client_for(host, seller.resources.settings.oauth2)
    except SignInNotConfigured:
        return None


def _redirect_uri(seller: Seller, client: RedirectClient) -> str:
    return f"{seller.resources.origin}{CALLBACK_PATH}/{client.name}"


def _leave(
    gate: SellerGate,
    seller: Seller,
    client: RedirectClient,
    draft: Draft,
    folders: tuple[str, ...],
    confirmed_identity: str | None,
) -> Response:
    """Store the state of a new sign-in; the page that leads to the provider."""
    state = new_state()
    with seller.database() as connection:
        if not SignIns(connection).begin(state, client.name):
            raise PageProblem("session-ended")
    sign_in = secrets_of(seller.token, state)
    url = authorization_url(client, _redirect_uri(seller, client), state, sign_in, draft.address)
    response = seller.page(
        "sign_in_leave.html", here=f"{address.LOGIN_PATH}?lang=", step=3, url=url, host=urlsplit(url).hostname
    )
    gate.cookies.set_draft(response, draft)
    gate.cookies.set_started_sign_in(
        response, StartedSignIn(token_hash(state).hex(), draft, folders, confirmed_identity)
    )
    return response


def _submit(seller: Seller, client: RedirectClient, answer: AuthorizationAnswer, started: StartedSignIn) -> str:
    """Seal the code for the fetchers; the id of the request."""
    assert answer.code is not None
    draft, session = started.draft, seller.session
    sign_in = secrets_of(seller.token, answer.state)
    # The account must be that of an address which the link names; the cookie may name any other one as confirmed.
    confirmed_identity = None if session.expected_address_hash else started.confirmed_identity
    typed = TypedLogin(
        address=draft.address,
        password="",
        consent_by=session.consent_by or "",
        text_version=session.consent_text_version or "",
        language=session.consent_language or seller.language,
        role=seller.role(draft),
        host=draft.host,
        port=draft.port,
        starttls=draft.starttls,
        user=draft.user or None,
        sent_folders=started.folders,
        kind=AUTHORIZATION_CODE,
        session_id=session.session_id,
        sign_in=ReturnedCode(
            client.name, answer.code, sign_in.verifier, sign_in.nonce, _redirect_uri(seller, client), confirmed_identity
        ),
    )  # fmt: skip
    mailbox_id = session.mailbox_id or draft.mailbox_id
    purpose: Purpose = "connect" if mailbox_id is None else "reconnect"
    request_id = requests.submit(seller, purpose, mailbox_id or new_id("m"), typed)
    with seller.database() as connection:
        SignIns(connection).note_request(answer.state, request_id)
    return request_id


def _refused(seller: Seller, code: str, request_id: str | None = None) -> Response:
    """The page of a sign-in that ended without access."""
    return seller.page(
        "sign_in_problem.html", status=STATUS.get(code, 400), here=f"{address.LOGIN_PATH}?lang=", step=3,
        sentences=texts.request_sentences(code, seller.language), request_id=request_id,
    )  # fmt: skip
