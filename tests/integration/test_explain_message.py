# ruff: noqa: F811
"""`replyrate explain COMPANY --message MESSAGE-ID` on a real database: every state that a message can be in."""

import json
import re
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from services.common import codec
from services.common.events import MessageSent
from services.common.hashing import Hasher
from services.registry.published import PublishedMessage, PublishedMessages
from services.registry.registry import Registry
from services.registry.vault import Vault
from tests.integration.test_numbers_cli import HOUR, NOW, OLD, replied, run, shop  # noqa: F401
from tests.support.mailboxes import connected

KEY = bytes(32)
HASHER = Hasher(KEY)
KEYS = [
    "company_id", "message_id", "hash", "status", "company_known", "counted_until", "publications", "inquiries",
    "inquiries_left_out", "sharing_inquiries", "mailboxes", "unknowable", "sentences",
]  # fmt: skip
RECENT = NOW - timedelta(days=3)


def hashed(message_id: str) -> str:
    return str(HASHER.message("shop", message_id))


def address(text: str) -> str:
    return str(HASHER.address("shop", text))


@pytest.fixture
def mailboxes(shop: psycopg.Connection) -> Registry:
    """Two mailboxes of the seller in the registry: m1 is read, m2 was removed."""
    registry = Registry(shop, Hasher(KEY), Vault(KEY))
    connected(registry, "shop", mailbox_id="m1", address="one@mail.test")
    connected(registry, "shop", "desk", mailbox_id="m2", address="two@mail.test")
    shop.execute(
        "UPDATE registry.mailboxes SET complete_from = %s, complete_through = %s WHERE mailbox_id = 'm1'", (OLD, NOW)
    )
    registry.mailboxes.remove("shop", "m2")
    return registry


def publish(connection: psycopg.Connection, message_id: str, sent_at: datetime, **changes: Any) -> None:
    """Remember a message as the fetcher does when it has published it."""
    values: dict[str, Any] = {
        "date_header": sent_at, "internal_date": None, "save_date": None, "filed_after": None, "filed_before": sent_at + HOUR,
        "kind": "human", "kind_reason": None, "recipients": (), "in_reply_to": (), "references": (),
    }  # fmt: skip
    event = MessageSent(
        company_id="shop", account_id="main", mailbox_id="m1", message_id=hashed(message_id), sent_at=sent_at,
        sent_at_basis="date", evidence="verified", **values | changes,
    )  # fmt: skip
    record = codec.encode(event, id=event.message_id, source="replyrate/fetcher/m1", time=sent_at + HOUR)
    mailbox = {"company_id": "shop", "mailbox_id": "m1"}
    PublishedMessages(connection).save(mailbox, [PublishedMessage(event, record)])


@pytest.fixture
def story(run: Any, mailboxes: Registry) -> Any:
    def explained(message_id: str, *arguments: str, code: int = 0) -> dict[str, Any]:
        document = json.loads(run("explain", "shop", "--message", message_id, "--json", *arguments, code=code).stdout)
        assert list(document) == KEYS
        return dict(document)

    return explained


def shown(run: Any, message_id: str, *arguments: str, code: int = 0) -> str:
    """What a person reads, in one line."""
    return " ".join(run("explain", "shop", "--message", message_id, *arguments, code=code).stdout.split())


def test_a_message_that_counts_is_followed_to_the_outcome(run: Any, shop: psycopg.Connection, story: Any) -> None:
    publish(shop, "answer@mail.test", OLD + 3 * HOUR, in_reply_to=(hashed("ask@platform.example"),))
    replied(shop, "unanswered", hashed("answer@mail.test"), OLD + 3 * HOUR)
    replied(shop, "unanswered", hashed("answer@mail.test"), OLD + 3 * HOUR, matched_by="buyer-address")
    explained = story("answer@mail.test", "--rules", "default")
    assert explained == story("<answer@mail.test>", "--rules", "default") | {
        "inquiries": explained["inquiries"], "sentences": explained["sentences"],
    }  # fmt: skip
    assert (explained["status"], explained["hash"]) == ("matched", hashed("answer@mail.test"))
    (publication,) = explained["publications"]
    assert (publication["mailbox_id"], publication["kind"], publication["evidence"]) == ("m1", "human", "verified")
    assert (publication["recipients"], publication["in_reply_to"]) == (0, 1)
    assert datetime.fromisoformat(publication["sent_at"]) == OLD + 3 * HOUR
    (inquiry,) = explained["inquiries"]
    assert inquiry["inquiry_id"] == "unanswered"
    (match,) = inquiry["matches"]
    assert match["matched_by"] == ["buyer-address", "in-reply-to"] and match["mailbox_id"] == "m1"
    (judgement,) = inquiry["judgements"]
    assert (judgement["rule_set"], judgement["outcome"], judgement["verdict"], judgement["counts"]) == (
        "default", "timely", "answer", True,
    )  # fmt: skip
    assert explained["unknowable"] == []
    text = shown(run, "answer@mail.test")
    assert "It counts as the answer to unanswered under default." in text
    assert "notification mail (In-Reply-To)" in text and "time verified" in text
    assert "计为询盘 unanswered 的回复" in shown(run, "answer@mail.test", "--lang", "zh")


def test_a_message_that_does_not_count_has_its_reason(run: Any, shop: psycopg.Connection, story: Any) -> None:
    for name, kind in (("auto", "automatic"), ("list", "bulk")):
        replied(shop, "unanswered", hashed(f"{name}@mail.test"), OLD + 3 * HOUR, kind=kind)
    replied(shop, "timely", hashed("later@mail.test"), OLD + 9 * HOUR)
    replied(shop, "timely", hashed("future@mail.test"), NOW + timedelta(days=1))
    replied(shop, "spam", hashed("spam@mail.test"), OLD + 3 * HOUR)

    def verdict(name: str) -> tuple[str | None, bool, str]:
        (inquiry,) = story(f"{name}@mail.test", "--rules", "default")["inquiries"]
        (judgement,) = inquiry["judgements"]
        return judgement["verdict"], judgement["counts"], judgement["outcome"]

    assert verdict("auto") == ("automatic", False, "unanswered")
    assert verdict("list") == ("bulk", False, "unanswered")
    assert verdict("later") == ("later", False, "timely")
    assert verdict("future") == ("not-yet", False, "timely")
    assert verdict("spam") == (None, False, "excluded")
    assert "no: an automatic reply" in shown(run, "auto@mail.test")
    assert "the inquiry itself does not count, because it was reported as spam." in shown(run, "spam@mail.test")


def test_a_message_in_several_inquiries_is_judged_in_each(shop: psycopg.Connection, story: Any) -> None:
    for inquiry_id in ("late", "unanswered"):
        replied(shop, inquiry_id, hashed("both@mail.test"), OLD + 26 * HOUR)
    explained = story("both@mail.test")
    assert [inquiry["inquiry_id"] for inquiry in explained["inquiries"]] == ["late", "unanswered"]
    rule_sets = {"default", "first-reply-24h"}
    for inquiry in explained["inquiries"]:
        assert {judgement["rule_set"] for judgement in inquiry["judgements"]} == rule_sets


def test_a_match_outlives_what_the_registry_remembers(run: Any, shop: psycopg.Connection, story: Any) -> None:
    replied(shop, "timely", hashed("old@mail.test"), OLD + HOUR)
    explained = story("old@mail.test")
    assert (explained["status"], explained["publications"], explained["unknowable"]) == ("matched", [], ["forgotten"])
    assert "the last 60 days (REPLYRATE_HORIZON_DAYS)" in shown(run, "old@mail.test")


def test_a_published_message_without_a_match_says_what_it_could_be_matched_by(
    run: Any,
    shop: psycopg.Connection,
    story: Any,
) -> None:
    publish(shop, "bare@mail.test", RECENT)
    publish(shop, "stranger@mail.test", RECENT, recipients=(address("x@shop.example"),))
    publish(shop, "buyer@mail.test", RECENT, recipients=(address("buyer@shop.example"),))
    publish(shop, "early@mail.test", OLD - HOUR, in_reply_to=(hashed("ask@platform.example"),))
    shop.execute(
        "UPDATE ledger.inquiries SET buyer_addresses = %s, message_ids = %s WHERE inquiry_id = 'timely'",
        ([address("buyer@shop.example")], [hashed("ask@platform.example")]),
    )
    assert story("bare@mail.test")["status"] == "published"
    assert "so nothing can be matched with it" in shown(run, "bare@mail.test")
    assert "No known inquiry has one of its ids" in shown(run, "stranger@mail.test")
    for name, later, words in (("buyer", False, "not joined yet"), ("early", True, "more than 5 minutes after")):
        (sharing,) = story(f"{name}@mail.test")["sharing_inquiries"]
        assert (sharing["inquiry_id"], sharing["received_later"]) == ("timely", later)
        assert words in shown(run, f"{name}@mail.test")


def test_a_message_that_is_still_to_be_counted_says_so(run: Any, shop: psycopg.Connection, story: Any) -> None:
    publish(shop, "new@mail.test", RECENT)
    shop.execute("INSERT INTO ledger.pipeline (partition, passed_at) VALUES (0, %s)", (RECENT,))
    assert datetime.fromisoformat(story("new@mail.test")["counted_until"]) == RECENT
    assert "so it is still to be counted (matcher, aggregator)" in shown(run, "new@mail.test")
    shop.execute("UPDATE ledger.pipeline SET passed_at = clock_timestamp() + interval '1 hour'")
    assert "still to be counted" not in shown(run, "new@mail.test")


def test_ids_are_compared_with_their_case(shop: psycopg.Connection, story: Any) -> None:
    publish(shop, "Case@mail.test", RECENT)
    assert story("Case@mail.test")["status"] == "published"
    assert story("case@mail.test", code=1)["status"] == "never-seen"


def test_a_message_that_was_never_seen_names_the_mailboxes_and_what_cannot_be_known(run: Any, story: Any) -> None:
    explained = story("lost@mail.test", code=1)
    assert (explained["status"], explained["inquiries"], explained["publications"]) == ("never-seen", [], [])
    assert explained["unknowable"] == ["forgotten", "dead-letters", "dropped", "without-message-id"]
    first, removed = explained["mailboxes"]
    assert (first["mailbox_id"], first["state"], removed["mailbox_id"], removed["state"]) == (
        "m1", "active", "m2", "removed",
    )  # fmt: skip
    assert datetime.fromisoformat(first["complete_from"]) == OLD
    text = shown(run, "lost@mail.test", code=1)
    assert f"{OLD:%Y-%m-%d %H:%M} … {NOW:%Y-%m-%d %H:%M}" in text and "never" in text
    assert "Dead letters of mail carry no Message-ID" in text
    assert "从未出现" in shown(run, "lost@mail.test", "--lang", "zh", code=1)
    assert set(explained["sentences"]) == {"en", "zh"}


def test_another_company_does_not_see_the_message(run: Any, shop: psycopg.Connection, mailboxes: Registry) -> None:
    publish(shop, "answer@mail.test", RECENT)
    refused = run("explain", "other", "--message", "answer@mail.test", code=1).stdout
    assert "The company other has no account here" in " ".join(refused.split())


def test_without_an_active_rule_set_the_message_is_followed_to_its_match(run: Any, shop: psycopg.Connection) -> None:
    replied(shop, "timely", hashed("old@mail.test"), OLD + HOUR)
    shop.execute("DELETE FROM ledger.rule_sets")
    assert "No rule set is active yet" in shown(run, "old@mail.test")


@pytest.mark.parametrize("arguments", [(), ("timely", "--message", "a@b")])
def test_an_inquiry_or_a_message_must_be_named(run: Any, arguments: tuple[str, ...]) -> None:
    assert "either an INQUIRY_ID or --message" in run("explain", "shop", *arguments, code=2).stderr


def test_what_is_no_message_id_is_refused_and_nothing_in_one_reaches_the_terminal(
    run: Any,
    shop: psycopg.Connection,
) -> None:
    assert "is not a Message-ID" in " ".join(run("explain", "shop", "--message", "<>", code=1).stderr.split())
    text = run("explain", "shop", "--message", "[red]:smile:\u009b31m@b", code=1).stdout
    assert "[red]:smile:\\x9b31m@b" in text and "\u009b" not in text


def test_support_needs_no_more_than_the_role_of_the_aggregator(run: Any, shop: psycopg.Connection, dsn: str) -> None:
    role = f"support_{dsn.rsplit('/', 1)[1]}"
    replied(shop, "timely", hashed("old@mail.test"), OLD + HOUR)
    shop.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x' IN ROLE replyrate_aggregator".encode())
    try:
        support = re.sub(r"//[^@]*@", f"//{role}:x@", dsn)
        run("explain", "shop", "--message", "old@mail.test", dsn=support)
        run("explain", "shop", "--message", "lost@mail.test", dsn=support, code=1)
    finally:
        shop.execute(f"DROP ROLE {role}".encode())
