"""The directory of providers: every row of the FAQ is found, every step decides as it should, bad data names itself."""

import re
import string
from importlib import resources
from typing import Any

import pytest

from services.cli.pages import providers
from services.cli.registry import provider as command
from services.common import tables
from services.common.errors import ConfigError
from services.common.language import Language
from services.connect import texts
from services.connect.connection_test import STAGES
from services.providers import catalog, server_texts
from services.providers.addresses import domain_of
from services.providers.lookup_decision import DomainFacts, LookupAnswer, SrvRecord, decide, unconfirmed_servers
from services.providers.typed_server import TypedServer, find_mistake, parse_server
from tests.support.codes import codes

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
"""Row of the FAQ, what a person has (an address, or the FAQ's name where no domain tells), MX, the server to write today."""


def looked_up(text: str, mx: tuple[str, ...] | None) -> LookupAnswer:
    if mx is None:
        found = KNOWN.named(text)
        assert found is not None
        return LookupAnswer("", "name", found, found.servers("{domain}"), text, True)
    domain = domain_of(text)
    assert domain is not None
    answer = decide(KNOWN, domain, DomainFacts(mx=mx, srv=(), answering=()))
    assert isinstance(answer, LookupAnswer)
    return answer


@pytest.mark.parametrize(("row", "text", "mx", "server"), ROWS, ids=[str(row[0]) for row in ROWS])
def test_every_row_of_the_faq_is_found(row: int, text: str, mx: tuple[str, ...] | None, server: str | None) -> None:
    answer = looked_up(text, mx)
    assert answer.provider is not None
    faq = {one.row: one for one in answer.provider.faq}
    assert row in faq
    assert KNOWN.named(faq[row].name) is answer.provider
    assert [host for host, _ in answer.servers[:1]] == ([server] if server else [])
    assert answer.trusted and all(port == 993 for _, port in answer.servers)
    if not faq[row].supported or answer.provider.support == "unsupported":
        assert answer.provider.reason.en and answer.provider.advice.zh


def test_the_table_of_this_file_is_the_faqs() -> None:
    assert [row[0] for row in ROWS] == list(range(1, 32)) == sorted(one.row for p in KNOWN.providers for one in p.faq)


def test_steps_in_their_order() -> None:
    decided = [
        decide(KNOWN, "firm.example", DomainFacts()),
        decide(KNOWN, "firm.example", DomainFacts(mx=("mail.firm.example",))),
        decide(KNOWN, "firm.example", DomainFacts(mx=(), srv=())),
    ]
    assert decided == ["mx", "srv", "guess"]
    service = (
        SrvRecord("b.firm.example.", 993, 10),
        SrvRecord("a.firm.example.", 1993, 5),
        SrvRecord("c.firm.example.", 993, 5, 9),
    )
    answer = decide(KNOWN, "firm.example", DomainFacts(mx=(), srv=service))
    assert isinstance(answer, LookupAnswer)
    assert answer.servers == (("c.firm.example", 993), ("a.firm.example", 1993), ("b.firm.example", 993))
    assert (answer.how, answer.trusted) == ("srv", False)
    hosted = decide(KNOWN, "firm.example", DomainFacts(mx=(), srv=(SrvRecord("imap.gmail.com.", 993),)))
    assert isinstance(hosted, LookupAnswer) and hosted.trusted and hosted.provider is KNOWN.by_domain("gmail.com")
    none = decide(KNOWN, "firm.example", DomainFacts(mx=(), srv=(SrvRecord(".", 0),)))
    assert isinstance(none, LookupAnswer) and (none.how, none.evidence) == (
        "ask",
        "its DNS says that it offers no IMAP",
    )
    guessed = decide(KNOWN, "firm.example", DomainFacts(mx=(), srv=(), answering=(("imap.firm.example", 993),)))
    assert isinstance(guessed, LookupAnswer) and (guessed.how, guessed.trusted) == ("guess", False)
    asked = decide(KNOWN, "firm.example", DomainFacts(mx=(), srv=(), answering=()))
    assert isinstance(asked, LookupAnswer) and (asked.how, asked.servers) == ("ask", ())
    offline = decide(KNOWN, "firm.example", DomainFacts(), offline=True)
    assert isinstance(offline, LookupAnswer) and offline.how == "ask"


@pytest.mark.parametrize(
    ("server", "found"),
    [
        ("MXBIZ1.QQ.COM.", "exmail"), ("mx1.qq.com", None), ("evil-mxbiz1.qq.com.example", None), ("xmxbiz1.qq.com", None),
        ("firm-com.mail.protection.outlook.com", "microsoft-365"), ("aspmx.l.google.com", "gmail"), ("alt1.aspmx.l.google.com", "gmail"),
        ("mx1.sg.aliyun.com", "alibaba-singapore"), ("mx1.qiye.aliyun.com", "alibaba-enterprise"), ("notsecureserver.net", None),
        ("163mx.cdn.163.net", "tom-163-net"), ("", None), (".", None),
    ],
)  # fmt: skip
def test_mx_servers_by_what_stands_behind_a_dot(server: str, found: str | None) -> None:
    provider = KNOWN.by_mx(server)
    assert (provider.id if provider is not None else None) == found


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("a@163.com", "163.com"), (" A@163.COM ", "163.com"), ("163.com", "163.com"), ("a@中国.example", "xn--fiqs8s.example"),
        ("a@firm.example.", "firm.example"), ("a@localhost", None), ("", None), ("a@", None), ("a@b c.example", None),
        ("a@" + "x" * 64 + ".example", None), ("a@1.2.3.4/x", None), ("a@[127.0.0.1]", None), ("a@firm..example", None),
        ("a@" + "x." * 130 + "example", None),
    ],
)  # fmt: skip
def test_domains_of_what_was_typed(text: str, domain: str | None) -> None:
    assert domain_of(text) == domain


@pytest.mark.parametrize(
    ("host", "port", "address", "mistake"),
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
        ("imap.firm.example", 143, "a@firm.example", ("plain-port", "imap.firm.example", True)),
        ("imap.163.com", 993, "a@126.com", ("other-domains-host", "imap.126.com", True)),
        ("imap.163.com", 993, "a@163.com", None),
        ("imap.126.com", 993, "a@firm.example", None),
        ("popular.firm.example", 993, "a@firm.example", None),
        ("smtp", 993, "a@firm.example", None),
        ("mail.firm.example", 993, "a@firm.example", None),
        ("imap.gmail.com", 993, "a@outlook.com", None),
        # as Chinese input methods type it: full-width letters, signs and blanks, `。` for a dot and `、` for a stroke
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
def test_mistakes_are_seen_in_what_was_typed(host: str, port: int, address: str, mistake: Any) -> None:
    found = find_mistake(KNOWN, host, port, address)
    assert (None if found is None else (found.code, found.host, found.certain)) == mistake


@pytest.mark.parametrize(
    ("text", "host", "port", "scheme"),
    [
        ("imap.qq.com", "imap.qq.com", None, ""), (" IMAP.QQ.com. ", "imap.qq.com", None, ""), ("imap.qq.com:993", "imap.qq.com", 993, ""),
        ("imap.qq.com 993", "imap.qq.com", 993, ""), ("imap.qq.com：９９３", "imap.qq.com", 993, ""), ("imap.qq.com:0", "imap.qq.com:0", None, ""),
        ("imap.qq.com:99999", "imap.qq.com:99999", None, ""), ("imaps://imap.qq.com:993/INBOX", "imap.qq.com", 993, "imaps"),
        ("imap.qq\u200b.com", "imap.qq.com", None, ""), ("imap 。 qq 。com", "imap.qq.com", None, ""), ("[::1]:993", "[::1]:993", None, ""),
        # no host: left as it is for whoever checks hosts
        ("imap qq com", "imap qq com", None, ""), ("a@imap.qq.com", "a@imap.qq.com", None, ""), ("https://", "", None, "https"), ("", "", None, ""),
    ],
)  # fmt: skip
def test_servers_as_people_type_them(text: str, host: str, port: int | None, scheme: str) -> None:
    assert parse_server(text) == TypedServer(host, port, scheme)


@pytest.mark.parametrize(
    ("server", "doubted"),
    [
        ("aspmx2.googlemail.com", "googlemail.com"), ("mx.qiye.163.com", "qiye.163.com"),
        ("mxn.mxhichina.com", "mxhichina.com"),  # of a provider none of whose MX servers is confirmed
        ("alt1.aspmx.l.google.com", None), ("smtp.google.com", None), ("qiye163mx01.mxmail.netease.com", None),
        ("mxbiz1.qq.com", None),
    ],
)  # fmt: skip
def test_an_mx_server_that_no_source_confirms_is_told_with_source_and_date(server: str, doubted: str | None) -> None:
    answer = decide(KNOWN, "firm.example", DomainFacts(mx=(server,)))
    assert isinstance(answer, LookupAnswer) and answer.how == "mx"
    found = next(iter(unconfirmed_servers(answer)), None)
    assert (None if found is None else (found.key, found.name)) == (None if doubted is None else ("mx", doubted))
    languages: tuple[Language, ...] = ("en", "zh")
    for language in languages:
        shown = [
            value for name, value in command.answer_lines(answer, language) if name == "unconfirmed" and "20" in value
        ]
        assert len(shown) == (0 if found is None else 1)
        assert found is None or all(part in shown[0] for part in (found.name, found.source, found.as_of))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Sina", "sina"),  # the whole id wins over the names that hold it
        ("新浪VIP", "sina-vip"), ("网易企业邮", "netease-enterprise"), ("qq", "qq"), ("网易", None), ("", None), ("nobody", None),
    ],
)  # fmt: skip
def test_names_of_providers(text: str, found: str | None) -> None:
    provider = KNOWN.named(text)
    assert (provider.id if provider is not None else None) == found


BLOCK = resources.files("services.providers").joinpath("providers.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new", "told"),
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
def test_an_error_names_block_key_value_and_what_is_allowed(old: str, new: str, told: list[str]) -> None:
    assert old in BLOCK
    with pytest.raises(ConfigError) as caught:
        catalog.parse(BLOCK.replace(old, new, 1), "mine.toml")
    text = "\n".join(caught.value.problems)
    for part in ("mine.toml", *told):
        assert part in text


def test_every_problem_is_told_at_once() -> None:
    broken = BLOCK.replace('id = "qq"\n', 'id = "qq"\nport = 0\nsecurity = "plain"\n')
    with pytest.raises(ConfigError) as caught:
        catalog.parse(broken, "mine.toml")
    assert len(caught.value.problems) == 2


def test_every_provider_has_both_languages_source_and_date() -> None:
    for one in KNOWN.providers:
        for text in (one.reason, one.advice, *([one.caution] if one.caution else [])):
            assert text.en.isascii(), one.id
            assert re.search(r"[\u4e00-\u9fff]", text.zh), one.id
        assert one.source and one.as_of
        assert one.hosts or one.support == "unsupported"
        assert not set(one.hosts) & {host for other in KNOWN.providers for host in other.not_imap}, one.id


def _words(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_text_of_the_connection_test_has_both_languages_with_the_same_words() -> None:
    sentences = texts.texts()
    assert set(sentences["stage"]) == set(STAGES)
    pairs = [(f"{kind}.{name}", entry) for kind, entries in sentences.items() for name, entry in entries.items()]
    for name, entry in pairs:
        assert set(entry) == {"en", "zh"}, name
        english, chinese = entry["en"], entry["zh"]
        if isinstance(english, str):
            english, chinese = {"text": english}, {"text": chinese}
        assert set(english) == set(chinese), name
        for part in english:
            assert _words(english[part]) == _words(chinese[part]), f"{name} {part}"
            assert english[part].isascii(), name
            assert re.search(r"[\u4e00-\u9fff]", chinese[part]) or english[part].startswith("{"), name


def test_every_value_that_a_look_up_shows_has_words() -> None:
    known, properties = set(texts.texts()["word"]), tables.schema("provider")["properties"]
    for key in ("support", "files_sent"):
        assert set(properties[key]["enum"]) <= known
    for key in ("auth", "unconfirmed"):
        assert set(properties[key]["items"]["enum"]) <= known


def test_every_code_has_its_sentences() -> None:
    assert codes() <= set(texts.texts()["code"])
    assert set(texts.texts()["code"]) - codes() == {
        "folder-missing", "provider-busy", "provider-unsupported", "tries-spent",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "text", "kind", "code"),
    [
        ("examine", "EXAMINE Unsafe Login. Please contact kefu@188.com for help", "refused", "unsafe-login"),
        ("login", "LOGIN Login error or password error", "refused", "authorization-code-or-server"),
        ("login", "Login fail. Account is abnormal, service is not open, password is incorrect, login frequency limited, or system is busy", "unclear", "login-unclear"),
        ("login", "LOGIN fail. Please using authorized code to login.", "refused", "authorization-code-needed"),
        ("login", "Please using weixin token to login", "refused", "client-password-needed"),
        ("login", "Basic authentication is disabled.", "refused", "oauth2-needed"),
        ("examine", "User is authenticated but not connected.", "later", "too-many-sessions"),
        ("login", "[ALERT] Application-specific password required: https://support.google.com/x (Failure)", "refused", "app-password-needed"),
        ("login", "[WEBALERT https://accounts.google.com/x] Web login required.", "refused", "app-password-needed"),
        ("login", "[AUTHENTICATIONFAILED] Invalid credentials (Failure)", "refused", "login-refused"),
        ("login", "[ALERT] Your account is not enabled for IMAP use.", "refused", "imap-off"),
        ("fetch", "[LIMIT] FETCH Rate limit hit.", "later", "throttled"),
        ("fetch", "[UNAVAILABLE] come back", "later", "throttled"),
        ("search", "Request is throttled. Suggested Backoff Time: 59320 milliseconds", "later", "throttled"),
        ("list", "[OVERQUOTA] x", "later", "throttled"),
        ("greeting", "BYE Too many connections", "later", "throttled"),
        ("login", "LOGIN frequency limited, please try later", "later", "throttled"),
        ("login", "[UNAVAILABLE] Temporary authentication failure.", "later", "throttled"),
        ("login", "[SERVERBUG] Internal error occurred. Refer to server log for more information.", "later", "throttled"),
        ("login", "[AUTHENTICATIONFAILED] too many wrong passwords", None, None),
        ("login", "wrong", None, None),
        ("examine", "no such folder", None, None),
        ("fetch", "operated separately", None, None),
    ],
)  # fmt: skip
def test_what_servers_mean(stage: str, text: str, kind: str | None, code: str | None) -> None:
    found = server_texts.meaning(stage, text)
    assert (None if found is None else (found.kind, found.code)) == (None if kind is None else (kind, code))


def test_a_server_that_no_source_confirms_is_marked_among_those_that_are() -> None:
    told = [(one.key, one.name) for one in unconfirmed_servers(looked_up("21CN enterprise", None))]
    assert told == [("hosts", "imap-entcnc.21cn.com")]
    assert "`imap-ent.21cn.com`, `imap-entcnc.21cn.com`° |" in providers.page()


def test_the_page_names_every_provider_and_marks_what_is_unconfirmed() -> None:
    page = providers.page()
    for one in KNOWN.providers:
        assert f"### {one.name}\n" in page
    assert page.count("`imap.corpease.net`°") == 1


def test_a_server_files_all_sent_mail_where_its_provider_does() -> None:
    expected = {host: provider.files_sent == "always" for provider in KNOWN.providers for host in provider.hosts}
    assert {host: KNOWN.files_all_sent(host) for host in expected} == expected
    assert KNOWN.files_all_sent("smtp-relay.Gmail.com.") and KNOWN.files_all_sent("imap.googlemail.com")
    assert KNOWN.files_all_sent("eur.outlook.office365.com") and KNOWN.files_all_sent("partner.outlook.cn")
    assert all(KNOWN.files_all_sent(f"imappro.zoho.{end}") for end in ("com", "eu", "com.cn"))
    assert not any(
        map(KNOWN.files_all_sent, ("notgmail.com", "gmail.com.firm.example", "imap.firm.example", "com", ""))
    )
