"""What every page of portal and console has in common, without a database: headers, cookies, and the switch of the language."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from services.portal.pages.cookies import Draft
from services.portal.pages.servers import typed_draft
from services.portal.security_headers import HEADERS
from tests.support.connect_lab import LEADS_AWAY, OTHER_SITE_PATHS, PageParser
from tests.support.portal_in_process import ORIGIN, PortalInProcess, console_in_process, portal_in_process

NO_DATABASE: Final = "postgresql://nobody@127.0.0.1:1/none"
APPLICATIONS: Final = {"portal": portal_in_process, "console": console_in_process}


@pytest.fixture(params=APPLICATIONS)
def application(request: pytest.FixtureRequest) -> Iterator[PortalInProcess]:
    with APPLICATIONS[request.param](NO_DATABASE) as started:
        yield started


def failing(*args: Any, **values: Any) -> None:
    raise RuntimeError("a defect")


def test_every_answer_has_the_security_headers_also_that_of_a_defect(
    application: PortalInProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = {}
    monkeypatch.setattr("services.portal.pages.landing.page", failing)
    monkeypatch.setattr("services.portal.console.sign_in.outside_page", failing)
    for path, host in (("/", ""), ("/sign-in", ""), ("/static/portal.css", ""), ("/", "evil.example")):
        answer = application.request("GET", path, headers={"host": host} if host else {})
        assert answer.headers.items() >= {name.lower(): value for name, value in HEADERS.items()}.items(), path
        assert "max-age" in answer.headers["cache-control"] or answer.headers["cache-control"] == "no-store"
        statuses[path, host] = answer.status_code
    assert 500 in statuses.values() and {200, 421} <= set(statuses.values())


@pytest.mark.parametrize("random_part", [r"\000" + "A" * 42, "A" * 19, "A" * 101, r"A\303\277" * 20])
def test_a_malformed_token_of_a_session_is_none(application: PortalInProcess, random_part: str) -> None:
    cookies = f'replyrate-session="rrs_{random_part}.00"; replyrate-staff="rrw_{random_part}"'
    statuses = [application.request("GET", path, headers={"cookie": cookies}).status_code for path in ("/connect", "/")]
    # 303: to the sign-in of the console. About a token that is none Postgres is not asked, which would be 503 here.
    assert statuses in ([401, 200], [404, 303])


def test_the_switch_of_the_language_leads_to_no_other_site(application: PortalInProcess) -> None:
    for path in OTHER_SITE_PATHS:
        answer = application.request("GET", f"{ORIGIN}{path}?x=1")
        links = PageParser(answer.text).links
        assert answer.status_code == 404 and any(link.endswith("x=1&lang=zh") for link in links.values()), path
        assert not any(LEADS_AWAY.match(link) for link in links.values()), (path, links)


@pytest.mark.parametrize(
    ("typed", "port"),
    [("993", 993), (" 00993 ", 993), ("65535", 65535), ("65536", None), ("0", None), ("00000199999", None), ("٩٩٣", None)],
)  # fmt: skip
def test_a_port_is_a_number_of_a_port(typed: str, port: int | None) -> None:
    assert typed_draft(Draft(), "seller@shop.example", "imap.shop.example", typed, False, "").port == port
