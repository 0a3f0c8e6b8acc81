"""What a sender sees of an answer, made comparable with the answer to another one; and what belongs to an account, to be looked for in it."""

import base64
import binascii
import json
import re
import secrets
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from html import escape
from urllib.parse import quote

import httpx
import psycopg
from psycopg.types.json import Jsonb

from services.connect import consent
from tests.support.panel_world import PanelWorld
from tests.support.portal_in_process import ORIGIN, PortalInProcess

OWN = "lt-textile"
"""The company that sessions belong to."""
CHANGING = frozenset({"date", "ratelimit-remaining", "ratelimit-reset", "ratelimit", "x-request-id"})
"""Headers that are others with every request of a sender."""
PROOF = re.compile(r'name="csrf" value="[^"]*"')
"""Of a form: it follows from a secret that a browser without cookies gets with each page."""
Ids = Mapping[str, str]
Seen = tuple[int, list[tuple[str, str]], str]
"""Status, headers and text."""


def ids_of(seeded: PanelWorld, owner: psycopg.Connection, company_id: str, account_id: str) -> Ids:
    """What belongs to an account, with finished connect requests, one of which has listed folders, and a link that was made for it. An
    account without a mailbox has the id of one that does not exist."""
    company = next(company for company in seeded.world.companies if company.company_id == company_id)
    request_id, list_request_id = (f"r-{secrets.token_hex(16)}" for _ in range(2))
    session_id, folder = f"s-{secrets.token_hex(6)}", f"Sent-{secrets.token_hex(8)}"
    mailbox_id = next(
        (mailbox.key for mailbox in company.mailboxes if mailbox.connected and mailbox.account_id == account_id),
        f"{company_id}/{account_id}/registered",
    )
    owner.execute(
        "INSERT INTO registry.connect_requests (request_id, company_id, account_id, mailbox_id, purpose, key_id, state, code, finished_at)"
        " VALUES (%s, %s, %s, %s, 'test', 'k', 'failed', 'login-refused', now())",
        [request_id, company_id, account_id, mailbox_id],
    )
    report = {"candidates": [{"raw": folder, "name": folder, "messages": 7}], "watched": []}
    owner.execute(
        "INSERT INTO registry.connect_requests (request_id, company_id, account_id, mailbox_id, purpose, key_id, state, report, finished_at)"
        " VALUES (%s, %s, %s, %s, 'folders', 'k', 'passed', %s, now())",
        [list_request_id, company_id, account_id, mailbox_id, Jsonb(report)],
    )
    owner.execute(
        "INSERT INTO registry.portal_sessions (session_id, token_hash, company_id, account_id, role, language, created_by, expires_at)"
        " VALUES (%s, sha256(%s), %s, %s, 'registered', 'en', 'tests', now() + interval '1 hour')",
        [session_id, session_id.encode(), company_id, account_id],
    )
    asked = next(asked for asked in seeded.facts[company_id].asked if asked.account_id == account_id)
    change_id = 2**40 + secrets.randbelow(2**40)
    owner.execute(
        "INSERT INTO registry.api_changes (change_id, key_id, key_name, company_id, action, subject) OVERRIDING SYSTEM VALUE"
        " VALUES (%s, 'k-none', 'tests', %s, 'company-added', '')",
        [change_id, company_id],
    )
    return {
        "company_id": company_id, "account_id": account_id, "mailbox_id": mailbox_id, "inquiry_id": asked.inquiry_id,
        "session_id": session_id, "request_id": request_id, "list_request_id": list_request_id, "folder": folder,
        "linked_company_id": company_id, "prefix": company_id, "token": f"rrl_{secrets.token_urlsafe(32)}", "change_id": str(change_id),
    }  # fmt: skip


def session(owner: psycopg.Connection, account_id: str, purpose: str, change: str = "opened_at = now()") -> str:
    """The token of a session in a browser or a frame that has consented to the current text."""
    token = f"rrs_{secrets.token_urlsafe(32)}"
    owner.execute(
        "INSERT INTO registry.portal_sessions (session_id, token_hash, company_id, account_id, role, language, created_by, purpose,"
        " opened_at, expires_at, consent_by, consent_at, consent_text_version, consent_language)"
        " VALUES (%s, sha256(%s), %s, %s, 'registered', 'en', 'tests', %s, now(), now() + interval '1 hour', 'Li', now(), %s, 'en')",
        [f"s-{secrets.token_hex(6)}", token.encode(), OWN, account_id, purpose, consent.load().current.version],
    )
    owner.execute(
        f"UPDATE registry.portal_sessions SET {change} WHERE token_hash = sha256(%s)".encode(), [token.encode()]
    )
    return token


def plain(text: str, ids: Ids) -> str:
    """A text without the ids that were sent, in each form in which a page or a problem repeats them."""
    for kind, value in sorted(ids.items(), key=lambda entry: -len(entry[1])):
        for form in {
            value,
            escape(value),
            escape(value, quote=False),
            quote(value, safe=""),
            quote(value),
            json.dumps(value)[1:-1],
        }:
            text = text.replace(form, f"<{kind}>")
    return text


def seen(answer: httpx.Response, ids: Ids) -> tuple[int, list[tuple[str, str]], str]:
    """What a sender sees of an answer. Its length is that of its text, which names the cursor that was sent: not all are equally long."""
    hidden = {"set-cookie", "content-length"} if "cursor" in ids else {"set-cookie"}
    headers = [
        (name, "" if name in hidden else plain(value, ids))
        for name, value in answer.headers.multi_items()
        if name not in CHANGING
    ]
    return answer.status_code, headers, PROOF.sub("", plain(answer.text, ids))


NEXT = re.compile(r'(?:"next":"|[?&;]\w+=)([\w-]{8,})')
"""Where an answer has the cursor of the following page."""


def in_cursors(text: str) -> str:
    """What the cursors of an answer say, as text."""
    keys: list[bytes] = []
    for cursor in NEXT.findall(text):
        with suppress(binascii.Error):
            keys.append(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    return b" ".join(keys).decode(errors="replace")


def differing(answered: tuple[object, ...], twin_answered: tuple[object, ...]) -> str:
    """Where two answers differ."""
    part = next(number for number in range(3) if answered[number] != twin_answered[number])
    first, second = str(answered[part]), str(twin_answered[part])
    at = next((place for place, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), 0)
    return f"{('status', 'headers', 'text')[part]}: {first[max(0, at - 30) : at + 60]!r} and {second[max(0, at - 30) : at + 60]!r}"


def open_link(app: PortalInProcess, token: str) -> list[tuple[Seen, Counter[str]]]:
    """Open a link in a new browser: what its page and its form answer, each with the statements that it took."""
    ids = {"token": token}
    page = app.request("GET", f"/link/{token}")
    answered = [(seen(page, ids), Counter(app.statements))]
    proof = PROOF.search(page.text)
    assert proof is not None, page.text
    cookies = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
    form = {"csrf": proof[0].split('"')[3]}
    done = app.request("POST", f"/link/{token}", data=form, headers={"origin": ORIGIN, "cookie": cookies})
    return [*answered, (seen(done, ids), Counter(app.statements))]
