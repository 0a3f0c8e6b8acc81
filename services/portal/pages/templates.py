"""Pages are Jinja2 templates in services/portal/templates; every value is escaped."""

from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from services.common.language import Language

_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent.parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
LANGUAGE_TAGS: Final[dict[Language, str]] = {"en": "en", "zh": "zh-CN"}
"""As the attribute `lang` of a page names them (BCP 47)."""


def page(template: str, language: Language, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page in a language."""
    html = _ENVIRONMENT.get_template(template).render(language=language, tag=LANGUAGE_TAGS[language], **values)
    return HTMLResponse(html, status)


def preferred_language(request: Request) -> Language:
    """The language of `?lang=`, else the first one of Accept-Language (RFC 9110 section 12.5.4) that we have, else English."""
    asked = request.query_params.get("lang")
    if asked in ("en", "zh"):
        return "zh" if asked == "zh" else "en"
    preferences: list[tuple[float, int, str]] = []
    for number, part in enumerate(request.headers.get("accept-language", "").split(",")[:20]):
        tag, _, weight = part.strip().partition(";q=")
        try:
            preferences.append((-float(weight or 1), number, tag.strip().lower()))
        except ValueError:
            continue
    for _, _, tag in sorted(preferences):
        if tag.partition("-")[0] in ("en", "zh"):
            return "zh" if tag.startswith("zh") else "en"
    return "en"
