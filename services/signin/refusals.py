"""Why a sign-in by redirect ended without access, as codes; services/connect/texts.toml has their sentences."""

from typing import Any, Final

from services.common.errors import ReplyrateError

AT_THE_BROWSER: Final = ("sign-in-declined", "admin-consent-needed", "sign-in-expired", "sign-in-used", "other-session",
    "issuer-differs", "sign-in-unavailable", "client-refused", "sign-in-not-set-up", "sign-in-incomplete")  # fmt: skip
"""Codes with which the web process ends a sign-in; a fetcher may end one with most of them, too."""
AT_THE_FETCHER: Final = ("identity-differs", "lasting-access-missing", "code-expired")
"""Further codes, known only when the code was exchanged."""


class SignInRefused(ReplyrateError):
    """A sign-in by redirect ended without access. `report`: values that its owner may see."""

    def __init__(self, code: str, detail: str = "", *, report: dict[str, Any] | None = None) -> None:
        """`detail` is for the operator; it has nothing of what the provider wrote but error codes."""
        self.code = code
        self.report = report
        super().__init__(f"{code}: {detail}" if detail else code)
