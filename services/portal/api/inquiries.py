"""Facts about inquiries, for platforms without a Kafka producer of their own: a batch is published as a whole or not at all."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.requests import Request

from services.common.events import COMPANY_ERASED, PLATFORM_TYPES
from services.inquiries.facts import FactProblem, check
from services.inquiries.lines import Entry, InvalidLine, decoded, elements, lines
from services.portal.api.callers import ApiCaller, requires, resources_of
from services.portal.api.fact_schemas import FACT
from services.portal.api.problems import ApiProblem, FieldProblem
from services.portal.api.values import ITEM_SCHEMA, ApiModel

router = APIRouter(tags=["inquiries"])

MOST_FACTS: Final = 10_000
ACCEPTED: Final = PLATFORM_TYPES - {COMPANY_ERASED}
"""An erase cannot be taken back, and it is more than its event: `replyrate erase`."""
JSON, NDJSON = "application/json", "application/x-ndjson"
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {"type": "array", "maxItems": MOST_FACTS, "items": FACT},
                "example": [
                    {
                        "type": "inquiry",
                        "company_id": "shop-1",
                        "account_id": "main",
                        "inquiry_id": "A-1001",
                        "received_at": "2026-11-29T09:15:00Z",
                        "buyer": {"id": "buyer-71", "addresses": ["anna@harbour-tools.example"]},
                        "message_ids": ["<ask-1001@platform.example>"],
                    }
                ],
            },
            NDJSON: {
                "schema": {"type": "string", "description": "The same facts, one in each line (`x-itemSchema`)."},
                ITEM_SCHEMA: FACT,
            },
        },
    }
}


class PublishedBatch(ApiModel):
    """A batch that was published."""

    published: int = Field(ge=0)
    """How many facts; every replica in sync of Kafka has them."""


async def _body(request: Request) -> bytes:
    return await request.body()


@router.post(
    "/inquiries:batch",
    summary="Publish facts about inquiries",
    description="All facts of a batch are published, or none: invalid ones are listed in `errors`, by line or by index from 0. The"
    " answer comes when Kafka has them all. After 503, send the same batch again: a fact that is published twice is one fact.",
    openapi_extra=_BODY,
)
def publish_inquiries(
    request: Request, caller: Annotated[ApiCaller, requires("inquiries:write")], body: Annotated[bytes, Depends(_body)]
) -> PublishedBatch:
    resources = resources_of(request)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    entries = _entries(media_type, decoded(body))
    if len(entries) > MOST_FACTS:
        raise ApiProblem("batch-too-large", {"most": MOST_FACTS})
    facts, problems = check(
        entries,
        resources.clock(),
        resources.settings.horizon_days,
        company_prefix=caller.company_prefix,
        accept=ACCEPTED,
    )
    if problems:
        raise ApiProblem("facts-invalid", fields=[_field(problem, media_type) for problem in problems])
    resources.facts.publish(facts)
    return PublishedBatch(published=len(facts))


def _entries(media_type: str, text: str) -> list[tuple[int, Entry]]:
    if media_type == NDJSON:
        return lines(text, csv_form=False)
    if media_type != JSON:
        raise ApiProblem("media-type-unsupported", {"media_type": f"{JSON}, {NDJSON}"})
    try:
        return elements(text)
    except InvalidLine as error:
        values = {"detail": error.sentence, "cure": error.cure}
        raise ApiProblem("facts-invalid", fields=[FieldProblem("", "body", "fact", values)]) from None


def _field(problem: FactProblem, media_type: str) -> FieldProblem:
    """A problem of a fact: with its line, or with its index at the beginning of the name."""
    values = {"detail": problem.detail, "cure": problem.cure}
    if media_type == NDJSON:
        return FieldProblem(problem.field or "", "body", "fact", values, problem.number)
    name = str(problem.number) if problem.field is None else f"{problem.number}.{problem.field}"
    return FieldProblem(name, "body", "fact", values)
