"""Bulk import: companies, accounts and mailboxes as lines of JSON (NDJSON), all of them or none.

1. Every line is checked by itself; 2. then those that can be carried out are, in one transaction and in the order of the lines. When a
line is refused in either step, the transaction is undone, and the answer lists every line that either step refused. 3. Otherwise
mailboxes become connect requests, sealed for the fetchers.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from services.common.language import Language
from services.connect import consent
from services.connect.typed_login import TypedLogin
from services.portal.api.callers import resources_of
from services.portal.api.companies import Kind
from services.portal.api.connect import MailLogin, PersonName
from services.portal.api.failures import UNKNOWN, field_problems
from services.portal.api.posts import ApiAnswer, ApiPost, ApiTransaction, posts
from services.portal.api.problems import ApiProblem, FieldProblem
from services.portal.api.requests import sealing_key, submit
from services.portal.api.values import ITEM_SCHEMA, ApiModel, PlatformId, StoredInstant
from services.portal.request_limits import BODY_BYTES
from services.registry.accounts import CLOCK_DIFFERENCE, Accounts
from services.registry.addresses import Role
from services.registry.companies import Companies
from services.registry.connect_requests import ConnectRequests
from services.registry.errors import RegistryError
from services.registry.secret_tokens import new_id

router = APIRouter(tags=["registry"])

MEDIA_TYPE: Final = "application/x-ndjson"
MOST_LINES: Final = 20_000
LINE_BYTES: Final = BODY_BYTES
"""Of one line: as many as of a request that registers one resource."""
MOST_ERRORS: Final = 20_000
"""Wrong fields of an import from which on only the first of each line is listed."""
MOST_MAILBOXES: Final = 1_000
"""Of one import: a connect request lives for ten minutes, and fetchers test each login."""


class CompanyLine(ApiModel):
    """Register a company."""

    type: Literal["company"]
    company_id: PlatformId


class AccountLine(ApiModel):
    """Register an account of a company."""

    type: Literal["account"]
    company_id: PlatformId
    account_id: PlatformId
    kind: Kind = "main"
    synced_by_platform_from: StoredInstant | None = None
    """2000-01-01 at the earliest."""


class MailboxLine(ApiModel):
    """Connect a mailbox, whose owner consented at the platform."""

    type: Literal["mailbox"]
    company_id: PlatformId
    account_id: PlatformId
    role: Role = "registered"
    login: MailLogin
    consent_by: PersonName
    """Name of the person who consents."""
    consent_text: str = Field(max_length=20)
    """Version of the text that was shown (GET /v1/consent-texts)."""
    language: Language = "en"
    """Language in which it was shown."""


ImportLine = Annotated[CompanyLine | AccountLine | MailboxLine, Field(discriminator="type")]
LINE: Final[TypeAdapter[CompanyLine | AccountLine | MailboxLine]] = TypeAdapter(ImportLine)


LINE_MODELS: Final = (CompanyLine, AccountLine, MailboxLine)
EXAMPLE: Final = """\
{"type":"company","company_id":"shop-1"}
{"type":"account","company_id":"shop-1","account_id":"main"}
{"type":"mailbox","company_id":"shop-1","account_id":"main","login":{"address":"seller@163.com","password":"ABCDEFGHIJKLMNOP"},\
"consent_by":"Li Wei","consent_text":"CONSENT_TEXT","language":"zh"}
""".replace("CONSENT_TEXT", consent.load().current.version)
"""Lines of an import; a test sends them."""


class ImportedMailbox(ApiModel):
    """A mailbox that fetchers connect now."""

    line: int
    mailbox_id: str
    """Not final: an earlier attempt to connect a mailbox of the account and role keeps its id, which the request names when it has ended."""
    request_id: str
    """GET /v1/requests/{request_id} shows how far it is."""


class ImportResult(ApiModel):
    """What an import did."""

    companies_added: int
    accounts_added: int
    unchanged: int
    """Companies and accounts that were registered before with these values."""
    mailboxes: list[ImportedMailbox]


def line_schemas() -> dict[str, Any]:
    """The schemas of lines by name, and those that they refer to."""
    modes: list[tuple[type[BaseModel], Literal["validation"]]] = [(model, "validation") for model in LINE_MODELS]
    schemas: dict[str, Any] = models_json_schema(modes, ref_template="#/components/schemas/{model}")[1]["$defs"]
    return schemas


NumberedLine = tuple[int, CompanyLine | AccountLine | MailboxLine]


async def _body(request: Request) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise ApiProblem("media-type-unsupported", {"media_type": MEDIA_TYPE})
    return await request.body()


@router.post(
    "/import",
    summary="Register many companies, accounts and mailboxes",
    description=f"Lines of JSON (NDJSON), at most {MOST_LINES:,} and {MOST_MAILBOXES:,} mailboxes, one of each account and role. A line is one of the documents"
    " CompanyLine, AccountLine and MailboxLine. Every wrong line is listed with its number, and then nothing was changed. Mailboxes need the"
    " scope `connect:write`, too.",
    response_model=ImportResult,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                MEDIA_TYPE: {
                    "schema": {"type": "string", "description": "One JSON document in each line (`x-itemSchema`)."},
                    ITEM_SCHEMA: {
                        "oneOf": [{"$ref": f"#/components/schemas/{model.__name__}"} for model in LINE_MODELS]
                    },
                    "example": EXAMPLE,
                }
            },
        }
    },
)
def import_lines(
    request: Request, post: Annotated[ApiPost, posts("registry:write")], body: Annotated[bytes, Depends(_body)]
) -> Response:
    refused = LineProblems()
    lines = _parsed(body, refused)
    latest = resources_of(request).clock() + CLOCK_DIFFERENCE
    for problem in _refused_before(post, latest, lines):
        refused.add([problem])
    lines = [(number, line) for number, line in lines if line.company_id.startswith(post.caller.company_prefix)]
    return post.answer(body, lambda transaction: ApiAnswer(200, _Import(transaction, latest, refused).run(lines)))


class LineProblems:
    """What is wrong with lines: of every wrong line at least the first field, the others as long as there are at most MOST_ERRORS."""

    def __init__(self) -> None:
        self._listed: list[FieldProblem] = []
        self._total = 0

    @property
    def room(self) -> int:
        """How many fields of the next line are listed."""
        return max(1, MOST_ERRORS - len(self._listed))

    def add(self, problems: Sequence[FieldProblem], total: int = 1) -> None:
        """Add what is wrong with one line: at most `room` fields of `total`."""
        self._listed += problems
        self._total += total

    def check(self) -> None:
        """ApiProblem with every wrong line, in their order."""
        if self._listed:
            fields = sorted(self._listed, key=lambda entry: entry.line or 0)
            raise ApiProblem("invalid-lines", fields=fields, fields_total=self._total)


class _Import:
    """The second and the third step, in a transaction."""

    def __init__(self, transaction: ApiTransaction, latest: datetime, refused: LineProblems) -> None:
        """`latest`: the latest instant at which a platform sync may begin. `refused`: what the first step found."""
        self._transaction = transaction
        self._latest = latest
        self._refused = refused
        self._companies = Companies(transaction.connection)
        self._accounts = Accounts(transaction.connection)
        self._requests = ConnectRequests(transaction.connection)
        self._result = ImportResult(companies_added=0, accounts_added=0, unchanged=0, mailboxes=[])

    def run(self, lines: Sequence[NumberedLine]) -> ImportResult:
        """The result. ApiProblem with every line that was refused in any step; the transaction is undone then."""
        for number, line in lines:
            try:
                self._carry_out(line)
            except RegistryError as error:
                code = UNKNOWN.get(error.remedy or "", "not-possible")
                self._refused.add([FieldProblem("", "body", code, {"reason": error.bilingual}, number)])
        self._refused.check()
        for number, line in lines:
            if isinstance(line, MailboxLine):
                self._connect(number, line)
        return self._result

    def _carry_out(self, line: CompanyLine | AccountLine | MailboxLine) -> None:
        match line:
            case CompanyLine():
                if self._companies.add(line.company_id):
                    self._transaction.note(line.company_id, "company-added")
                    self._result.companies_added += 1
                else:
                    self._result.unchanged += 1
            case AccountLine():
                since = line.synced_by_platform_from
                since = since and min(since, self._latest)  # a later one is refused already, and undone
                if self._accounts.add(line.company_id, line.account_id, kind=line.kind, synced_from=since):
                    self._transaction.note(line.company_id, "account-added", line.account_id)
                    self._result.accounts_added += 1
                else:
                    self._result.unchanged += 1
            case MailboxLine():
                self._accounts.check_needs_mailbox(line.company_id, line.account_id)

    def _connect(self, number: int, line: MailboxLine) -> None:
        typed = _typed(line)
        mailbox_id = new_id("m")
        of = (line.company_id, line.account_id, mailbox_id)
        key = sealing_key(self._requests)
        request_id = submit(self._transaction, self._requests, key, "connect", of, typed, "connect-requested")
        self._result.mailboxes.append(ImportedMailbox(line=number, mailbox_id=mailbox_id, request_id=request_id))


def _parsed(body: bytes, refused: LineProblems) -> list[NumberedLine]:
    """The well-formed lines with their numbers from 1, empty ones left out; the others are added to `refused`."""
    lines: list[NumberedLine] = []
    count = 0
    for number, text in enumerate(io.BytesIO(body), 1):
        if not text.strip():
            continue
        count += 1
        if count > MOST_LINES:
            refused.add([FieldProblem("", "body", "too-many-lines", {"most": MOST_LINES}, number)])
            break
        if len(text) > LINE_BYTES:
            refused.add([FieldProblem("", "body", "line-too-long", {"most": LINE_BYTES}, number)])
            continue
        try:
            lines.append((number, LINE.validate_json(text)))
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)[: refused.room]
            refused.add(field_problems([_without_tag(entry) for entry in errors], number), error.error_count())
    return lines


def _refused_before(post: ApiPost, latest: datetime, lines: Sequence[NumberedLine]) -> Iterator[FieldProblem]:
    """Lines that cannot be carried out, whatever is in the registry. ApiProblem when the key lacks a scope."""
    mailboxes = 0
    first_lines: dict[tuple[str, str, str], int] = {}
    for number, line in lines:
        if not line.company_id.startswith(post.caller.company_prefix):
            prefix = {"prefix": post.caller.company_prefix}
            yield FieldProblem("company_id", "body", "company-not-allowed", prefix, number)
        if isinstance(line, AccountLine) and line.synced_by_platform_from and line.synced_by_platform_from > latest:
            yield FieldProblem("synced_by_platform_from", "body", "in-the-future", {}, number)
        if isinstance(line, MailboxLine):
            mailboxes += 1
            if mailboxes > MOST_MAILBOXES:
                yield FieldProblem("", "body", "too-many-mailboxes", {"most": MOST_MAILBOXES}, number)
            first = first_lines.setdefault((line.company_id, line.account_id, line.role), number)
            if first != number:
                yield FieldProblem("", "body", "second-mailbox", {"first": first}, number)
            if line.consent_text != consent.load().current.version:
                current = {"version": consent.load().current.version}
                yield FieldProblem("consent_text", "body", "consent-changed", current, number)
            try:
                _typed(line)
            except ApiProblem as error:
                yield replace(error.fields[0], line=number)
    if mailboxes:
        post.caller.check_scope("connect:write")


def _typed(line: MailboxLine) -> TypedLogin:
    """The login of a line as it is sealed. ApiProblem as MailLogin.typed."""
    return line.login.typed(by=line.consent_by, text_version=line.consent_text, language=line.language, role=line.role)


def _without_tag(entry: Any) -> Any:
    """The location of a field inside its line, without the type of the line that pydantic puts before it."""
    location = entry["loc"]
    return {**entry, "loc": location[1:] if location and location[0] in ("company", "account", "mailbox") else location}
