"""Second step: the address of the mailbox, from which server and kind of password follow."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form
from starlette.responses import Response

from services.connect import texts
from services.connect.typed_login import TypedLogin
from services.portal.pages import requests, servers
from services.portal.pages.cookies import Draft
from services.portal.pages.seller import Seller, SellerGate
from services.providers.addresses import domain_of

PATH: Final = "/connect/address"
LOGIN_PATH: Final = "/connect/login"
ADDRESS_CHARACTERS: Final = 320
"""The longest address (RFC 3696, erratum 1690), also in its form with a name."""


def routes(gate: SellerGate) -> APIRouter:
    """The routes of the step."""
    router = APIRouter()

    @router.get(PATH)
    def show(seller: Annotated[Seller, Depends(gate.consenting_reader)]) -> Response:
        return _page(seller, gate.cookies.draft(seller.request).address)

    @router.post(PATH)
    def send(
        seller: Annotated[Seller, Depends(gate.consenting_sender)], address: Annotated[str, Form(max_length=2000)] = ""
    ) -> Response:
        address = address.strip()
        if error := address_error(seller, address):
            return _page(seller, address, error)
        earlier = gate.cookies.draft(seller.request)
        draft = Draft(address, earlier.mailbox_id, role=earlier.role)
        if servers.in_directory(address) is not None:
            return gate.redirect(LOGIN_PATH, draft)
        typed = TypedLogin(address, "", seller.session.consent_by or "", "", seller.language)
        request_id = requests.submit(seller, "look-up", "", typed)
        return gate.redirect(f"/connect/requests/{request_id}", draft)

    return router


def address_error(seller: Seller, address: str) -> tuple[str, str] | None:
    """What is wrong with a typed address and what to do; None when this session may connect it."""
    if (
        len(address) > ADDRESS_CHARACTERS
        or domain_of(address) is None
        or "@" not in address
        or len(address.split()) != 1
    ):
        return texts.request_sentences("address-malformed", seller.language)
    if not seller.session.expects(seller.address_key, address):
        return texts.request_sentences("address-not-expected", seller.language)
    return None


def _page(seller: Seller, address: str, error: tuple[str, str] | None = None) -> Response:
    return seller.page(
        "address.html", status=422 if error else 200, here=f"{PATH}?lang=", step=2, address=address, error=error
    )  # fmt: skip
