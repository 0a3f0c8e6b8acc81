"""Kinds of mail by example."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from services.mail.classify import classify
from services.mail.headers import Headers, parse

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (["Subject: Re: price"], "human"),
        (["Subject: Re: price", "Auto-Submitted: auto-replied"], "automatic"),
        (["Subject: Re: price", "Auto-Submitted: no"], "human"),
        (["Subject: Re: price", "X-Auto-Response-Suppress: All"], "human"),
        (["Subject: Automatic reply: x", "In-Reply-To: <a@b>"], "automatic"),
        (["Subject: Automatic reply: x"], "automatic"),
        (["Subject: =?utf-8?B?6Ieq5Yqo5Zue5aSN?=: x", "In-Reply-To: <a@b>"], "automatic"),
        (["Subject: news", "List-Id: <x>"], "bulk"),
        (["Subject: news", "Precedence: bulk"], "bulk"),
        (["Subject: many", "To: " + ", ".join(f"a{number}@b.c" for number in range(21))], "bulk"),
        (["Subject: many", "To: " + ", ".join(f"a{number}@b.c" for number in range(20))], "human"),
        (["Subject: x", "Content-Type: multipart/report; report-type=delivery-status"], "bounce"),
        (["From: <>", "Subject: x"], "bounce"),
        (["Subject: Fwd: x"], "forward"),
        (["Subject: 转发: x"], "forward"),
        (["Subject: 转发：x"], "forward"),
    ],
)
def test_kinds(lines: list[str], kind: str) -> None:
    headers = parse("\r\n".join([*lines, f"Date: {format_datetime(NOW)}", "", ""]).encode())
    assert isinstance(headers, Headers)
    assert classify(headers)[0] == kind


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Auto-Submitted: auto-generated (rejected)", "auto-submitted"),
        ("X-Autoreply: yes", "x-autoreply"),
        ("Precedence: auto_reply", "precedence"),
        ("Precedence: list", "precedence"),
        ("List-Unsubscribe: <mailto:x@y.z>", "list"),
        ("Content-Type: Multipart/Report; boundary=x", "multipart-report"),
        ("From: < >", "empty-sender"),
        ("To: " + ", ".join(f"a{number}@b.c" for number in range(21)), "many-recipients"),
        ("Subject: [EXT] Fw: x", "subject"),
        ("Subject: x", None),
    ],
)
def test_the_reason_is_a_code_and_no_header_text(line: str, reason: str | None) -> None:
    headers = parse(f"{line}\r\n\r\n".encode())
    assert isinstance(headers, Headers)
    assert classify(headers)[1] == reason
