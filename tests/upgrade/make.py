"""Dumps a database as this release leaves it: `python -m tests.upgrade.make NAME`. Run it when a release is made; never again.

The worked example (examples/worked), judged by two rule sets, with its registry; plain SQL, so that a change can be read.
"""

import gzip
import subprocess
import sys
from pathlib import Path

from services.aggregator import rules
from services.common import migrations
from services.common.postgres import connect
from services.standalone.postgres import EmbeddedPostgres, scratch_folder
from tests.worked import load

RULE_SETS = ("default", "first-reply-24h")


def main(name: str) -> int:
    """Write tests/upgrade/NAME.sql.gz."""
    file = Path(__file__).with_name(f"{name}.sql.gz")
    if file.exists():
        print(f"{file.name} is there; a release is dumped once", file=sys.stderr)
        return 1
    with EmbeddedPostgres(scratch_folder("replyrate-upgrade-") / "postgres") as server:
        dsn = server.create_database("replyrate")
        with connect(dsn, "upgrade") as connection:
            migrations.migrate(connection, lambda _: None)
            load(connection, [rules.load_builtin(one) for one in RULE_SETS])
        command = [str(server.binaries / "pg_dump"), "--no-owner", dsn]
        text = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    # Words that only the program which wrote the file understands, and that differ each time.
    lines = [line for line in text.split(b"\n") if not line.startswith((b"\\restrict", b"\\unrestrict"))]
    file.write_bytes(gzip.compress(b"\n".join(lines), mtime=0))
    print(f"{file.name}: {file.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
