"""Servers as people type them, and the mistakes that they make."""

import pytest

from services.providers import catalog
from services.providers.typed_server import TypedServer, find_mistake, parse_server

KNOWN = catalog.load()


@pytest.mark.parametrize(
    ("host", "port", "address", "expected"),
    [
        ("pop.163.com", 993, "a@163.com", ("pop-host", "imap.163.com", True)),
        ("POP3.163.com.", 993, "a@163.com", ("pop-host", "imap.163.com", True)),
        ("smtp.qq.com", 993, "a@foxmail.com", ("smtp-host", "imap.qq.com", True)),
        ("pop.qq.com", 993, "a@firm.example", ("pop-host", "imap.qq.com", True)),
        ("smtp.office365.com", 993, "a@firm.example", ("smtp-host", "outlook.office365.com", True)),
        ("smtp.firm.example", 993, "a@firm.example", ("smtp-host", "imap.firm.example", False)),
        ("pop3.firm.example", 993, "a@firm.example", ("pop-host", "imap.firm.example", False)),
        ("imap.qq.com", 995, "a@qq.com", ("pop-port", "imap.qq.com", True)),
        ("imap.firm.example", 465, "a@firm.example", ("smtp-port", "imap.firm.example", True)),
        ("imap.firm.example", 143, "a@firm.example", None),  # STARTTLS, perhaps all that it offers
        ("imap.163.com", 143, "a@163.com", ("plain-port", "imap.163.com", True)),
        ("imap.gmail.com", 143, "a@firm.example", ("plain-port", "imap.gmail.com", True)),
        ("imap.163.com", 993, "a@126.com", ("other-domains-host", "imap.126.com", True)),
        ("imap.163.com", 993, "a@163.com", None),
        ("imap.126.com", 993, "a@firm.example", None),
        ("popular.firm.example", 993, "a@firm.example", None),
        ("smtp", 993, "a@firm.example", None),
        ("mail.firm.example", 993, "a@firm.example", None),
        ("imap.gmail.com", 993, "a@outlook.com", None),
        # as typed with Chinese input methods: full-width letters, signs and blanks, `。` for a dot and `、` for a slash
        ("ｐｏｐ．１６３．ｃｏｍ", 993, "a@163.com", ("pop-host", "imap.163.com", True)),
        ("\u3000pop。163。com\u3000", 993, "a@163.com", ("pop-host", "imap.163.com", True)),
        ("smtp . qq . com", 993, "a@qq.com", ("smtp-host", "imap.qq.com", True)),
        ("smtp.qq.com：４６５", 993, "a@qq.com", ("smtp-host", "imap.qq.com", True)),
        ("https：、、mail。163。com", 993, "a@163.com", ("web-address", "imap.163.com", True)),
        ("https://mail.163.com/js6/main.jsp?df=email163", 993, "", ("web-address", "imap.163.com", True)),
        ("HTTP://imap.qq.com", 993, "a@firm.example", ("web-address", "imap.qq.com", True)),
        ("https://mail.firm.example", 993, "a@firm.example", ("web-address", "imap.firm.example", True)),
        ("pop3s://mail.firm.example", 993, "a@firm.example", ("pop-host", "imap.firm.example", True)),
        ("imaps://imap.qq.com/", 993, "a@qq.com", None),
        ("ｉｍａｐ。１６３。ｃｏｍ", 993, "a@163.com", None),
        *(("imap.163.com", port, "a@163.com", ("pop-port", "imap.163.com", True)) for port in (110, 995)),
        *(("imap.163.com", port, "a@163.com", ("smtp-port", "imap.163.com", True)) for port in (25, 465, 587, 2525)),
    ],
)
def test_mistakes_in_a_typed_server(host: str, port: int, address: str, expected: tuple[str, str, bool] | None) -> None:
    mistake = find_mistake(KNOWN, host, port, address)
    assert (None if mistake is None else (mistake.code, mistake.host, mistake.certain)) == expected


@pytest.mark.parametrize(
    ("text", "host", "port", "scheme"),
    [
        ("imap.qq.com", "imap.qq.com", None, ""), (" IMAP.QQ.com. ", "imap.qq.com", None, ""), ("imap.qq.com:993", "imap.qq.com", 993, ""),
        ("imap.qq.com 993", "imap.qq.com", 993, ""), ("imap.qq.com：９９３", "imap.qq.com", 993, ""), ("imap.qq.com:0", "imap.qq.com:0", None, ""),
        ("imap.qq.com:99999", "imap.qq.com:99999", None, ""), ("imaps://imap.qq.com:993/INBOX", "imap.qq.com", 993, "imaps"),
        ("imap.qq\u200b.com", "imap.qq.com", None, ""), ("imap 。 qq 。com", "imap.qq.com", None, ""), ("[::1]:993", "[::1]:993", None, ""),
        # not a host: unchanged, HostPolicy refuses it
        ("imap qq com", "imap qq com", None, ""), ("a@imap.qq.com", "a@imap.qq.com", None, ""), ("https://", "", None, "https"), ("", "", None, ""),
    ],
)  # fmt: skip
def test_servers_as_people_type_them(text: str, host: str, port: int | None, scheme: str) -> None:
    assert parse_server(text) == TypedServer(host, port, scheme)
