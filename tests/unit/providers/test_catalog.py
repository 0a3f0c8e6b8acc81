"""The provider directory: every row of the FAQ is found, and an error in the data names its place."""

import re
from importlib import resources

import pytest

from services.cli.pages import providers
from services.common.errors import ConfigError
from services.providers import catalog
from services.providers.addresses import domain_of
from services.providers.lookup_decision import DomainFacts, LookupAnswer, decide, unconfirmed_servers

KNOWN = catalog.load()


ROWS = [
    (1, "a@firm.example", ("qiye163mx01.mxmail.netease.com", "qiye163mx02.mxmail.netease.com"), "imap.qiye.163.com"),
    (2, "a@163.com", (), "imap.163.com"),
    (3, "a@vip.163.com", (), "imap.vip.163.com"),
    (4, "a@126.com", (), "imap.126.com"),
    (5, "a@vip.126.com", (), "imap.vip.126.com"),
    (6, "a@188.com", (), "imap.188.com"),
    (7, "a@163.net", (), "imap.163.net"),
    (8, "a@vip.tom.com", (), "imap.vip.tom.com"),
    (9, "Sunnet 阳光互联 (Microsoft hosted Exchange)", None, "imap.{domain}"),
    (10, "a@firm.example", ("mxn.mxhichina.com", "mxw.mxhichina.com"), "imap.qiye.aliyun.com"),
    (11, "Wanwang legacy post office", None, "mail.{domain}"),
    (12, "a@gmail.com", (), "imap.gmail.com"),
    (13, "Corpease 尚易", None, "imap.corpease.net"),
    (14, "21CN enterprise", None, "imap-ent.21cn.com"),
    (15, "a@yeah.net", (), "imap.yeah.net"),
    (16, "a@googlemail.com", (), "imap.gmail.com"),
    (17, "a@yahoo.com", (), "imap.mail.yahoo.com"),
    (18, "a@yahoo.com.tw", (), "imap.mail.yahoo.com"),
    (19, "a@21cn.com", (), "imap.21cn.com"),
    (20, "Wanwang enterprise", None, "imap.qiye.aliyun.com"),
    (21, "a@firm.example", ("smtp.secureserver.net", "mailstore1.secureserver.net"), "imap.secureserver.net"),
    (22, "a@firm.example", ("mx.mail.sohu.net",), "mail.sohu.net"),
    (23, "a@sohu.com", (), "imap.sohu.com"),
    (24, "a@firm.example", ("mxbiz1.qq.com", "mxbiz2.qq.com"), "imap.exmail.qq.com"),
    (25, "a@foxmail.com", (), "imap.qq.com"),
    (26, "21cn free (second FAQ row)", None, "imap.21cn.com"),
    (27, "a@firm.example", ("mx01.263xmail.com",), "imap.263.net"),
    (28, "a@sina.com", (), "imap.sina.com"),
    (29, "Xinnet 新网", None, "imap.xinnet.com"),
    (30, "Alibaba Chinese-site enterprise mail (中文站企业邮箱)", None, None),
    (31, "a@hotmail.com", (), "outlook.office365.com"),
]  # fmt: skip
"""Row of the FAQ, what a person has (an address, or the name in the FAQ where no domain decides), MX, the current server."""


def looked_up(text: str, mx: tuple[str, ...] | None) -> LookupAnswer:
    if mx is None:
        provider = KNOWN.named(text)
        assert provider is not None
        return LookupAnswer("", "name", provider, provider.servers("{domain}"), text, True)
    domain = domain_of(text)
    assert domain is not None
    answer = decide(KNOWN, domain, DomainFacts(mx=mx, srv=(), answering=()))
    assert isinstance(answer, LookupAnswer)
    return answer


@pytest.mark.parametrize(("number", "text", "mx", "server"), ROWS, ids=[str(faq_row[0]) for faq_row in ROWS])
def test_every_row_of_the_faq_is_found(number: int, text: str, mx: tuple[str, ...] | None, server: str | None) -> None:
    answer = looked_up(text, mx)
    assert answer.provider is not None
    faq = {faq_row.number: faq_row for faq_row in answer.provider.faq}
    assert number in faq
    assert KNOWN.named(faq[number].name) is answer.provider
    assert [mail_server.host for mail_server in answer.servers[:1]] == ([server] if server else [])
    assert answer.trusted and all(
        (mail_server.port, mail_server.tls) == (993, "implicit") for mail_server in answer.servers
    )
    if not faq[number].supported or answer.provider.support == "unsupported":
        assert answer.provider.reason.en and answer.provider.advice.zh


def test_this_table_has_every_row_of_the_faq() -> None:
    numbers = sorted(faq_row.number for provider in KNOWN.providers for faq_row in provider.faq)
    assert [faq_row[0] for faq_row in ROWS] == list(range(1, 32)) == numbers


@pytest.mark.parametrize(
    ("server", "provider_id"),
    [
        ("MXBIZ1.QQ.COM.", "exmail"), ("mx1.qq.com", None), ("evil-mxbiz1.qq.com.example", None), ("xmxbiz1.qq.com", None),
        ("firm-com.mail.protection.outlook.com", "microsoft-365"), ("aspmx.l.google.com", "gmail"), ("alt1.aspmx.l.google.com", "gmail"),
        ("mx1.sg.aliyun.com", "alibaba-singapore"), ("mx1.qiye.aliyun.com", "alibaba-enterprise"), ("notsecureserver.net", None),
        ("163mx.cdn.163.net", "tom-163-net"), ("", None), (".", None),
    ],
)  # fmt: skip
def test_mx_servers_are_matched_by_suffix(server: str, provider_id: str | None) -> None:
    provider = KNOWN.by_mx(server)
    assert (provider.id if provider is not None else None) == provider_id


@pytest.mark.parametrize(
    ("text", "provider_id"),
    [
        ("Sina", "sina"),  # an exact id wins over names that contain it
        ("新浪VIP", "sina-vip"), ("网易企业邮", "netease-enterprise"), ("qq", "qq"), ("网易", None), ("", None), ("nobody", None),
    ],
)  # fmt: skip
def test_names_of_providers(text: str, provider_id: str | None) -> None:
    provider = KNOWN.named(text)
    assert (provider.id if provider is not None else None) == provider_id


BLOCK = resources.files("services.providers").joinpath("providers.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('id = "netease-163"\n', 'id = "netease-163"\nport = "993"\n', ["provider netease-163", "port", "'993' is not of type 'integer'"]),
        ('id = "netease-163"\n', 'id = "netease-163"\nauth = ["pin"]\n', ["provider netease-163", "auth.0", "'pin' is not one of", "authorization-code"]),
        ('id = "netease-163"\n', 'id = "netease-163"\nprot = 993\n', ["provider netease-163", "'prot' was unexpected", "schemas/provider.schema.json"]),
        ('hosts = ["imap.163.com"]', 'hosts = ["imap 163.com"]', ["provider netease-163", "hosts.0", "imap 163.com"]),
        ('id = "netease-163"\n', 'id = "netease-163"\nreason = { en = "x", zh = "y" }\n', ["provider netease-163", "reason.zh", "'y'"]),
        ('domains = ["126.com"]', 'domains = ["163.com"]', ["provider netease-126", "domains", "'163.com' is already in provider netease-163"]),
        ('family = "netease"\nname = "163 ', 'family = "nettease"\nname = "163 ', ["provider netease-163", "'nettease' is none of", "netease"]),
        ("[families.netease]", "[familys.netease]", ["familys", "[families.NAME]"]),
        ("row = 2,", "row = 3,", ["provider netease-vip-163", "faq.row", "'3' is already in provider netease-163"]),
        ('key = "mx", name = "qiye.163.com"', 'key = "mx", name = "qiye.126.com"', ["provider netease-enterprise", "doubts", "'qiye.126.com' is not in mx"]),
        ('key = "mx", name = "qiye.163.com"', 'key = "domains", name = "qiye.163.com"', ["provider netease-enterprise", "doubts.0.key", "'domains' is not one of"]),
        ("[families.netease]", "[families.netease", ["not TOML"]),
    ],
)  # fmt: skip
def test_an_error_names_block_key_value_and_what_is_allowed(old: str, new: str, parts: list[str]) -> None:
    assert old in BLOCK
    with pytest.raises(ConfigError) as caught:
        catalog.parse(BLOCK.replace(old, new, 1), "mine.toml")
    text = "\n".join(caught.value.problems)
    for part in ("mine.toml", *parts):
        assert part in text


def test_all_problems_are_reported_at_once() -> None:
    broken = BLOCK.replace('id = "qq"\n', 'id = "qq"\nport = 0\nsecurity = "plain"\n')
    with pytest.raises(ConfigError) as caught:
        catalog.parse(broken, "mine.toml")
    assert len(caught.value.problems) == 2


def test_every_provider_has_both_languages_source_and_date() -> None:
    wrong_hosts = {host for provider in KNOWN.providers for host in provider.not_imap}
    for provider in KNOWN.providers:
        for text in (provider.reason, provider.advice, *([provider.caution] if provider.caution else [])):
            assert text.en.isascii(), provider.id
            assert re.search(r"[\u4e00-\u9fff]", text.zh), provider.id
        assert provider.source and provider.as_of
        assert provider.hosts or provider.support == "unsupported"
        assert not set(provider.hosts) & wrong_hosts, provider.id


def test_an_unconfirmed_server_is_marked_among_confirmed_ones() -> None:
    notes = [(note.key, note.name) for note in unconfirmed_servers(looked_up("21CN enterprise", None))]
    assert notes == [("hosts", "imap-entcnc.21cn.com")]
    assert "`imap-ent.21cn.com`, `imap-entcnc.21cn.com`° |" in providers.page()


def test_a_server_files_all_sent_mail_where_its_provider_does() -> None:
    expected = {host: provider.files_sent == "always" for provider in KNOWN.providers for host in provider.hosts}
    assert {host: KNOWN.files_all_sent(host) for host in expected} == expected
    assert KNOWN.files_all_sent("smtp-relay.Gmail.com.") and KNOWN.files_all_sent("imap.googlemail.com")
    assert KNOWN.files_all_sent("eur.outlook.office365.com") and KNOWN.files_all_sent("partner.outlook.cn")
    assert all(KNOWN.files_all_sent(f"imappro.zoho.{end}") for end in ("com", "eu", "in", "com.au", "jp", "com.cn"))
    assert not any(
        map(KNOWN.files_all_sent, ("notgmail.com", "gmail.com.firm.example", "imap.firm.example", "com", ""))
    )


@pytest.mark.parametrize(
    ("server", "provider_id", "host"),
    [
        ("firm-example.o-v1.mx.microsoft", "microsoft-365", "outlook.office365.com"),
        ("firm-example.mail.protection.outlook.com", "microsoft-365", "outlook.office365.com"),
        ("firm-example.mail.eo.outlook.com", "microsoft-365", "outlook.office365.com"),
        ("eur.olc.protection.outlook.com", "outlook", "outlook.office365.com"),
        ("mx-biz.mail.am0.yahoodns.net", "yahoo", "imap.mail.yahoo.com"), ("mta7.am0.yahoodns.net.", "yahoo", "imap.mail.yahoo.com"),
        ("mx-apac.mail.gm0.yahoodns.net", "yahoo", "imap.mail.yahoo.com"), ("mx-aol.mail.gm0.yahoodns.net", "aol", "imap.aol.com"),
        ("vespa.a02.yahoodns.net", None, ""), ("mx2.zoho.com", "zoho-domain", "imappro.zoho.com"), ("mx1.zohomail.com", "zoho-domain", "imappro.zoho.com"),
        ("mx.zoho.eu", "zoho-eu", "imappro.zoho.eu"), ("mx3.zoho.in", "zoho-in", "imappro.zoho.in"), ("mx.zoho.com.au", "zoho-au", "imappro.zoho.com.au"),
        ("mx2.zoho.jp", "zoho-jp", "imappro.zoho.jp"), ("MX.Zoho.com.cn", "zoho-cn", "imap.zoho.com.cn"),
        ("mx.zohocloud.ca", "zoho-ca", "imappro.zohocloud.ca"), ("mx.zoho.sa", "zoho-sa", "imappro.zoho.sa"),
        ("mx1.feishu.cn", "feishu", "imap.feishu.cn"), ("mx3.larksuite.com", "lark", "imap.larksuite.com"),
    ],
)  # fmt: skip
def test_mx_servers_of_hosted_mail_lead_to_its_imap_server(server: str, provider_id: str | None, host: str) -> None:
    provider = KNOWN.by_mx(server)
    assert (provider and provider.id) == provider_id
    assert provider is None or provider.hosts[0] == host
