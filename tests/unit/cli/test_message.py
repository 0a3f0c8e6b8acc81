"""`replyrate message`: its texts, its JSON, its refusals, and that nothing in a message reaches the terminal as a command."""

import json
import string
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from services.cli.__main__ import main
from services.cli.numbers.message import CLOCKS, DROPPED, SITUATIONS
from services.common.events import Basis
from services.common.hashing import Hasher
from services.mail.inspection import DropReason, Situation

KEYS = [
    "message_id", "identity", "in_reply_to", "references", "recipients", "from", "date", "kind", "kind_reason", "dropped",
]  # fmt: skip
MESSAGE = (
    b"Message-ID: <1@mail.test>\nIn-Reply-To: <ask@platform.example>\nDate: Wed, 1 Jul 2026 18:00:00 +0800\n"
    b"From: seller@mail.test\nTo: Buyer <Buyer@Shop.example>, undisclosed\nAuto-Submitted: auto-replied\n\nbody\n"
)


def run(*arguments: str, raw: bytes = MESSAGE, **environ: str) -> Result:
    return CliRunner(env=dict(environ)).invoke(main, ["message", *arguments], input=raw)


def test_json_has_exactly_the_keys_of_the_contract() -> None:
    outcome = run("-", "--json")
    assert outcome.exit_code == 0
    document = json.loads(outcome.stdout)
    assert list(document) == KEYS
    assert document == {
        "message_id": "1@mail.test", "identity": "message-id", "in_reply_to": ["ask@platform.example"], "references": [],
        "recipients": ["buyer@shop.example"], "from": ["seller@mail.test"], "date": "2026-07-01T10:00:00Z",
        "kind": "automatic", "kind_reason": "auto-submitted", "dropped": [{"field": "to", "reason": "no-address"}],
    }  # fmt: skip


def test_with_a_company_the_hashes_are_printed_too(tmp_path: Path) -> None:
    key = tmp_path / "hash.key"
    key.write_bytes(bytes(range(32)))
    document = json.loads(run("-", "--json", "--company", "c1", REPLYRATE_HASH_KEY_FILE=str(key)).stdout)
    hasher = Hasher(bytes(range(32)))
    assert list(document) == [*KEYS, "hashes"]
    assert document["hashes"] == {
        "message_id": hasher.message("c1", "1@mail.test"),
        "recipients": [hasher.address("c1", "buyer@shop.example")],
        "in_reply_to": [hasher.message("c1", "ask@platform.example")],
        "references": [],
    }


@pytest.mark.parametrize("value", ["", "/no/such/file"])
def test_a_company_without_the_hash_key_is_a_configuration_error(value: str) -> None:
    outcome = run("-", "--company", "c1", REPLYRATE_HASH_KEY_FILE=value)
    assert outcome.exit_code == 78 and "REPLYRATE_HASH_KEY_FILE" in outcome.stderr


def test_the_text_says_which_rule_decided_and_which_time_counts() -> None:
    text = run("-").stdout
    assert "automatic: its Auto-Submitted header says so (auto-submitted)" in text
    assert "sent while the mailbox is polled regularly: Date counts, verified" in text
    assert "to: a name without an address (no-address)" in text


def test_every_code_has_a_sentence() -> None:
    assert set(DROPPED) == set(get_args(DropReason))
    assert set(SITUATIONS) == set(get_args(Situation))
    assert set(CLOCKS) == set(get_args(Basis))


def test_line_ends_do_not_change_the_identity_of_a_message(tmp_path: Path) -> None:
    key = tmp_path / "hash.key"
    key.write_bytes(bytes(32))
    unix = b"Date: Wed, 1 Jul 2026 18:00:00 +0800\nFrom: a@b.c\n\nbody\n"

    def identity(raw: bytes) -> object:
        outcome = run("-", "--json", "--company", "c1", raw=raw, REPLYRATE_HASH_KEY_FILE=str(key))
        return json.loads(outcome.stdout)["hashes"]["message_id"]

    assert identity(unix) == identity(unix.replace(b"\n", b"\r\n"))
    assert identity(unix) != identity(unix + b"x")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "is empty"),
        (b"hello", "no header field"),
        (bytes(range(256)), "binary data"),
        (b"X: y\n\n", "none of the header"),
    ],
)
def test_what_is_no_message_ends_with_1_and_the_reason(raw: bytes, words: str) -> None:
    outcome = run("-", raw=raw)
    assert outcome.exit_code == 1 and words in outcome.stderr and not outcome.stdout


@pytest.mark.parametrize("file", ["/", "/no/such/file"])
def test_what_cannot_be_opened_is_a_usage_error(file: str) -> None:
    assert run(file).exit_code == 2


@given(st.binary(max_size=200), st.text(max_size=60))
def test_nothing_of_a_message_is_interpreted_by_a_terminal(raw: bytes, text: str) -> None:
    hostile = (
        b"In-Reply-To: <:smile:[red]@b.c>\nFrom: \xe2\x80\xae@b.c\nTo: a\x1b[31m@b.c, [red]@b.c, \xc2\x9b31m@b.c, "
    )
    hostile += text.encode("utf-8", "replace") + b"@b.c\nMessage-ID: <" + raw.translate(None, b"\r\n") + b"@b.c>\n\n"
    outcome = run("-", raw=hostile)
    assert outcome.exit_code == 0, outcome.output
    assert all(line.isprintable() for line in outcome.stdout.split("\n"))
    assert ":smile:[red]@b.c" in outcome.stdout
    document = run("-", "--json", raw=hostile).stdout
    assert set(document.rstrip("\n")) <= set(string.printable) - set("\t\n\r\v\f")
    assert list(json.loads(document)) == KEYS
