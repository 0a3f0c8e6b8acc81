"""examples/platform/backend.py against a web process: a seller is registered, gets a link, an inquiry is published, the rate is read."""

import subprocess
import sys
from pathlib import Path

from services.common.postgres import connect
from services.common.topics import INQUIRIES
from services.standalone.servers.paths import ROOT
from tests.support.api_lab import new_key
from tests.support.portal_lab import Portal, make_portal, portal, portal_dsn
from tests.support.seeded import seed
from tests.support.topics import create_topics, kafka_settings, read_all

__all__ = ["make_portal", "portal", "portal_dsn"]


def backend(portal: Portal, key_file: Path, company_id: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples/platform/backend.py"), portal.origin, "--key-file", str(key_file)]
    return subprocess.run(
        [*command, "--company", company_id, "--account", "main"],
        capture_output=True, text=True, timeout=120, check=False, cwd=key_file.parent,
    )  # fmt: skip


def test_the_backend_of_a_platform(portal: Portal, dsn: str, topics_gone: str, tmp_path: Path) -> None:
    create_topics(kafka_settings(topics_gone))
    with connect(dsn, "tests") as connection:
        seed(connection)
    key_file = tmp_path / "key"
    scopes = ("registry:write", "connect:write", "inquiries:write", "numbers:read")
    key_file.write_text(new_key(dsn, "", scopes).secret + "\n")
    measured, new = backend(portal, key_file, "c1"), backend(portal, key_file, "shop/1")
    assert measured.returncode == new.returncode == 0, measured.stderr + new.stderr
    assert f"{portal.origin}/" in measured.stdout and "Inquiries published: 1" in measured.stdout
    assert "default, c1, as of" in measured.stdout and " %" in measured.stdout
    assert "idle: no rate because no inquiry was counted" in measured.stdout
    assert "No rate yet" in new.stdout
    assert [record.key for record in read_all(kafka_settings(topics_gone), INQUIRIES)].count(b"shop/1") == 1
    key_file.write_text(new_key(dsn, "c1", ("numbers:read",)).secret)
    refused = backend(portal, key_file, "c1")
    assert refused.returncode == 1 and "lacks a scope" in refused.stderr
