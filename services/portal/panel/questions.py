"""The questions that sellers ask most: each with its answer, and the page that shows more; and what each mail provider wants."""

from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.common.display import percent
from services.connect import texts
from services.portal.panel.reader import PanelGate
from services.portal.panel.scope import PanelScope, chosen_scope
from services.providers import catalog
from services.providers.provider import Provider


@dataclass(frozen=True, slots=True)
class Question:
    """A question of the page. `page`: the name in [nav] of the page that shows more; `place`: an id on it."""

    code: str
    page: str
    place: str = ""

    @property
    def path(self) -> str:
        """The path of that page within the panel."""
        return {"overview": "", "test-mail": "/test-mail"}.get(self.page, f"/{self.page}")


QUESTIONS: Final = (
    Question("content", "mailboxes"),
    Question("when", "overview"),
    Question("gmail", "providers", "gmail"),
    Question("pop3", "providers"),
    Question("sub_accounts", "mailboxes"),
    Question("addresses", "mailboxes"),
    Question("password", "providers"),
    Question("own_mail", "mailboxes"),
    Question("where", "overview", "rate-title"),
    Question("zero", "diagnosis"),
)
"""In the order of the FAQ that the platform had for its sellers."""


def routes(gate: PanelGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get("/panel/questions")
    def list_questions(request: Request) -> Response:
        scope = chosen_scope(gate.reader(request))
        return scope.reader.page(
            "panel_questions.html", scope=scope, here_name="questions", questions=QUESTIONS, values=_values(scope)
        )

    @router.get("/panel/providers")
    def list_providers(request: Request) -> Response:
        scope = chosen_scope(gate.reader(request))
        providers = [described(provider, scope) for provider in catalog.load().providers]
        return scope.reader.page("panel_providers.html", scope=scope, here_name="questions", providers=providers)

    return router


def described(provider: Provider, scope: PanelScope) -> dict[str, Any]:
    """What a seller has to know to connect a mailbox at a provider."""
    language = scope.reader.language
    secrets = [texts.word(kind, language) for kind in provider.auth]
    caution = provider.caution
    return {
        "id": provider.id,
        "name": provider.name,
        "domains": provider.domains,
        "is_supported": provider.support != "unsupported",
        "servers": [host.replace("{domain}", scope.reader.says("providers.domain")) for host in provider.hosts],
        "port": provider.port,
        "secrets": scope.reader.says("providers.or").join(secrets),
        "reason": provider.reason.text(language),
        "advice": provider.advice.text(language),
        "caution": "" if caution is None else caution.text(language),
    }


def _values(scope: PanelScope) -> dict[str, Any]:
    """The placeholders of the answers."""
    return {"days": scope.rule_set.settle_days, "minimum": percent(scope.rule_set.min_coverage)}
