"""docs/rules-worked.md against the program: every cell of every table is what `replyrate replay` makes of examples/worked."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.aggregator.judge import rules
from services.common import codec
from services.common.events import MESSAGE_SENT
from services.common.hashing import Hasher
from tests.support.worked import AS_OF, COMPANY, FOLDER, PAGE, differences, sections, story

PRESETS = sorted(rules.builtin_names())
MAKE = FOLDER / "make.py"
FILES = ("inquiries.ndjson", "sent.ndjson", "coverage.ndjson", "hash.key")


def replay(folder: Path) -> bytes:
    """What the command prints for the dumps of a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "replay", "--inquiries", str(folder / "inquiries.ndjson"),
         "--sent", str(folder / "sent.ndjson"), "--hash-key-file", str(folder / "hash.key"),
         "--coverage", str(folder / "coverage.ndjson"), "--as-of", AS_OF.isoformat(), "--json", "--rules", *PRESETS],
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.fixture(scope="module")
def printed() -> bytes:
    return replay(FOLDER)


@pytest.fixture(scope="module")
def replayed(printed: bytes) -> dict[str, list[dict[str, Any]]]:
    result: dict[str, list[dict[str, Any]]] = json.loads(printed)
    return result


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text("utf-8")


def test_every_cell_is_what_the_program_says(page: str, replayed: dict[str, list[dict[str, Any]]]) -> None:
    assert sorted(sections(page)) == PRESETS
    assert differences(page, replayed["reply_rate"], replayed["inquiry_outcomes"]) == []


@pytest.mark.parametrize("name", PRESETS)
def test_a_wrong_cell_is_found(name: str, page: str, replayed: dict[str, list[dict[str, Any]]]) -> None:
    """Every cell is changed once: each change must be reported."""
    rates, outcomes = ([columns for columns in rows if columns["rule_set"] == name] for rows in replayed.values())
    text = f"### {name}\n{sections(page)[name].text}"
    assert differences(text, rates, outcomes) == []
    changed = 0
    for table_row in re.finditer(r"^\| (?:i\d\d|shop|main|desk) \|.*$", text, re.MULTILINE):
        for cell in re.finditer(r"[^|]+", table_row[0]):
            begin, end = (table_row.start() + place for place in cell.span())
            changed_text = f"{text[:begin]} {cell[0].strip()}9 {text[end:]}"
            assert differences(changed_text, rates, outcomes), (table_row[0], cell[0])
            changed += 1
    assert changed == 23 * 6 + 3 * 13


def test_a_missing_row_is_found(page: str, replayed: dict[str, list[dict[str, Any]]]) -> None:
    short = re.sub(r"^\| i23 \| main \| 2026-03-20 .*\n", "", page, count=1, flags=re.MULTILINE)
    assert differences(short, replayed["reply_rate"], replayed["inquiry_outcomes"])
    assert differences(page.replace("### etsy", "### bazaar"), replayed["reply_rate"], replayed["inquiry_outcomes"])


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_names_the_source_of_the_rule_set(name: str, page: str) -> None:
    assert f"\nSource: {rules.load_builtin(name).source}.\n" in sections(page)[name].text


def test_the_story_is_the_dump(page: str) -> None:
    events = [json.loads(line) for line in (FOLDER / "inquiries.ndjson").read_text("utf-8").splitlines()]
    facts = [event["data"] for event in events if event["type"] == "replyrate.inquiry-received.v1"]
    assert [(line["Inquiry"], line["Account"], line["Buyer"], line["Received"]) for line in story(page).rows] == [
        (
            inquiry["inquiry_id"],
            inquiry["account_id"],
            inquiry["buyer"]["id"],
            inquiry["received_at"].replace("T", " ").removesuffix("Z"),
        )
        for inquiry in facts
    ]


def test_the_files_are_what_the_script_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-I", str(MAKE), str(tmp_path)], check=True, timeout=60)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), f"run `python {MAKE}`"


def test_the_hashes_are_those_of_the_key() -> None:
    """The script has its own hash function; the fetcher's code must give the same hashes."""
    key = (FOLDER / "hash.key").read_bytes()
    assert len(key) == 32 and b"not a secret" in key
    hasher = Hasher(key)
    inquiries = [json.loads(line)["data"] for line in (FOLDER / "inquiries.ndjson").read_text("utf-8").splitlines()]
    wanted = {
        (hasher.address(COMPANY, inquiry["buyer"]["addresses"][0]), hasher.message(COMPANY, inquiry["message_ids"][0]))
        for inquiry in inquiries
        if "buyer" in inquiry
    }
    lines = (FOLDER / "sent.ndjson").read_bytes().splitlines()
    mails: list[Any] = [codec.decode(line, accept=frozenset({MESSAGE_SENT})).data for line in lines]
    hashes = {(recipient, answered) for mail in mails for recipient in mail.recipients for answered in mail.in_reply_to}
    assert len(hashes) == len(mails) and hashes <= wanted


def test_order_and_copies_change_no_byte(printed: bytes, tmp_path: Path) -> None:
    chance = random.Random(20260320)
    for name in ("inquiries.ndjson", "sent.ndjson"):
        lines = (FOLDER / name).read_bytes().splitlines(keepends=True) * 3
        chance.shuffle(lines)
        (tmp_path / name).write_bytes(b"".join(lines))
    for name in ("coverage.ndjson", "hash.key"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    assert replay(tmp_path) == printed
