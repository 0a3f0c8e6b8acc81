"""Keeps a release for the tests of upgrades: `python -m tests.upgrade.make NAME`. Run it when a release is made; never again.

NAME.sql.gz is a database as the release leaves it: the worked example (examples/worked), judged by two rule sets, with its
registry; plain SQL, so that a change can be read. NAME.tar.gz is its compose file and what its images are built from, out of the
commit that is checked out: a clone without history has it all the same.
"""

import gzip
import io
import subprocess
import sys
import tarfile
from pathlib import Path

from services.aggregator.judge import rules
from services.common import migrations
from services.common.postgres import connect
from services.standalone.servers.paths import ROOT
from services.standalone.servers.postgres import EmbeddedPostgres, scratch_folder
from tests.support.worked import load

RULE_SETS = ("default", "first-reply-24h")
CONTENT = (
    ".dockerignore", "docker-compose.yml", "pyproject.toml", "requirements/runtime.txt", "requirements/demo.txt",
    "schemas", "services",
)  # fmt: skip
"""What .dockerignore lets in, and how it was run."""


def main(name: str) -> int:
    """Write tests/upgrade/NAME.sql.gz and NAME.tar.gz, as far as they are missing."""
    makers = {"sql.gz": dump, "tar.gz": code}
    files = {Path(__file__).with_name(f"{name}.{ending}"): make for ending, make in makers.items()}
    missing = {file: make for file, make in files.items() if not file.exists()}
    if not missing:
        print(f"{name} is there; a release is kept once", file=sys.stderr)
        return 1
    for file, make in missing.items():
        file.write_bytes(gzip.compress(make(), mtime=0))
        print(f"{file.name}: {file.stat().st_size:,} bytes")
    return 0


def code() -> bytes:
    """A tar of the checked-out commit."""
    command = ["git", "archive", "--format=tar", "HEAD", *CONTENT]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout


def unpack(name: str, folder: Path) -> Path:
    """Lay the code of a kept release into `folder`."""
    packed = Path(__file__).with_name(f"{name}.tar.gz").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def dump() -> bytes:
    """The database as SQL."""
    with EmbeddedPostgres(scratch_folder("replyrate-upgrade-") / "postgres") as server:
        dsn = server.create_database("replyrate")
        with connect(dsn, "upgrade") as connection:
            migrations.migrate(connection, lambda _: None)
            load(connection, [rules.load_builtin(name) for name in RULE_SETS])
        command = [str(server.binaries / "pg_dump"), "--no-owner", dsn]
        text = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    # Words that only the program which wrote the file understands, and that differ each time.
    lines = [line for line in text.split(b"\n") if not line.startswith((b"\\restrict", b"\\unrestrict"))]
    return b"\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
