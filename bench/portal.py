"""The portal on 10,000 mailboxes and a million inquiries: time and size of every kind of page and request, and its memory.

1. Fill a database (portal_world.py) and start the web process as production starts it, with its own database login.
2. Call each route for companies drawn as inquiries are, so that large ones come more often, and for the largest.
3. Walk through the connect page.
4. Show the pages of the panel to main accounts of several companies, the largest among them; read its lists with the token of a frame.
5. Show the pages of the console to an operator (console_pages.py).
6. Register 1,000 mailboxes by the API (registration.py).
"""

import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from html import unescape
from typing import Any, Final

import httpx

from bench import console_pages, portal_world, registration
from bench.measure import Figure, Usage, scratch
from bench.polls import PostgresUsage
from bench.web_meter import Meter, Timings, compressed_kb
from services.common import migrations
from services.common.postgres import connect
from services.registry.connect_requests import ConnectRequests
from services.registry.sealing import OpeningKeys
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.postgres import EmbeddedPostgres
from tests.support.api_lab import api_client, new_key
from tests.support.connect_lab import Browser
from tests.support.portal_lab import Portal, portal_login, running_portal
from tests.support.topics import create_topics, kafka_settings

COMPANIES_CALLED: Final = 20
ROUNDS: Final = 2
"""How often each route is called for each company."""
BATCH: Final = 100
"""Inquiries of one batch."""
REQUESTS_PER_MINUTE: Final = "100000"
STATIC: Final = (
    "/static/portal.css",
    "/static/htmx-4.0.1.min.js",
    "/static/htmx-sse-4.0.1.min.js",
    "/static/progress.js",
)
"""What a browser loads with its first page."""
OF_COMPANY: Final[dict[str, dict[str, Any]]] = {
    "": {}, "/accounts": {}, "/rates": {}, "/rates?as_of": {"as_of": datetime.now(UTC).date() - timedelta(days=9)},
    "/rates/history": {}, "/timeline": {}, "/histogram": {}, "/daily": {}, "/outcomes": {},
    "/outcomes?outcome": {"outcome": "unanswered"}, "/outcomes?account_id": {"account_id": "account-1"}, "/corrections": {},
    "/due-soon": {}, "/diagnosis": {},
}  # fmt: skip
OF_KEY: Final[dict[str, dict[str, Any]]] = {
    "/companies": {}, "/companies?prefix": {"prefix": "company-19"}, "/mailboxes": {}, "/mailboxes?state": {"state": "needs_reconnect"},
    "/mailboxes?provider": {"provider": "qq"}, "/mailboxes?prefix": {"prefix": "company-19"}, "/rates": {}, "/changes": {}, "/key": {},
    "/providers": {}, "/consent-texts": {}, "/reference": {},
}  # fmt: skip
"""Routes and their query; what follows a question mark only names the query."""
EXPORTS: Final = ("/outcomes", "/rates/history")
OF_PANEL: Final = (
    "", "/inquiries", "/inquiries?outcome=late", "/due", "/diagnosis", "/changes", "/mailboxes", "/questions", "/providers",
    "/test-mail",
)  # fmt: skip
"""Pages of the panel."""
OF_FRAME: Final = ("/rates", "/timeline", "/histogram", "/outcomes", "/due-soon", "/diagnosis")
"""Lists that the token of a frame reads."""
PANEL_COMPANIES: Final = 5
MAIN: Final = "account-0"
"""The main account of each company."""


def measure(repeats: int) -> list[Figure]:
    """The figures of the web process; each route is repeated by itself."""
    del repeats
    with scratch() as folder, EmbeddedPostgres(folder / "postgres", durable=True) as server:
        with EmbeddedKafka(folder / "kafka") as kafka:
            create_topics(kafka_settings(kafka.bootstrap_servers))
            dsn = server.create_database("bench_portal")
            _fill(dsn)
            with (
                portal_login(dsn) as login,
                running_portal(
                    kafka.bootstrap_servers, login, folder, PORTAL__API_REQUESTS_PER_MINUTE=REQUESTS_PER_MINUTE
                ) as portal,
            ):
                postgres = PostgresUsage(server.data_dir)
                consoles = console_pages.measured(folder, kafka.bootstrap_servers, dsn, postgres, called_companies())
                figures = _figures(portal, dsn, Meter(Usage(portal.process.pid), postgres), consoles)
            return figures + registration.measure(folder, server, kafka.bootstrap_servers)


def _fill(dsn: str) -> None:
    with connect(dsn, "bench", statement_seconds=3600) as connection:
        migrations.migrate(connection, lambda _: None)
        portal_world.load(connection, report=lambda name: print(f"  filling: {name}", file=sys.stderr, flush=True))
        ConnectRequests(connection).publish_key(OpeningKeys(bytes(32)).current)


def _figures(portal: Portal, dsn: str, meter: Meter, of_console: list[Timings]) -> list[Figure]:
    slowest = Figure(
        "portal_p95_ms", "of all kinds of pages and requests the slowest: 95 % are answered in, ms", 300, True
    )
    cpu = Figure(
        "portal_cpu_ms", "CPU of web process and Postgres for a call of the most expensive kind, ms", 300, True
    )
    explained = Figure("portal_explanation_largest_ms", "explanation of an inquiry of the largest company, ms", None)
    weight = Figure("portal_page_kb", "the heaviest page with all that it loads, compressed, kB", 250, True)
    memory = Figure("portal_rss_mb", "resident memory of the web process after all calls, MB", None)
    with api_client(portal, new_key(dsn).secret) as client:
        client.get("/v1/key")
        memory.detail["before_mb"] = round(meter.process.rss_mb(), 1)
        load_before = os.getloadavg()[0]
        timings = [*_of_key(meter, client), *_of_companies(meter, client), *_of_mailboxes(meter, client)]
        timings += [*_written(meter, client), *_of_frames(meter, portal, client)]
        explained.values += [entry.p95 for entry in timings if entry.name.endswith("largest")]
        pages = [*_pages(meter, portal, client), *_panel(meter, portal, client), *of_console]
        assets = sum(compressed_kb(client.get(path)) for path in STATIC)
    slowest.values.append(max(entry.p95 for entry in (*timings, *pages)))
    cpu.values.append(max(entry.portal_ms + entry.postgres_ms for entry in (*timings, *pages)))
    slowest.detail |= {
        "companies": portal_world.COMPANIES, "mailboxes": portal_world.COMPANIES * portal_world.ACCOUNTS,
        "inquiries": portal_world.INQUIRIES, "load_average": [round(load_before, 1), round(os.getloadavg()[0], 1)],
        "requests": [entry.line() for entry in timings], "pages": [entry.line() for entry in pages],
    }  # fmt: skip
    weight.values.append(max(entry.compressed_kb for entry in pages) + assets)
    memory.values.append(meter.process.rss_mb())
    return [slowest, cpu, explained, weight, memory]


def _of_key(meter: Meter, client: httpx.Client) -> Iterator[Timings]:
    """Lists over all companies: first pages and, of the registry, every page of 500."""
    for route, query in OF_KEY.items():
        path = f"/v1{route.partition('?')[0]}"
        calls = [partial(client.get, path, params=query)] * (COMPANIES_CALLED * ROUNDS)
        yield meter.measured(f"GET {route}", calls)
    for route in ("/mailboxes", "/companies"):
        cursors: list[str | None] = [None]

        def following(route: str = route, cursors: list[str | None] = cursors) -> httpx.Response:
            after = {} if cursors[-1] is None else {"after": cursors[-1]}
            response = client.get(f"/v1{route}", params={"limit": 500, **after})
            cursors.append(response.json()["next"])
            return response

        pages = portal_world.COMPANIES * (portal_world.ACCOUNTS if route == "/mailboxes" else 1) // 500
        yield meter.measured(f"GET {route}: every page of 500", [following] * pages)


def called_companies() -> list[str]:
    """The largest company, and others as inquiries have them: half of all inquiries belong to a quarter of the companies."""
    chances = [(number + 0.5) / COMPANIES_CALLED for number in range(COMPANIES_CALLED)]
    return ["company-0", *(f"company-{int(portal_world.COMPANIES * chance**2)}" for chance in chances)]


def _of_companies(meter: Meter, client: httpx.Client) -> Iterator[Timings]:
    companies = [f"/v1/companies/{company_id}" for company_id in called_companies()] * ROUNDS
    for route, query in OF_COMPANY.items():
        paths = [company + route.partition("?")[0] for company in companies]
        calls = [partial(client.get, path, params=query) for path in paths]
        yield meter.measured(f"GET …{route}" if route else "GET /companies/{company_id}", calls)
    for route in EXPORTS:
        yield meter.measured(f"GET …{route}: first bytes of the CSV", [
            partial(_first_bytes, client, company + route) for company in companies
        ])  # fmt: skip
    inquiries = [f"{company}/inquiries/{_inquiry(client, company)}/explanation" for company in companies]
    explanations = [partial(client.get, path) for path in inquiries]
    yield meter.measured("GET …/inquiries/{inquiry_id}/explanation", explanations)
    yield meter.measured("GET …/explanation, the largest", explanations[:1] * ROUNDS * 5)


def _of_mailboxes(meter: Meter, client: httpx.Client) -> Iterator[Timings]:
    """Addresses of accounts and links of mailboxes: read, and changed where nothing is left changed."""
    companies = [f"/v1/companies/{company_id}" for company_id in called_companies()] * ROUNDS
    addresses = [f"{company}/accounts/{MAIN}/addresses" for company in companies]
    yield meter.measured("GET …/addresses", [partial(client.get, path) for path in addresses])
    yield meter.measured("PUT …/addresses/{role}", [
        partial(client.put, f"{path}/backup", json={"address": "seller@qq.com"}) for path in addresses
    ])  # fmt: skip
    links = [f"{company}/mailboxes/{_mailbox(client, company)}/links" for company in companies]
    yield meter.measured("GET …/links", [partial(client.get, path) for path in links])
    changed = [f"{path}/company-{portal_world.COMPANIES - 1}" for path in dict.fromkeys(links)]
    yield meter.measured("PUT …/links/{linked_company_id}", [partial(client.put, path) for path in changed])
    yield meter.measured("DELETE …/links/{linked_company_id}", [partial(client.delete, path) for path in changed])


def _mailbox(client: httpx.Client, company: str) -> str:
    company_id = company.rpartition("/")[2]
    page = client.get("/v1/mailboxes", params={"company_id": company_id, "state": "active", "limit": 1}).json()["items"]
    return str(page[0]["mailbox_id"])


def _first_bytes(client: httpx.Client, path: str) -> httpx.Response:
    with client.stream("GET", path, params={"format": "csv"}) as response:
        next(response.iter_raw())
        return response


def _inquiry(client: httpx.Client, company: str) -> str:
    page = client.get(f"{company}/outcomes", params={"limit": 50}).json()["items"]
    return str(page[-1]["inquiry_id"])


def _written(meter: Meter, client: httpx.Client) -> Iterator[Timings]:
    """Requests that write: links, requests for a fetcher, batches of inquiries."""
    account = {"company_id": "company-7", "account_id": "account-0"}
    login = {"address": "seller@qq.com", "password": "code"}

    def batch(number: int) -> httpx.Response:
        now = datetime.now(UTC).isoformat()
        facts = [
            {**account, "type": "inquiry", "inquiry_id": f"new-{number}-{place}", "received_at": now, "buyer": {"id": f"buyer-{place}"}}
            for place in range(BATCH)
        ]  # fmt: skip
        return client.post("/v1/inquiries:batch", json=facts)

    batch(-1)  # connects with Kafka
    calls = range(COMPANIES_CALLED * ROUNDS)
    yield meter.measured(f"POST /inquiries:batch of {BATCH}", [partial(batch, number) for number in calls])
    for path, body in (
        ("panel-sessions", account), ("panel-tokens", account), ("connect-sessions", account), ("connection-tests", {**account, "login": login}), ("provider-lookups", {"address": "seller@qq.com"}),
    ):  # fmt: skip
        posts = [partial(client.post, f"/v1/{path}", json=body)] * len(calls)
        yield meter.measured(f"POST /{path}", posts)


def _pages(meter: Meter, portal: Portal, client: httpx.Client) -> Iterator[Timings]:
    """The connect page of an account with a mailbox: each step as it is shown, in both languages."""
    created = client.post("/v1/connect-sessions", json={"company_id": "company-3", "account_id": "account-1"}).json()
    link = created["url"].removeprefix(portal.origin)
    browser = Browser(portal.origin)
    with browser.client:
        yield from _shown(meter, browser, "the link", link)
        browser.get(link).fill_in(r"/link/.*")
        yield from _shown(meter, browser, "mailboxes", "/connect")
        mailbox = next(form.action for form in browser.page.forms if form.action.endswith("/reconnect"))
        for name in ("stored", "withdraw"):
            yield from _shown(meter, browser, name, f"{mailbox.removesuffix('/reconnect')}/{name}")
        yield from _shown(meter, browser, "consent", "/connect/consent")
        browser.get("/connect/consent").fill_in("/connect/consent", name="Li Wei", agreed="yes")
        yield from _shown(meter, browser, "address", "/connect/address")
        browser.get("/connect/address").fill_in("/connect/address", address="seller@qq.com")
        yield from _shown(meter, browser, "login", "/connect/login")
        browser.get("/connect/login").fill_in("/connect/login", password="code")
        yield from _shown(meter, browser, "stages of the test", browser.path)


def _of_frames(meter: Meter, portal: Portal, client: httpx.Client) -> Iterator[Timings]:
    """Lists as JSON with the token of a frame of the largest company's main account."""
    created = client.post("/v1/panel-tokens", json={"company_id": "company-0", "account_id": MAIN}).json()
    with api_client(portal, created["token"]) as framed:
        for route in OF_FRAME:
            calls = [partial(framed.get, f"/v1/companies/company-0{route}")] * COMPANIES_CALLED
            yield meter.measured(f"GET …{route} of the largest, token of a frame", calls)


def _panel(meter: Meter, portal: Portal, client: httpx.Client) -> Iterator[Timings]:
    """Pages of the panel of main accounts, in both languages, and its exports; explained is the last inquiry of the first page."""
    companies = called_companies()[:: COMPANIES_CALLED // PANEL_COMPANIES]
    browsers = [_opened_panel(portal, client, company_id) for company_id in companies]
    explained = [_last_explanation(browser) for browser in browsers]
    pages = {page: [f"/panel{page}"] * len(browsers) for page in OF_PANEL} | {"/why": explained}
    for page, paths in pages.items():
        calls = [
            partial(browser.client.get, path, headers={"accept-language": language})
            for language in ("en", "zh")
            for browser, path in zip(browsers, paths, strict=True)
        ]
        yield meter.measured(f"panel{page}", calls * ROUNDS)
    yield meter.measured("panel/export/outcomes: first bytes of the CSV", [
        partial(_first_bytes, browser.client, "/panel/export/outcomes") for browser in browsers
    ] * ROUNDS)  # fmt: skip
    for browser in browsers:
        browser.client.close()


def _opened_panel(portal: Portal, client: httpx.Client, company_id: str) -> Browser:
    created = client.post("/v1/panel-sessions", json={"company_id": company_id, "account_id": MAIN}).json()
    browser = Browser(portal.origin)
    browser.get(created["url"].removeprefix(portal.origin)).fill_in(r"/link/.*")
    return browser


def _last_explanation(browser: Browser) -> str:
    """The path of the page that explains the last inquiry of the list."""
    links = re.findall(r'href="(/panel/why[^"]*)"', browser.get("/panel/inquiries").answer.text)
    return unescape(links[-1])


def _shown(meter: Meter, browser: Browser, name: str, path: str) -> Iterator[Timings]:
    def show(language: str) -> httpx.Response:
        response = browser.client.get(path, params={"lang": language})
        browser.answer = response
        return response

    calls = [partial(show, language) for language in ("en", "zh")] * COMPANIES_CALLED
    yield meter.measured(name, calls)
