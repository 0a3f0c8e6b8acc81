"""API keys of platforms: the list, a new key with its secret, rotation and revocation."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Form
from starlette.responses import RedirectResponse, Response

from services.portal.console.problems import ConsoleProblem
from services.portal.console.staff import Staff, StaffGate
from services.registry.api_keys import NAME_CHARACTERS, PREFIX_CHARACTERS, SCOPES, ApiKeys, NewApiKey
from services.registry.errors import RegistryError

PATH: Final = "/api-keys"
NAME: Final = "keys"
MAX_OVERLAP_HOURS: Final = 24 * 90
DEFAULT_OVERLAP_HOURS: Final = 24


def routes(gate: StaffGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get(PATH)
    def show_list(staff: Annotated[Staff, Depends(gate.operating_reader)]) -> Response:
        return staff.page("console_keys.html", NAME, keys=_keys(staff))

    @router.get(PATH + "/new")
    def show_new(staff: Annotated[Staff, Depends(gate.operating_reader)]) -> Response:
        return _new_page(staff, {"name": "", "scopes": [], "companies": "", "expires": ""})

    @router.get(PATH + "/{key_id}")
    def show(staff: Annotated[Staff, Depends(gate.operating_reader)], key_id: str) -> Response:
        return _key_page(staff, key_id)

    _add_creation(router, gate)
    _add_changes(router, gate)
    return router


def _add_creation(router: APIRouter, gate: StaffGate) -> None:
    @router.post(PATH)
    def create(
        staff: Annotated[Staff, Depends(gate.operating_sender)],
        name: Annotated[str, Form(max_length=1000)] = "",
        scopes: Annotated[list[str], Form()] = [],  # noqa: B006 - FastAPI copies it
        companies: Annotated[str, Form(max_length=1000)] = "",
        expires: Annotated[str, Form(max_length=20)] = "",
    ) -> Response:
        values = {"name": name, "scopes": scopes, "companies": companies, "expires": expires}
        errors: dict[str, str] = {}
        expires_at = _expiry(staff, expires, errors)
        if not 0 < len(name.strip()) <= NAME_CHARACTERS:
            errors["name"] = staff.says("keys.name_wrong", most=NAME_CHARACTERS)
        if len(companies) > PREFIX_CHARACTERS:
            errors["companies"] = staff.says("keys.companies_wrong", most=PREFIX_CHARACTERS)
        if not scopes or set(scopes) - set(SCOPES):
            errors["scopes"] = staff.says("keys.scopes_wrong")
        if errors:
            return _new_page(staff, values, errors)
        try:
            with staff.transaction() as connection:
                key = ApiKeys(connection).add(
                    name.strip(), tuple(scopes), companies, by=staff.session.signature, expires_at=expires_at
                )
                staff.note(connection, "create-key", key_id=key.key_id, scopes=scopes, companies=companies)
        except RegistryError:
            return _new_page(staff, values, {"name": staff.says("keys.text_wrong")})
        return _secret_page(staff, key)


def _add_changes(router: APIRouter, gate: StaffGate) -> None:
    @router.post(PATH + "/{key_id}/rotate")
    def rotate(
        staff: Annotated[Staff, Depends(gate.operating_sender)],
        key_id: str,
        overlap_hours: Annotated[int, Form(ge=0, le=MAX_OVERLAP_HOURS)],
    ) -> Response:
        try:
            with staff.transaction() as connection:
                key = ApiKeys(connection).rotate(key_id, overlap_hours, by=staff.session.signature)
                staff.note(connection, "rotate-key", key_id=key_id, new_key_id=key.key_id, overlap_hours=overlap_hours)
        except RegistryError:
            return _key_page(staff, key_id, is_refused=True)
        return _secret_page(staff, key, replaced=key_id, overlap_hours=overlap_hours)

    @router.post(PATH + "/{key_id}/revoke")
    def revoke(staff: Annotated[Staff, Depends(gate.operating_sender)], key_id: str) -> Response:
        try:
            with staff.transaction() as connection:
                ApiKeys(connection).revoke(key_id, by=staff.session.signature)
                staff.note(connection, "revoke-key", key_id=key_id)
        except RegistryError:
            return _key_page(staff, key_id, is_refused=True)
        return RedirectResponse(f"{PATH}/{key_id}", 303)


def _keys(staff: Staff) -> list[dict[str, Any]]:
    with staff.transaction() as connection:
        return ApiKeys(connection).all()


def _new_page(staff: Staff, values: dict[str, Any], errors: dict[str, str] | None = None) -> Response:
    return staff.page(
        "console_key_new.html", NAME, status=422 if errors else 200, values=values, errors=errors or {}, scopes=SCOPES
    )  # fmt: skip


def _key_page(staff: Staff, key_id: str, *, is_refused: bool = False) -> Response:
    """The page of a key, also after a change that was refused because it is not valid any more. ConsoleProblem without such a key."""
    for key in _keys(staff):
        if key["key_id"] == key_id:
            return staff.page(
                "console_key.html", NAME, status=409 if is_refused else 200, key=key, is_refused=is_refused,
                overlap_hours=DEFAULT_OVERLAP_HOURS, most_hours=MAX_OVERLAP_HOURS,
            )  # fmt: skip
    raise ConsoleProblem("not-found")


def _secret_page(staff: Staff, key: NewApiKey, *, replaced: str = "", overlap_hours: int = 0) -> Response:
    return staff.page(
        "console_key_secret.html", NAME, status=201, key_id=key.key_id, secret=key.secret, replaced=replaced,
        overlap_hours=overlap_hours,
    )  # fmt: skip


def _expiry(staff: Staff, day: str, errors: dict[str, str]) -> datetime | None:
    """The end of validity, at the beginning of a UTC day; None: never."""
    if not day:
        return None
    try:
        expires_at = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
    except ValueError:
        expires_at = None
    if expires_at is None or expires_at <= staff.resources.clock():
        errors["expires"] = staff.says("keys.expires_wrong")
        return None
    return expires_at
