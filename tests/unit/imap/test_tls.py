"""TLS contexts trust the system and the operator."""

from pathlib import Path

import pytest

from services.common.errors import ConfigError
from services.imap.tls import tls_context
from services.standalone.servers.ca import CertificateAuthority


def test_authorities_come_from_a_file_or_a_folder_and_are_reloaded_when_they_change(tmp_path: Path) -> None:
    folder = tmp_path / "authorities"
    folder.mkdir()
    before = tls_context(folder)
    assert tls_context(folder) is before
    first = CertificateAuthority(tmp_path / "a")
    (folder / "a.pem").write_bytes(first.ca_file.read_bytes())
    (folder / "notes.txt").write_text("no certificate", "utf-8")
    after = tls_context(folder)
    assert after.cert_store_stats()["x509_ca"] == before.cert_store_stats()["x509_ca"] + 1
    assert tls_context(first.ca_file).cert_store_stats() == after.cert_store_stats()
    (folder / "b.pem").write_text("no certificate", "utf-8")
    for wrong in (folder, tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match="IMAP__CA_FILE"):
            tls_context(wrong)
