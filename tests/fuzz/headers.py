"""`make fuzz`: randomly mutated headers are parsed, classified and encoded; every event must be valid and hold no plain text.

`python -m tests.fuzz.headers --seconds 300 --seed 1`. A failure is printed with the seed and the bytes, and the exit code is 1.
"""

import argparse
import random
import sys
import time
from datetime import UTC, datetime, timedelta

from services.common import codec
from services.common.events import MESSAGE_SENT
from services.common.hashing import Hasher
from services.mail import messages
from services.mail.headers import MAX_BYTES, Skipped
from services.mail.values import FetchedHeader

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CANARY = "canary-9f3b"
"""In every address, name, id and subject of the corpus; no event may hold it."""
CORPUS = [
    f"Message-ID: <{CANARY}.1@mail.test>\r\nIn-Reply-To: <{CANARY}.0@shop.test>\r\nReferences: <{CANARY}.0@shop.test>\r\n"
    f"Date: Fri, 20 Nov 2026 11:59:30 +0000\r\nFrom: {CANARY} <{CANARY}@mail.test>\r\nTo: Buyer <{CANARY}-b@buyer.test>\r\n"
    f"Subject: Re: {CANARY}\r\nContent-Type: text/plain\r\n\r\n".encode(),
    f'From: "{CANARY}, Ltd." <{CANARY}@mail.test>\r\nTo: (comment {CANARY}) {CANARY}@b.test, =?utf-8?B?5LiJ?= <c@{CANARY}.test>\r\n'
    f"Cc: group:{CANARY}@x.test,{CANARY}@y.test;\r\nSubject: =?gb18030?B?suLK1A==?= {CANARY}\r\nAuto-Submitted: auto-replied\r\n"
    f"Date: 20 Nov 26 19:59 +0800\r\n\r\n".encode(),
    b"Subject: \xd7\xd4\xb6\xaf\xbb\xd8\xb8\xb4\r\nTo: <"
    + CANARY.encode()
    + b"@b.test>\r\nPrecedence: bulk\r\nList-Id: x\r\n\r\n",
    f"Message-ID: {CANARY}\r\nReferences: {' '.join(f'<{CANARY}.{n}@s.test>' for n in range(40))}\r\n\r\n".encode(),
]
PIECES = [
    b"\r\n", b"\r", b"\n", b"\r\n ", b"\0", b"<", b">", b"@", b",", b";", b":", b'"', b"\\", b"(", b")", b"=?utf-8?Q?", b"?=",
    b"=?x-unknown?B?////?=", b"\xff\xfe", b"\xe4\xb8\x89", b"\xc3\x28", b" " * 300, b"(" * 300, b"<" * 300, b"A" * 3000,
    b"Message-ID: ", b"To: ", b"References: ", b"Date: Mon, 99 Foo 99999 99:99:99 +9999", b"Date: ", b"-" * 40,
]  # fmt: skip


def mutated(chance: random.Random) -> bytes:
    """A header of the corpus after some random mutations."""
    raw = bytearray(chance.choice(CORPUS))
    for _ in range(chance.randint(1, 12)):
        at = chance.randint(0, len(raw))
        match chance.randrange(6):
            case 0:
                raw[at:at] = chance.choice(PIECES)
            case 1:
                del raw[at : at + chance.randint(1, 40)]
            case 2:
                raw[at : at + 1] = bytes([chance.randrange(256)])
            case 3:
                donor = chance.choice(CORPUS)
                raw[at:at] = donor[chance.randrange(len(donor)) :]
            case 4:
                raw[at:at] = raw[max(0, at - 60) : at] * chance.randint(1, 20)
            case _:
                raw[at:at] = chance.randbytes(chance.randint(1, 30))
    return bytes(raw[: MAX_BYTES + 100])


def check(raw: bytes, chance: random.Random) -> str:
    """Take one header all the way to an event; returns its kind, or `skipped`. AssertionError when something is wrong."""
    hasher = Hasher(bytes(32))
    internal = chance.choice([None, NOW, NOW - timedelta(days=400), datetime(1999, 1, 1, tzinfo=UTC)])
    fetched = FetchedHeader(
        uid=1, header=raw, size=len(raw), internal_date=internal, save_date=None, draft=False
    )  # fmt: skip
    read = messages.parse_message("c1", fetched, hasher)
    if isinstance(read, Skipped):
        return "skipped"
    after = chance.choice([None, NOW - timedelta(minutes=10), NOW - timedelta(days=3)])
    event, _ = messages.event("c1", "a", "m1", read, hasher, after=after, first_seen=NOW)
    record = codec.encode(event, id=event.message_id, source="replyrate/fetcher/m1", time=NOW)
    assert codec.decode(record, accept=frozenset({MESSAGE_SENT})).data == event
    assert CANARY.encode() not in record
    again = messages.parse_message("c1", fetched, hasher)
    assert not isinstance(again, Skipped) and again.message_id == read.message_id
    return event.kind


def run(seed: int, seconds: float, out: bool = True) -> dict[str, int]:
    """Check as many headers as the time allows; the number of each kind."""
    chance = random.Random(seed)
    kinds: dict[str, int] = {}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        raw = mutated(chance)
        try:
            kind = check(raw, chance)
        except Exception:
            if out:
                print(f"seed {seed}, after {sum(kinds.values())}: {raw!r}", file=sys.stderr)
            raise
        kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def main() -> int:
    """Fuzz and print the totals."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    kinds = run(options.seed, options.seconds)
    print(f"seed {options.seed}: {sum(kinds.values()):,} headers, no failure; {dict(sorted(kinds.items()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
