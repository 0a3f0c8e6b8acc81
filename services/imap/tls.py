"""TLS contexts that verify: the system's authorities, and the operator's beside them."""

import ssl
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from services.common.errors import ConfigError


def tls_context(ca_file: Path | None, *, setting: str = "REPLYRATE_IMAP__CA_FILE") -> ssl.SSLContext:
    """Verified TLS, 1.2 or later. `ca_file`: a PEM file, or a folder of *.pem files, trusted beside the system's authorities.

    Built again only when a file changed, so call it before every connection. ConfigError, with the name of `setting`, when
    a file cannot be read or holds no certificate.
    """
    files: Sequence[Path] = ()
    if ca_file is not None:
        files = sorted(ca_file.glob("*.pem")) if ca_file.is_dir() else (ca_file,)
    try:
        return _tls_context(tuple((file, file.stat().st_mtime_ns) for file in files))
    except OSError as error:
        raise ConfigError(
            f"{setting}: {(error.strerror or 'no certificate in it').lower()};"
            " write the path of a PEM file, or of a folder with *.pem files"
        ) from None


@lru_cache(maxsize=4)
def _tls_context(files: tuple[tuple[Path, int], ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for file, _ in files:
        context.load_verify_locations(file)
    return context
