"""Real IMAP servers of other projects, each on loopback with TLS, one user and an empty Sent folder.

`.ci/install-mail-servers` installs them below `.cache/mail-servers`: Debian's servers in a root file system of their own (their
packages exclude each other), the others from Maven, npm and the Go module proxy. Each class writes its configuration, starts one
process, and answers what the tests need to know: port, user, password, the name of the Sent folder.
"""

import imaplib
import shutil
import ssl
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.child import LOOPBACK, Child, await_answer, free_port
from services.standalone.servers.imap import answers_greeting
from services.standalone.servers.paths import cache_folder

PASSWORD = "Secret-1-canary"
HERE = Path(__file__).parent
START_SECONDS = 60
# A Debian root file system needs its own /proc; the mount namespace ends with the process.
IN_ROOT = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'


def installed(name: str) -> Path:
    """Where `.ci/install-mail-servers NAME` installs; RuntimeError with the command if it is missing."""
    folder = cache_folder() / "mail-servers" / name
    if not (folder / "ready").exists():
        raise RuntimeError(f"{name} is not installed: run `.ci/install-mail-servers {name}` as root")
    return folder


def is_installed(name: str) -> bool:
    """Whether `.ci/install-mail-servers NAME` has run."""
    return (cache_folder() / "mail-servers" / name / "ready").exists()


class MailServer:
    """One IMAP server with an empty Sent folder; a context manager. Mail survives `kill` and `start` where `keeps_mail`."""

    name: ClassVar[str]
    version: ClassVar[str]
    user = "seller"
    password = PASSWORD
    sent_folder = "Sent"
    keeps_mail = True
    """Whether mail is still there after the process was killed."""

    def __init__(self, data_dir: Path, ca: CertificateAuthority) -> None:
        self.data_dir = data_dir.absolute()
        self.ca_file = ca.ca_file
        self.port = free_port()
        self._certificate = ca.issue(self.name)
        self._child: Child | None = None

    def prepare(self) -> None:
        """Write configuration and users; mail that was there is gone."""

    def command(self) -> Sequence[str]:
        """The process that serves."""
        raise NotImplementedError

    has_sent_folder = False
    """Whether the Sent folder is there when the server starts."""
    is_optional = False
    """Whether a run without this server is complete: it takes minutes to install."""
    deletes_folders = True
    """Whether DELETE removes the Sent folder, so that it can be created again with another UIDVALIDITY or new UIDs."""

    def create_sent_folder(self) -> None:
        """Make the empty Sent folder."""
        with self.session() as client:
            expect_ok(client.create(self.sent_folder))

    def start(self) -> None:
        """Start and wait for a greeting over verified TLS."""
        self._child = Child(
            self.name, self.command(), self.data_dir / f"{self.name}.log", cwd=self.data_dir, grace_seconds=5
        )
        await_answer(self._child, lambda: answers_greeting(LOOPBACK, self.port, self.ca_file), START_SECONDS)

    def stop(self) -> None:
        """End the process in an orderly way."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """SIGKILL, as a power failure."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def session(self) -> imaplib.IMAP4_SSL:
        """A logged-in client that shares no code with the product."""
        context = ssl.create_default_context(cafile=self.ca_file)
        client = imaplib.IMAP4_SSL("localhost", self.port, ssl_context=context, timeout=30)
        client.login(self.user, self.password)
        return client

    def append(self, message: bytes, filed_at: datetime, flags: str = "") -> bool:
        """File a message in the Sent folder; whether the server took it."""
        return self.append_all([(message, filed_at, flags)]) == [True]

    def append_all(self, messages: Sequence[tuple[bytes, datetime, str]]) -> list[bool]:
        """File messages (bytes, time, flags) in one session; which of them the server took."""
        with self.session() as client:
            return [self._take(client, message, filed_at, flags) for message, filed_at, flags in messages]

    def _take(self, client: imaplib.IMAP4_SSL, message: bytes, filed_at: datetime, flags: str) -> bool:
        """File one message; without its flags when the server does not know them."""
        for accepted_flags in (flags, ""):
            try:
                answer = client.append(
                    quoted(self.sent_folder), accepted_flags, imaplib.Time2Internaldate(filed_at), message
                )
            except imaplib.IMAP4.abort:
                raise
            except imaplib.IMAP4.error:
                continue
            return answer[0] == "OK"
        return False

    def __enter__(self) -> "MailServer":
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.prepare()
        self.start()
        try:
            if not self.has_sent_folder:
                self.create_sent_folder()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()


class DebianServer(MailServer):
    """A server of Debian in its own root file system; nothing outside of it changes."""

    def __init__(self, data_dir: Path, ca: CertificateAuthority) -> None:
        super().__init__(data_dir, ca)
        self.root = installed(self.name)

    def inside(self, *command: str) -> list[str]:
        """The command line that runs `command` in the server's file system."""
        return ["unshare", "--mount", "sh", "-c", IN_ROOT, str(self.root), *command]

    def run(self, *command: str, text: str | None = None) -> None:
        """Run a command there and wait."""
        done = subprocess.run(
            self.inside(*command), input=text, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {done.stdout}{done.stderr}")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file there."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
        target.chmod(mode)

    def write_certificate(self, path: str, owner: str) -> None:
        """Write certificate and key into one PEM file that `owner` (user:group there) can read."""
        text = self._certificate.certificate.read_text("ascii") + self._certificate.key.read_text("ascii")
        self.write(path, text, 0o600)
        self.run("chown", owner, path)

    def empty(self, path: str, owner: str, mode: str = "755") -> None:
        """Make an empty folder there."""
        shutil.rmtree(self.root / path.lstrip("/"), ignore_errors=True)
        self.run("install", "-d", "-o", owner.partition(":")[0], "-g", owner.partition(":")[2], "-m", mode, path)


class Cyrus(DebianServer):
    """Cyrus IMAP: personal folders below INBOX, SAVEDATE, special-use."""

    name = "cyrus"
    version = "3.6.1"
    sent_folder = "INBOX.Sent"

    def prepare(self) -> None:
        for path in (
            "/var/lib/cyrus",
            "/var/spool/cyrus/mail",
            "/run/cyrus",
            "/run/cyrus/proc",
            "/run/cyrus/lock",
            "/run/cyrus/socket",
        ):
            self.empty(path, "cyrus:mail", "750")
        for folder in ("db", "socket", "log", "msg", "proc", "quota", "user", "sieve"):
            self.empty(f"/var/lib/cyrus/{folder}", "cyrus:mail", "750")
        self.write_certificate("/etc/cyrus.pem", "cyrus:mail")
        self.write("/etc/imapd.conf", (HERE / "configuration" / "cyrus-imapd.conf").read_text("utf-8"))
        self.write(
            "/etc/cyrus.conf",
            (HERE / "configuration" / "cyrus.conf").read_text("utf-8").replace("PORT", str(self.port)),
        )
        (self.root / "etc/sasldb2").unlink(missing_ok=True)
        for user in (self.user, "cyrus"):
            self.run("saslpasswd2", "-c", "-p", user, text=self.password)
        self.run("chown", "cyrus:sasl", "/etc/sasldb2")

    def command(self) -> Sequence[str]:
        return self.inside("/usr/lib/cyrus/bin/master", "-D")

    def create_sent_folder(self) -> None:
        context = ssl.create_default_context(cafile=self.ca_file)
        with imaplib.IMAP4_SSL("localhost", self.port, ssl_context=context, timeout=30) as admin:
            admin.login("cyrus", self.password)
            admin.create(f"user.{self.user}")  # refused when the user is there
        with self.session() as client:
            imaplib.Commands.setdefault("CREATE", ("AUTH", "SELECTED"))
            expect_ok(client._simple_command("CREATE", '"INBOX.Sent" (USE (\\Sent))'))


class Courier(DebianServer):
    """Courier IMAP: folders below INBOX, no special-use, no UIDNEXT in EXAMINE."""

    name = "courier"
    version = "5.0.13"
    sent_folder = "INBOX.Sent"

    def prepare(self) -> None:
        self.write_certificate("/etc/courier/imapd.pem", "courier:courier")
        self.empty("/home/seller", "courier:courier", "700")
        self.run("sh", "-c", "cd /home/seller && maildirmake Maildir && chown -R courier:courier Maildir")
        uid, gid = subprocess.run(
            self.inside("sh", "-c", "id -u courier; id -g courier"),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.split()
        self.write(
            "/etc/courier/authdaemonrc",
            'authmodulelist="authuserdb"\ndaemons=3\nauthdaemonvar=/run/courier/authdaemon\n',
        )
        for name in ("userdb", "userdb.dat", "userdbshadow.dat"):
            (self.root / "etc" / "courier" / name).unlink(missing_ok=True)
        self.write("/etc/courier/userdb", "", 0o600)
        self.run(
            "sh", "-c",
            f"umask 077; userdb seller set uid={uid} gid={gid} home=/home/seller mail=/home/seller/Maildir"
            f" && echo '{self.password}' | userdbpw | userdb seller set systempw && makeuserdb",
        )  # fmt: skip

    def command(self) -> Sequence[str]:
        serve = (
            "install -d -o courier -g courier -m 755 /run/courier /run/courier/authdaemon; authdaemond start;"
            " set -a; . /etc/courier/imapd; . /etc/courier/imapd-ssl; TLS_CERTFILE=/etc/courier/imapd.pem; TLS_VERIFYPEER=NONE;"
            " MAXPERIP=100; IMAP_TLS=1; unset TLS_TRUSTCERTS;"
            f" exec couriertcpd -address=127.0.0.1 -maxprocs=100 -maxperip=100 -nodnslookup -noidentlookup {self.port}"
            " /usr/bin/couriertls -server -tcpd -user=courier /usr/lib/courier/courier/imaplogin /usr/bin/imapd Maildir"
        )
        return self.inside("sh", "-c", serve)

    def stop(self) -> None:
        super().stop()
        subprocess.run(self.inside("authdaemond", "stop"), capture_output=True, timeout=60, check=False)


class Mailutils(DebianServer):
    """GNU Mailutils imap4d: mbox files, finds nothing for `UID SEARCH UID n:*`, reports no INTERNALDATE."""

    name = "mailutils"
    version = "3.15"

    def prepare(self) -> None:
        self.write_certificate("/etc/mailutils.pem", "root:root")
        self.write(
            "/etc/mailutils.conf",
            (HERE / "configuration" / "mailutils.conf").read_text("utf-8").replace("PORT", str(self.port)),
        )
        self.write("/etc/pam.d/mailutils", "auth required pam_unix.so\naccount required pam_unix.so\n")
        self.run("sh", "-c", "id seller >/dev/null 2>&1 || useradd --create-home seller")
        self.run("chpasswd", text=f"seller:{self.password}\n")
        self.empty("/home/seller", "seller:seller", "700")
        self.run("sh", "-c", "rm -f /var/mail/seller; install -o seller -g mail -m 660 /dev/null /var/mail/seller")

    def command(self) -> Sequence[str]:
        return self.inside("/usr/sbin/imap4d", "--config-file=/etc/mailutils.conf", "--foreground", "--daemon=60")


class GreenMail(MailServer):
    """GreenMail: an in-memory server of the Java world."""

    name = "greenmail"
    version = "2.1.7"
    keeps_mail = False
    deletes_folders = False  # DELETE ends the session and empties the folder

    def prepare(self) -> None:
        subprocess.run(
            ["openssl", "pkcs12", "-export", "-in", self._certificate.certificate, "-inkey", self._certificate.key,
             "-name", "greenmail", "-passout", "pass:changeit", "-out", self.data_dir / "greenmail.p12"],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip

    def command(self) -> Sequence[str]:
        return [
            "java", "-Xmx256m", f"-Dgreenmail.imaps.hostname={LOOPBACK}", f"-Dgreenmail.imaps.port={self.port}",
            f"-Dgreenmail.users={self.user}:{self.password}@mail.example",
            f"-Dgreenmail.tls.keystore.file={self.data_dir / 'greenmail.p12'}", "-Dgreenmail.tls.keystore.password=changeit",
            "-jar", str(installed(self.name) / "greenmail-standalone.jar"),
        ]  # fmt: skip


class Hoodiecrow(MailServer):
    """hoodiecrow: an in-memory server of the Node world that sends empty header literals."""

    name = "hoodiecrow"
    version = "2.1.0"
    keeps_mail = False
    has_sent_folder = True

    def command(self) -> Sequence[str]:
        script = HERE / "configuration" / "hoodiecrow.js"
        certificate = self._certificate
        return [
            "node", str(script), str(installed(self.name)), str(self.port), str(certificate.certificate),
            str(certificate.key), self.user, self.password,
        ]  # fmt: skip


class GoImap(MailServer):
    """imapserver of go-imap v2 with its in-memory store."""

    name = "goimap"
    version = "2.0.0-beta.8"
    keeps_mail = False

    def command(self) -> Sequence[str]:
        certificate = self._certificate
        return [
            str(installed("goimap") / "imapmem"), f"{LOOPBACK}:{self.port}", str(certificate.certificate),
            str(certificate.key), self.user, self.password,
        ]  # fmt: skip


class Maddy(MailServer):
    """maddy: a Go mail server with its mail in SQLite."""

    name = "maddy"
    version = "0.8.1"
    is_optional = True  # compiles SQLite
    user = "seller@mail.example"

    def prepare(self) -> None:
        certificate = self._certificate
        text = (HERE / "configuration" / "maddy.conf").read_text("utf-8")
        for word, value in {
            "STATE": self.data_dir, "CERTIFICATE": certificate.certificate, "KEY": certificate.key, "PORT": self.port,
        }.items():  # fmt: skip
            text = text.replace(word, str(value))
        (self.data_dir / "maddy.conf").write_text(text, "utf-8")
        (self.data_dir / "state").mkdir(exist_ok=True)
        (self.data_dir / "run").mkdir(exist_ok=True)
        for command in (
            ["creds", "create", "--password", self.password, self.user],
            ["imap-acct", "create", "--no-specialuse", self.user],
        ):
            subprocess.run(
                [installed("maddy") / "maddy", "--config", self.data_dir / "maddy.conf", *command],
                cwd=self.data_dir, check=True, capture_output=True, timeout=60,
            )  # fmt: skip

    def command(self) -> Sequence[str]:
        return [str(installed("maddy") / "maddy"), "--config", str(self.data_dir / "maddy.conf"), "run"]


SERVERS: Sequence[type[MailServer]] = (Cyrus, Courier, Mailutils, GreenMail, Hoodiecrow, GoImap, Maddy)


def quoted(name: str) -> str:
    """A folder name as an IMAP quoted string."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def expect_ok(answer: tuple[str, object]) -> None:
    """RuntimeError unless a command of imaplib was answered with OK."""
    if answer[0] != "OK":
        raise RuntimeError(f"the server answers {answer}")


__all__ = ["SERVERS", "MailServer", "expect_ok", "quoted"]
