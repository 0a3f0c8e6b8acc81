"""Which hosts may be connected to: no spelling and no answer of a DNS reaches a private address."""

from ipaddress import ip_network

import pytest

from services.imap.errors import (
    HostRefused,
    Unreachable,
)
from services.imap.host_policy import Endpoint, HostPolicy


@pytest.mark.parametrize(
    "address",
    [
        # this host, private, shared, loopback, link-local and the metadata service of clouds
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",
        "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255",
        # protocols, documentation, benchmarks, 6to4 relays, multicast, reserved, broadcast
        "192.0.0.1", "192.0.0.170", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
        "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        # the same in IPv6, and IPv4 carried in it: mapped, compatible, translated (NAT64, both prefixes), 6to4, Teredo, ORCHID
        "::", "::1", "::7f00:1", "::a00:1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:0:a00:1::", "2001:10::1", "2001:20::1",
        "2001:db8::1", "2002:7f00:1::", "2002:a00:1::", "2002:c0a8:1::1", "3fff::1", "5f00::1", "fc00::1", "fd12:3456::1",
        "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    """One alone, and one among public ones, in any place."""
    for resolved in ([address], ["93.184.216.34", address], [address, "93.184.216.34"]):
        with pytest.raises(HostRefused) as caught:
            HostPolicy((993,), resolve=lambda *_: resolved).check("mail.example.com", 993)  # noqa: B023
        assert caught.value.code == "host-refused"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "localhost", "localhost.", "LOCALHOST",
        "10.0.0.1", "169.254.169.254", "①②⑦.⓪.⓪.①", "127。0。0。1", "ip6-localhost",
    ],
)  # fmt: skip
def test_no_spelling_of_a_local_address_is_accepted(host: str) -> None:
    """With the system's resolver: the addresses it returns for a spelling are checked."""
    with pytest.raises((HostRefused, Unreachable)):
        HostPolicy((993,)).check(host, 993)


def test_public_addresses_and_allowed_networks_are_accepted_as_resolved() -> None:
    addresses = ["93.184.216.34", "2606:2800:220:1::1"]
    public = HostPolicy((993,), resolve=lambda *_: addresses).check("Mail.Example.com.", 993)
    assert public == Endpoint("mail.example.com", 993, ("93.184.216.34", "2606:2800:220:1::1"))
    inside = HostPolicy((993,), (ip_network("10.0.0.0/8"),), resolve=lambda *_: ["::ffff:10.0.0.1"]).check("mail", 993)
    assert inside.addresses == ("::ffff:10.0.0.1",)


def test_only_hosts_that_the_operator_names_may_be_private() -> None:
    policy = HostPolicy((993,), private_hosts=("mail.corp.example",), resolve=lambda *_: ["10.1.2.3"])
    assert policy.check("Mail.Corp.Example.", 993).addresses == ("10.1.2.3",)
    for host in ("corp.example", "x.mail.corp.example", "mail.corp.example.evil.example"):
        with pytest.raises(HostRefused):
            policy.check(host, 993)


@pytest.mark.parametrize("host", ["", "a b", "a/b", "user@host", "a:b", "[::1]", "x" * 254, "a\nb", "a?b", "a%25b"])
def test_text_that_is_not_a_host_name_is_refused(host: str) -> None:
    with pytest.raises((HostRefused, Unreachable)):
        HostPolicy((993,), resolve=lambda *_: ["93.184.216.34"]).check(host, 993)


def test_other_ports_are_refused() -> None:
    for port in (22, 25, 143, 6379):
        with pytest.raises(HostRefused, match="ALLOWED_PORTS"):
            HostPolicy((993,), resolve=lambda *_: ["93.184.216.34"]).check("mail.example.com", port)


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("imap.straße.example", "imap.xn--strae-oqa.example"), ("IMAP.Bücher.example", "imap.xn--bcher-kva.example"),
        ("imap.βόλος.example", "imap.xn--nxasmm1c.example"), ("imap_1.example", "imap_1.example"), ("imap.xn--strae-oqa.example", "imap.xn--strae-oqa.example"),
    ],
)  # fmt: skip
def test_a_typed_host_is_asked_for_by_the_same_rules_as_domains_of_addresses(typed: str, asked: str) -> None:
    """IDNA 2003 would ask for `strasse`, which somebody else may own: the password would go there."""
    queries: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        queries.append(host)
        return ["93.184.216.34"]

    assert HostPolicy((993,), resolve=resolve).check(typed, 993).host == asked and queries == [asked]
