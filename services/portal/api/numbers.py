"""Figures of companies: rates, histograms, outcomes, corrections, what is due, why a rate is 0, and why an inquiry counts as it does."""

from dataclasses import replace
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import Response

from services.aggregator.explain import explain_inquiry
from services.aggregator.explanation_sentences import Reader, sentences
from services.aggregator.texts import LANGUAGES, Texts
from services.common.postgres import Statements
from services.common.tabular import plain
from services.portal.api import figures
from services.portal.api.callers import ApiCaller, reads_figures
from services.portal.api.explanations import without_mailboxes
from services.portal.api.figure_models import (
    CorrectionPage,
    DailyPage,
    DiagnosisPage,
    DuePage,
    Explanation,
    Explanations,
    ExplanationSentences,
    HistogramPage,
    Outcome,
    OutcomePage,
    RatePage,
    RateVersionPage,
)
from services.portal.api.figures import (
    EXPORTS,
    SQL,
    ExportFormat,
    FiguresRequest,
    FormatQuery,
    check_company,
    chosen_rule_sets,
    with_missing_rate,
)
from services.portal.api.problems import ApiProblem
from services.portal.api.seller_diagnosis import for_sellers
from services.portal.api.values import (
    Cursor,
    IdPrefix,
    Instant,
    PageSize,
    PathId,
    PlatformId,
    decode_cursor,
    encode_cursor,
)
from services.registry.keyset import KeysetRange

router = APIRouter(tags=["numbers"])

NumbersCaller = Annotated[ApiCaller, reads_figures()]
AccountQuery = Annotated[
    PlatformId | None, Query(description="Only of this account. Default: the company and all of its accounts.")
]
RuleSetQuery = Annotated[PlatformId | None, Query(description="Only by this rule set. Default: every active one.")]
FromDay = Annotated[date | None, Query(alias="from", description="First local day of the rule set.")]
ToDay = Annotated[date | None, Query(alias="to", description="Last local day of the rule set.")]
_COMPANY = "/companies/{company_id}"


@router.get(
    "/rates", summary="List the newest rates of all companies of the key", description="`limit` counts companies."
)
def list_rates(
    caller: NumbersCaller, prefix: Annotated[IdPrefix, Query(description="Beginning of their ids.")] = "",
    rule_set: RuleSetQuery = None, after: Cursor = None, limit: PageSize = 100,
) -> RatePage:  # fmt: skip
    (last_company,) = decode_cursor(after, ("",))
    bounds = KeysetRange.of(prefix, caller.company_prefix).values
    with caller.transaction() as connection:
        statements = Statements(connection, SQL)
        page = statements.all("companies", **bounds, company_after=last_company, limit=limit)
        companies = [company["company_id"] for company in page]
        rates = [
            with_missing_rate(rate, chosen)
            for chosen in chosen_rule_sets(connection, rule_set)
            for rate in statements.all("company_rates", companies=companies, rule_set=chosen.name)
        ]
    following = encode_cursor(companies[-1]) if len(companies) == limit else None
    return RatePage.model_validate({"items": sorted(rates, key=lambda rate: rate["company_id"]), "next": following})


@router.get(
    f"{_COMPANY}/rates",
    summary="Show the rates of a company and its accounts",
    response_model=RatePage,
    responses=EXPORTS,
)
def show_rates(
    caller: NumbersCaller, company_id: PathId, account_id: AccountQuery = None, rule_set: RuleSetQuery = None,
    as_of: Annotated[date | None, Query(description="Local day of the rule set. Default: the newest.")] = None,
    after: Cursor = None, limit: PageSize = 100, form: FormatQuery = "json",
) -> Response:  # fmt: skip
    request = (
        FiguresRequest(caller, company_id, figures.LATEST_RATES, {"account_id": account_id}, rule_set)
        if as_of is None
        else FiguresRequest(caller, company_id, figures.RATES, _filters(account_id, as_of, as_of), rule_set)
    )
    return _answer(request, RatePage, after, limit, form)


@router.get(
    f"{_COMPANY}/rates/history",
    summary="List every version of the rates of a company and its accounts",
    response_model=RateVersionPage,
    responses=EXPORTS,
)
def list_rate_versions(
    caller: NumbersCaller, company_id: PathId, account_id: AccountQuery = None, rule_set: RuleSetQuery = None,
    from_day: FromDay = None, to_day: ToDay = None, after: Cursor = None, limit: PageSize = 100, form: FormatQuery = "json",
) -> Response:  # fmt: skip
    request = FiguresRequest(caller, company_id, figures.HISTORY, _filters(account_id, from_day, to_day), rule_set)
    return _answer(request, RateVersionPage, after, limit, form)


@router.get(
    f"{_COMPANY}/timeline",
    summary="Show the rates of the last days, oldest first",
    response_model=RatePage,
    responses=EXPORTS,
)
def show_timeline(
    caller: NumbersCaller, company_id: PathId,
    account_id: Annotated[PlatformId | None, Query(description="Of this account. Default: of the company.")] = None,
    rule_set: RuleSetQuery = None, days: Annotated[int, Query(ge=1, le=400)] = 30, after: Cursor = None, limit: PageSize = 100,
    form: FormatQuery = "json",
) -> Response:  # fmt: skip
    request = FiguresRequest(caller, company_id, figures.TIMELINE, {"account_id": account_id, "days": days}, rule_set)
    return _answer(request, RatePage, after, limit, form)


@router.get(
    f"{_COMPANY}/histogram",
    summary="Show how long answers took: 25 bars for each rate",
    response_model=HistogramPage,
    responses=EXPORTS,
)
def show_histogram(
    caller: NumbersCaller, company_id: PathId, account_id: AccountQuery = None, rule_set: RuleSetQuery = None,
    as_of: Annotated[date | None, Query(description="Local day of the rule set. Default: the newest day of the company.")] = None,
    after: Cursor = None, limit: PageSize = 100, form: FormatQuery = "json",
) -> Response:  # fmt: skip
    request = FiguresRequest(
        caller, company_id, figures.HISTOGRAM, {"account_id": account_id, "as_of": as_of}, rule_set
    )
    return _answer(request, HistogramPage, after, limit, form)


@router.get(
    f"{_COMPANY}/daily",
    summary="List counts by day, also of days that are not settled",
    response_model=DailyPage,
    responses=EXPORTS,
)
def list_daily_counts(
    caller: NumbersCaller, company_id: PathId, account_id: AccountQuery = None, rule_set: RuleSetQuery = None,
    from_day: FromDay = None, to_day: ToDay = None, after: Cursor = None, limit: PageSize = 100, form: FormatQuery = "json",
) -> Response:  # fmt: skip
    request = FiguresRequest(caller, company_id, figures.DAILY, _filters(account_id, from_day, to_day), rule_set)
    return _answer(request, DailyPage, after, limit, form)


@router.get(
    f"{_COMPANY}/outcomes", summary="List what became of each inquiry", response_model=OutcomePage, responses=EXPORTS
)
def list_outcomes(
    caller: NumbersCaller, company_id: PathId, account_id: AccountQuery = None, rule_set: RuleSetQuery = None,
    outcome: Annotated[Outcome | None, Query(description="Only inquiries with this outcome.")] = None,
    from_day: FromDay = None, to_day: ToDay = None, after: Cursor = None, limit: PageSize = 100, form: FormatQuery = "json",
) -> Response:  # fmt: skip
    filters = {**_filters(account_id, from_day, to_day), "outcome": outcome}
    return _answer(
        FiguresRequest(caller, company_id, figures.OUTCOMES, filters, rule_set), OutcomePage, after, limit, form
    )


@router.get(
    f"{_COMPANY}/corrections", summary="List changes of final numbers", response_model=CorrectionPage, responses=EXPORTS
)
def list_corrections(
    caller: NumbersCaller, company_id: PathId, account_id: AccountQuery = None, rule_set: RuleSetQuery = None,
    from_day: FromDay = None, to_day: ToDay = None, after: Cursor = None, limit: PageSize = 100, form: FormatQuery = "json",
) -> Response:  # fmt: skip
    request = FiguresRequest(caller, company_id, figures.CORRECTIONS, _filters(account_id, from_day, to_day), rule_set)
    return _answer(request, CorrectionPage, after, limit, form)


@router.get(
    f"{_COMPANY}/due-soon",
    summary="List inquiries without an answer that are not counted yet",
    description="The most urgent first. `deadline_passed`: it can no longer be answered in time, and is not counted yet.",
    response_model=DuePage,
    responses=EXPORTS,
)
def list_due_units(
    caller: NumbersCaller, company_id: PathId, account_id: AccountQuery = None, rule_set: RuleSetQuery = None,
    before: Annotated[Instant | None, Query(description="Only those that are due until then.")] = None,
    after: Cursor = None, limit: PageSize = 100, form: FormatQuery = "json",
) -> Response:  # fmt: skip
    request = FiguresRequest(
        caller, company_id, figures.DUE_SOON, {"account_id": account_id, "before": before}, rule_set
    )
    return _answer(request, DuePage, after, limit, form)


@router.get(
    f"{_COMPANY}/diagnosis", summary="Show why newest rates are 0 or missing",
    description="Empty when every newest rate is above 0. Causes of equal confidence cannot be distinguished by the facts.",
    response_model=DiagnosisPage, responses=EXPORTS,
)  # fmt: skip
def show_diagnosis(
    caller: NumbersCaller, company_id: PathId, account_id: AccountQuery = None, rule_set: RuleSetQuery = None,
    after: Cursor = None, limit: PageSize = 100, form: FormatQuery = "json",
) -> Response:  # fmt: skip
    listed = figures.DIAGNOSIS if caller.panel is None else replace(figures.DIAGNOSIS, amend=for_sellers)
    request = FiguresRequest(caller, company_id, listed, {"account_id": account_id}, rule_set)
    return _answer(request, DiagnosisPage, after, limit, form)


@router.get(f"{_COMPANY}/inquiries/{{inquiry_id}}/explanation", summary="Explain how an inquiry counts, and why")
def explain(
    caller: NumbersCaller, company_id: PathId, inquiry_id: PathId, rule_set: RuleSetQuery = None
) -> Explanations:
    with caller.transaction() as connection:
        check_company(connection, company_id)
        chosen_sets = chosen_rule_sets(connection, rule_set)
        if caller.panel is not None and not Statements(connection, SQL).tuples(
            "outcome_seen", company_id=company_id, inquiry_id=inquiry_id
        ):
            raise ApiProblem("inquiry-unknown")
        stories = [explain_inquiry(connection, chosen, company_id, inquiry_id) for chosen in chosen_sets]
        if caller.panel is not None:
            stories = [without_mailboxes(story, caller.panel.account_id, None) for story in stories]
    if all(
        story["outcome"] == "unknown" and story["archived_at"] is None and not any(story["facts"].values())
        for story in stories
    ):
        raise ApiProblem("inquiry-unknown")
    return Explanations(
        items=[_explanation(story, "operator" if caller.panel is None else "seller") for story in stories]
    )


def _explanation(story: dict[str, Any], reader: Reader) -> Explanation:
    texts = {language: sentences(story, Texts("explain", language), reader) for language in LANGUAGES}
    shown = {**story, "coverage": story.get("coverage") or []}
    values = {name: value for name, value in plain(shown).items() if name in Explanation.model_fields}
    return Explanation.model_validate({**values, "sentences": ExplanationSentences(**texts)})


def _filters(account_id: str | None, from_day: date | None, to_day: date | None) -> dict[str, Any]:
    return {"account_id": account_id, "from_day": from_day, "to_day": to_day}


def _answer(
    request: FiguresRequest, model: type[BaseModel], after: str | None, limit: int, form: ExportFormat
) -> Response:
    if form != "json":
        return request.export(form)
    items, following = request.page(after, limit)
    return Response(
        model.model_validate({"items": items, "next": following}).model_dump_json(), media_type="application/json"
    )
