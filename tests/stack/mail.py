"""A Dovecot in a container beside the stack, with a certificate that the stack is configured to trust."""

import imaplib
import ssl
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Final

from tests.stack.stack import Stack, run, until

IMAGE: Final = "dovecot/dovecot:2.3.20"
HOST: Final = "dovecot"
PASSWORD: Final = "a-password-of-the-test"
CONFIG: Final = f"""
mail_home = /srv/mail/%Lu
mail_location = maildir:~/Mail
mail_uid = 1000
mail_gid = 1000
first_valid_uid = 1000
protocols = imap
# Without SAVEDATE, for which mail that is put here with an old date would be mail that was filed today.
imap_capability = IMAP4rev1 SASL-IR ID ENABLE IDLE UNSELECT CHILDREN NAMESPACE UIDPLUS LIST-EXTENDED ESEARCH SPECIAL-USE
listen = *
ssl = required
ssl_cert = </tls/server.pem
ssl_key = </tls/server.key
log_path = /dev/stdout
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid=1000 gid=1000 home=/srv/mail/%Lu
}}
namespace {{
  inbox = yes
  separator = /
  mailbox Sent {{
    special_use = \\Sent
    auto = subscribe
  }}
}}
"""


class Dovecot:
    """One server on the stack's network `outside`, as `dovecot`; any user, one password."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.container = ""
        (folder / "tls").mkdir(parents=True)
        (folder / "dovecot.conf").write_text(CONFIG, "utf-8")
        # OpenSSL comes with the image, so this machine needs none.
        run([
            "docker", "run", "--rm", "--user", "0", "--volume", f"{folder}/tls:/tls", "--entrypoint", "openssl", IMAGE,
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=dovecot of the system tests", "-addext", f"subjectAltName=DNS:{HOST},DNS:localhost",
            "-keyout", "/tls/server.key", "-out", "/tls/server.pem",
        ])  # fmt: skip
        (folder / "ca").mkdir()
        (folder / "ca" / "dovecot.pem").write_bytes((folder / "tls" / "server.pem").read_bytes())

    def start(self, stack: Stack) -> None:
        """Start it and wait for its greeting."""
        self.container = run([
            "docker", "run", "--detach", "--label", f"com.docker.compose.project={stack.project}",
            "--network", f"{stack.project}_outside", "--network-alias", HOST, "--publish", "127.0.0.1::993",
            "--volume", f"{self.folder}/dovecot.conf:/etc/dovecot/dovecot.conf:ro",
            "--volume", f"{self.folder}/tls:/tls:ro", IMAGE,
        ]).strip()  # fmt: skip
        until(self._greets, 30, lambda: run(["docker", "logs", self.container]))

    def stop(self) -> None:
        """Remove it with its mail."""
        if self.container:
            run(["docker", "rm", "--force", "--volumes", self.container])
            self.container = ""

    def append(self, user: str, to: str, sent_at: datetime, subject: str = "Re: your inquiry") -> None:
        """Put a message into the Sent folder of `user`, as its mail client would have at `sent_at`."""
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = user, to, subject
        message["Date"] = format_datetime(sent_at)
        message["Message-ID"] = f"<{sent_at.timestamp()}.{to}>"
        message.set_content("Thank you for your inquiry.")
        with self._session() as session:
            session.login(user, PASSWORD)
            kind, answer = session.append("Sent", r"(\Seen)", imaplib.Time2Internaldate(sent_at), message.as_bytes())
            assert kind == "OK", answer

    def _session(self) -> imaplib.IMAP4_SSL:
        port = run(["docker", "port", self.container, "993"]).strip().splitlines()[0].rsplit(":", 1)[1]
        context = ssl.create_default_context(cafile=str(self.folder / "tls" / "server.pem"))
        return imaplib.IMAP4_SSL("localhost", int(port), ssl_context=context, timeout=20)

    def _greets(self) -> bool:
        try:
            self._session().shutdown()
        except (OSError, imaplib.IMAP4.error):
            return False
        return True


def ago(**past: float) -> datetime:
    """An instant in the past, whole seconds: ago(days=10, hours=-2) is two hours after ten days ago."""
    return (datetime.now(UTC) - timedelta(**past)).replace(microsecond=0)


def stamp(at: datetime) -> str:
    """An instant as events write it."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
