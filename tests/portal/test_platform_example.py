"""examples/platform/backend.py against a web process: a seller is registered with an address, gets a link, an inquiry is published, the rate is read."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from services.common.postgres import connect
from services.common.topics import INQUIRIES
from services.standalone.servers.imap import EmbeddedImap
from services.standalone.servers.paths import ROOT
from tests.support.api_lab import new_key
from tests.support.connect_lab import running_fetcher
from tests.support.fetcher_lab import Lab, Server, make_lab
from tests.support.portal_lab import Portal, make_portal, portal, portal_dsn
from tests.support.seeded import seed
from tests.support.topics import kafka_settings, read_all

__all__ = ["make_lab", "make_portal", "portal", "portal_dsn"]

MakeLab = Callable[[Server], Lab]


def backend(portal: Portal, key_file: Path, company_id: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples/platform/backend.py"), portal.origin, "--key-file", str(key_file)]
    return subprocess.run(
        [*command, "--company", company_id, "--account", "main", *options],
        capture_output=True, text=True, timeout=120, check=False, cwd=key_file.parent,
    )  # fmt: skip


def test_the_backend_of_a_platform(
    portal: Portal, make_lab: MakeLab, pymap: EmbeddedImap, dsn: str, topics_gone: str, tmp_path: Path
) -> None:
    lab = make_lab(pymap)
    key_file = tmp_path / "key"
    scopes = ("registry:read", "registry:write", "connect:write", "inquiries:write", "numbers:read")
    key_file.write_text(new_key(dsn, "", scopes).secret + "\n")
    with running_fetcher(lab):
        new = backend(portal, key_file, "shop/1", "--address", "seller@163.com")
    with connect(dsn, "tests") as connection:
        seed(connection)
    measured, again = backend(portal, key_file, "c1"), backend(portal, key_file, "c1")
    another = backend(portal, key_file, "c1", "--wish", "second")
    link_of, again_link, another_link = (
        next(line for line in shown.stdout.splitlines() if line.startswith("Send this link"))
        for shown in (measured, again, another)
    )
    assert link_of == again_link != another_link
    assert measured.returncode == new.returncode == 0, measured.stderr + new.stderr
    assert f"{portal.origin}/" in measured.stdout and "Inquiries published: 1" in measured.stdout
    assert "default, c1, as of" in measured.stdout and " %" in measured.stdout
    assert "idle: no rate because no inquiry was counted" in measured.stdout
    assert "No rate yet" in new.stdout
    assert [record.key for record in read_all(kafka_settings(topics_gone), INQUIRIES)].count(b"shop/1") == 1
    with lab.registry() as registry:
        assert registry.addresses.matches("shop/1", "main", "registered", "seller@163.com")
    key_file.write_text(new_key(dsn, "c1", ("numbers:read",)).secret)
    refused = backend(portal, key_file, "c1")
    assert refused.returncode == 1 and "lacks a scope" in refused.stderr
