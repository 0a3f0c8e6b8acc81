"""The look-up asks for one fact after the other, and knows what no source confirms."""

import pytest

from services.cli.registry import provider as command
from services.common.language import Language
from services.providers import catalog
from services.providers.lookup_decision import DomainFacts, LookupAnswer, SrvRecord, decide, unconfirmed_servers
from services.providers.mail_server import MailServer

KNOWN = catalog.load()


def test_facts_are_requested_in_order_and_the_first_that_decides_counts() -> None:
    steps = [
        decide(KNOWN, "firm.example", DomainFacts()),
        decide(KNOWN, "firm.example", DomainFacts(mx=("mail.firm.example",))),
        decide(KNOWN, "firm.example", DomainFacts(mx=(), srv=())),
    ]
    assert steps == ["mx", "srv", "guess"]
    records = (
        SrvRecord("b.firm.example.", 993, 10),
        SrvRecord("a.firm.example.", 1993, 5),
        SrvRecord("c.firm.example.", 993, 5, 9),
    )
    answer = decide(KNOWN, "firm.example", DomainFacts(mx=(), srv=records))
    assert isinstance(answer, LookupAnswer)
    assert answer.servers == (
        MailServer("c.firm.example", 993),
        MailServer("a.firm.example", 1993),
        MailServer("b.firm.example", 993),
    )
    assert (answer.how, answer.trusted) == ("srv", False)
    hosted = decide(KNOWN, "firm.example", DomainFacts(mx=(), srv=(SrvRecord("imap.gmail.com.", 993),)))
    assert isinstance(hosted, LookupAnswer) and hosted.trusted and hosted.provider is KNOWN.by_domain("gmail.com")
    none = decide(KNOWN, "firm.example", DomainFacts(mx=(), srv=(SrvRecord(".", 0),)))
    assert isinstance(none, LookupAnswer) and (none.how, none.evidence) == (
        "ask",
        "its DNS says that it offers no IMAP",
    )
    guessed = decide(
        KNOWN, "firm.example", DomainFacts(mx=(), srv=(), answering=(MailServer("imap.firm.example", 993),))
    )
    assert isinstance(guessed, LookupAnswer) and (guessed.how, guessed.trusted) == ("guess", False)
    asked = decide(KNOWN, "firm.example", DomainFacts(mx=(), srv=(), answering=()))
    assert isinstance(asked, LookupAnswer) and (asked.how, asked.servers) == ("ask", ())
    offline = decide(KNOWN, "firm.example", DomainFacts(), offline=True)
    assert isinstance(offline, LookupAnswer) and offline.how == "ask"


@pytest.mark.parametrize(
    ("server", "doubted"),
    [
        ("aspmx2.googlemail.com", "googlemail.com"), ("mx.qiye.163.com", "qiye.163.com"),
        ("mxn.mxhichina.com", "mxhichina.com"),  # of a provider none of whose MX servers is confirmed
        ("alt1.aspmx.l.google.com", None), ("smtp.google.com", None), ("qiye163mx01.mxmail.netease.com", None),
        ("mxbiz1.qq.com", None),
    ],
)  # fmt: skip
def test_an_unconfirmed_mx_server_is_reported_with_source_and_date(server: str, doubted: str | None) -> None:
    answer = decide(KNOWN, "firm.example", DomainFacts(mx=(server,)))
    assert isinstance(answer, LookupAnswer) and answer.how == "mx"
    note = next(iter(unconfirmed_servers(answer)), None)
    assert (None if note is None else (note.key, note.name)) == (None if doubted is None else ("mx", doubted))
    languages: tuple[Language, ...] = ("en", "zh")
    for language in languages:
        shown = [
            value for name, value in command.answer_lines(answer, language) if name == "unconfirmed" and "20" in value
        ]
        assert len(shown) == (0 if note is None else 1)
        assert note is None or all(part in shown[0] for part in (note.name, note.source, note.as_of))
