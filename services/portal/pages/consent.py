"""First step: what is read and why, and the consent to it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form
from starlette.responses import Response

from services.common.language import Language
from services.connect import consent
from services.portal.pages.seller import CONSENT, Seller, SellerGate
from services.portal.pages.texts import text
from services.registry.errors import RegistryError
from services.registry.portal_sessions import PortalSessions


def routes(gate: SellerGate) -> APIRouter:
    """The routes of the step."""
    router = APIRouter()

    @router.get(CONSENT)
    def show(seller: Annotated[Seller, Depends(gate.reader)]) -> Response:
        return _page(seller, name=seller.session.consent_by or "")

    @router.post(CONSENT)
    def give(
        seller: Annotated[Seller, Depends(gate.sender)],
        name: Annotated[str, Form(max_length=1000)] = "",
        agreed: Annotated[str, Form()] = "",
        text_version: Annotated[str, Form()] = "",
        text_language: Annotated[Language, Form()] = "en",
    ) -> Response:
        errors: dict[str, str] = {}
        try:
            consent.check_name("name", name.strip())
        except RegistryError:
            errors["name"] = text("consent.name_wrong", seller.language)
        if text_version != consent.load().current.version:
            errors["agreed"] = text("consent.changed", seller.language)
        elif not agreed:
            errors["agreed"] = text("consent.agreed_missing", seller.language)
        if errors:
            return _page(seller, name=name, errors=errors, status=422)
        with seller.database() as connection:
            PortalSessions(connection).give_consent(name.strip(), text_version, text_language)
        return gate.redirect("/connect/address")

    return router


def _page(seller: Seller, *, name: str, errors: dict[str, str] | None = None, status: int = 200) -> Response:
    current = consent.load().current
    paragraphs = current.texts[seller.language].split("\n\n")
    return seller.page(
        "consent.html", status=status, here=f"{CONSENT}?lang=", step=1, errors=errors or {}, name=name, paragraphs=paragraphs,
        version=current.version,
    )  # fmt: skip
