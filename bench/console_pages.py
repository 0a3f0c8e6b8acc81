"""The pages of the console on the database of the portal's measurements, shown to an operator, with 1,000 open dead letters."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from html import unescape
from pathlib import Path
from typing import Final

from bench.measure import Usage
from bench.polls import PostgresUsage
from bench.web_meter import Meter, Timings
from services.common import codec
from services.common.events import DeadLetter
from services.common.postgres import connect
from services.common.topics import DEAD, SENT
from tests.support.connect_lab import Browser
from tests.support.console_lab import running_console, staff_browser
from tests.support.portal_lab import portal_login
from tests.support.topics import kafka_settings, publish

LETTERS: Final = 1_000
CALLS: Final = 40
"""How often each page is shown that is not about a company."""
OF_INSTALLATION: Final = (
    "/overview", "/mailboxes", "/mailboxes/list", "/mailboxes/list?state=needs_reconnect", "/dead-letters", "/rule-sets",
    "/rule-sets/default", "/api-keys", "/audit",
)  # fmt: skip
LAST_INQUIRIES: Final = """
SELECT company_id, inquiry_id FROM unnest(%(company_ids)s::text[]) AS wanted (company_id)
CROSS JOIN LATERAL (
    SELECT inquiry_id FROM ledger.inquiries WHERE inquiries.company_id = wanted.company_id ORDER BY received_at DESC LIMIT 1
) AS last
"""


def measured(folder: Path, kafka: str, dsn: str, postgres: PostgresUsage, companies: Sequence[str]) -> list[Timings]:
    """Times of each page. `dsn`: the owner's; `companies`: whose pages are shown."""
    published_at = datetime.now(UTC)
    letter = DeadLetter(
        reason="schema", detail="sent_at: expected a time", service="matcher", service_version="bench", at=published_at,
        topic=SENT, partition=0, offset=0, key="Yw==", value="e30=",
    )  # fmt: skip
    value = codec.encode(letter, id="x", source="bench", time=published_at)
    publish(kafka_settings(kafka), DEAD, [(company_id.encode(), value) for company_id in _repeated(companies, LETTERS)])
    with portal_login(dsn, "console") as login, running_console(kafka, login, folder) as console:
        operator = staff_browser(console, dsn, "operator")
        timings = list(_pages(Meter(Usage(console.process.pid), postgres), operator, _last_inquiries(dsn, companies)))
        operator.client.close()
        return timings


def _last_inquiries(dsn: str, companies: Sequence[str]) -> dict[str, str]:
    """The last inquiry of each company."""
    with connect(dsn, "bench") as connection:
        rows = connection.execute(LAST_INQUIRIES, {"company_ids": list(companies)})
        return dict(rows.fetchall())


def _pages(meter: Meter, operator: Browser, inquiries: Mapping[str, str]) -> Iterator[Timings]:
    for path in OF_INSTALLATION:
        yield meter.measured(f"console{path}", [partial(operator.client.get, path)] * CALLS)
    letter = _link(operator.get("/dead-letters").answer.text, r"/dead-letters/\d+/\d+")
    yield meter.measured("console/dead-letters/…", [partial(operator.client.get, letter)] * CALLS)
    for name, searched in (("company", inquiries), ("inquiry", inquiries.values())):
        calls = [partial(operator.client.get, "/", params={"q": query}) for query in searched]
        yield meter.measured(f"console, search: {name}", calls)
    companies = [f"/companies/{company_id}" for company_id in inquiries]
    pages = {
        "company": companies,
        "mailbox": [
            _link(operator.get(path).answer.text, r"/companies/[^/\"]+/mailboxes/[^/\"]+") for path in companies
        ],
        "explanation of an inquiry": [
            f"/companies/{company_id}/inquiries/{inquiry}" for company_id, inquiry in inquiries.items()
        ],
    }
    for name, paths in pages.items():
        yield meter.measured(f"console, {name}", [partial(operator.client.get, path) for path in paths])


def _link(page: str, pattern: str) -> str:
    """The first link of a page whose path is like that."""
    link = re.search(f'href="({pattern})"', page)
    assert link is not None, pattern
    return unescape(link[1])


def _repeated(values: Sequence[str], number: int) -> list[str]:
    return [values[place % len(values)] for place in range(number)]
