"""Domains of typed addresses."""

import pytest

from services.providers.addresses import domain_of, host_name, parent_domain, suffixes


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("a@163.com", "163.com"), (" A@163.COM ", "163.com"), ("163.com", "163.com"), ("a@中国.example", "xn--fiqs8s.example"),
        ("a@firm.example.", "firm.example"), ("a@localhost", None), ("", None), ("a@", None), ("a@b c.example", None),
        ("a@" + "x" * 64 + ".example", None), ("a@1.2.3.4/x", None), ("a@[127.0.0.1]", None), ("a@firm..example", None),
        ("a@" + "x." * 130 + "example", None),
    ],
)  # fmt: skip
def test_the_domain_of_a_typed_address(text: str, domain: str | None) -> None:
    assert domain_of(text) == domain


def test_host_names_and_their_parts() -> None:
    assert host_name(" IMAP.qq.com. ") == "imap.qq.com"
    assert [parent_domain(host) for host in ("imap.qq.com", "qq.com", "localhost")] == ["qq.com", "qq.com", "localhost"]
    assert suffixes("MX.qiye.163.com.") == ["mx.qiye.163.com", "qiye.163.com", "163.com", "com"]
