"""Pages are Jinja2 templates in services/portal/templates; every value is escaped. Their texts are in texts.toml."""

import re
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from services.common.display import parameter_text, printable
from services.common.language import Language
from services.portal.pages.cookies import HostCookies
from services.portal.pages.texts import text

_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent.parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["segment"] = partial(quote, safe="")  # of a path; `urlencode` leaves the / of an id as it is
_ENVIRONMENT.filters["printable"] = printable  # text from outside: control characters become visible
_ENVIRONMENT.filters["parameter"] = parameter_text
LANGUAGE_TAGS: Final[dict[Language, str]] = {"en": "en", "zh": "zh-CN"}
"""As the attribute `lang` of a page names them (BCP 47)."""
LANGUAGE_COOKIE: Final = "language"
LANGUAGE_SECONDS: Final = 365 * 86_400
_LANGUAGE_RANGE: Final = re.compile(r"([A-Za-z]+)(?:-[A-Za-z0-9-]*)?[ \t]*(?:;[ \t]*[qQ]=([01](?:\.[0-9]{0,3})?))?")
"""Of Accept-Language: the language, and its weight (1 without one)."""


def page(
    request: Request, template: str, language: Language, *, status: int = 200, here: str | None = None, **values: Any
) -> HTMLResponse:
    """A page in a language. `here`: the address at which the switch of the language shows it again, by default the request's."""
    response = HTMLResponse(render(template, language, here=here or _here(request), **values), status)
    if request.query_params.get("lang") == language:
        _cookies(request).set(response, LANGUAGE_COOKIE, language, LANGUAGE_SECONDS)
    return response


def render(template: str, language: Language, **values: Any) -> str:
    """The HTML of a template. `t` in it is `text` in the language."""
    return _ENVIRONMENT.get_template(template).render(
        template=template, language=language, tag=LANGUAGE_TAGS[language], t=partial(_text, language), **values
    )


def preferred_language(request: Request, default: Language | None = None) -> Language:
    """The language that was chosen, else the default, else the first one of Accept-Language that we have, else English."""
    chosen = request.query_params.get("lang") or _cookies(request).get(request, LANGUAGE_COOKIE)
    if chosen in ("en", "zh"):
        return "zh" if chosen == "zh" else "en"
    return default or _accepted_language(request.headers.get("accept-language", ""))


def _accepted_language(header: str) -> Language:
    """Of an Accept-Language header (RFC 9110 section 12.5.4)."""
    weights: dict[Language, float] = {}
    for part in header.split(",")[:20]:
        preference = _LANGUAGE_RANGE.fullmatch(part.strip(" \t"))
        name = preference[1].lower() if preference else ""
        if preference is not None and name in ("en", "zh"):
            language: Language = "zh" if name == "zh" else "en"
            weights[language] = max(float(preference[2] or 1), weights.get(language, 0))
    # Of languages with the same weight the one that is named first.
    best = max(weights, key=weights.__getitem__, default=None)
    return best if best is not None and weights[best] else "en"


def _text(language: Language, name: str, /, **values: Any) -> str:
    return text(name, language, **values)


def _cookies(request: Request) -> HostCookies:
    """The scheme of a request is that of the public address (request_limits.py)."""
    return HostCookies(is_https=request.url.scheme == "https")


def _here(request: Request) -> str:
    """The path and query of a request, without the choice of a language: the page itself with `&lang=…` behind it.

    A path that begins with two slashes, or with what browsers take for them, would be the address of another site.
    """
    path = quote("/" + request.url.path.lstrip("/"), safe="/%")
    kept_values = [(name, value) for name, value in request.query_params.multi_items() if name != "lang"]
    return f"{path}?{urlencode([*kept_values, ('lang', '')])}"
