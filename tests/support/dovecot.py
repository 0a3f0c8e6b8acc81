"""A private Dovecot on loopback: the reference for UIDVALIDITY, \\Sent, SAVEDATE, kill and restart.

Dovecot is a Debian package (dovecot-imapd), not a wheel; `.ci/run` installs it. Every instance has its own folder,
port, users and TLS certificate, and nothing of the system's configuration.
"""

import os
import pwd
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType

from services.standalone.servers.ca import LOOPBACK_NAMES, CertificateAuthority
from services.standalone.servers.child import LOOPBACK, Child, await_answer, free_port
from services.standalone.servers.imap import MailClient, answers_greeting

INSTALL = "Dovecot is missing: run `apt-get install --yes --no-install-recommends dovecot-imapd`"

CONFIGURATION = """\
protocols = imap
listen = {host}
base_dir = {base}/run
state_dir = {base}/state
log_path = /dev/stderr
ssl = required
ssl_cert = <{certificate}
ssl_key = <{key}
ssl_min_protocol = TLSv1.2
disable_plaintext_auth = yes
mail_location = maildir:{base}/mail/%u:LAYOUT=fs
mailbox_list_index = no
mail_max_userip_connections = 100
mail_fsync = never
first_valid_uid = 1
default_login_user = {login_user}
default_internal_user = {internal_user}
default_internal_group = {internal_group}
{capability}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Sent {{
    auto = create
    special_use = \\Sent
  }}
  mailbox Drafts {{
    auto = create
    special_use = \\Drafts
  }}
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {base}/users
}}
userdb {{
  driver = static
  args = uid={mail_uid} gid={mail_gid} home={base}/mail/%u
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = {host}
    port = {starttls_port}
    ssl = no
  }}
  inet_listener imaps {{
    address = {host}
    port = {port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""

SHARED = """
mail_plugins = $mail_plugins acl
protocol imap {{
  mail_plugins = $mail_plugins imap_acl
}}
plugin {{
  acl = vfile
  acl_shared_dict = file:{base}/mail/shared.db
}}
namespace shared {{
  type = shared
  separator = /
  prefix = {prefix}/%%u/
  location = maildir:{base}/mail/%%u:LAYOUT=fs
  subscriptions = no
  list = yes
  hidden = {hidden}
}}
"""
"""Folders that users share with each other (SETACL) are listed below `prefix`."""

WITHOUT_SAVEDATE = (
    "imap_capability = IMAP4rev1 SASL-IR ID ENABLE IDLE UNSELECT CHILDREN NAMESPACE UIDPLUS LIST-EXTENDED ESEARCH "
    "SPECIAL-USE LITERAL+ MOVE"
)


class Dovecot:
    """One instance on `127.0.0.1:port`; a context manager. Mail survives `stop`, `kill` and `start`."""

    host = LOOPBACK
    names: tuple[str, ...] = LOOPBACK_NAMES
    """The names in its certificate."""
    listens = LOOPBACK

    def __init__(
        self,
        data_dir: Path,
        users: Mapping[str, str],
        ca: CertificateAuthority,
        *,
        savedate: bool = True,
        shared_below: str = "",
        hidden: bool = False,
    ) -> None:
        """`shared_below`: where folders are listed that users share, `hidden`: NAMESPACE does not tell; "": nothing is shared."""
        self.data_dir = data_dir.absolute()
        self.users = dict(users)
        self.ca_file = ca.ca_file
        self.port = free_port()
        self.starttls_port = free_port()
        """Port that starts without TLS and offers STARTTLS; nobody may log in there before TLS."""
        self._ca = ca
        self._savedate = savedate
        self._shared_below = shared_below
        self._hidden = "yes" if hidden else "no"
        self._child: Child | None = None
        self._client: MailClient | None = None

    @property
    def pid(self) -> int | None:
        """The master's process id while it runs."""
        return None if self._child is None else self._child.pid

    def start(self) -> None:
        """Write the configuration, start, wait for a greeting over verified TLS."""
        program = shutil.which("dovecot") or shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise RuntimeError(INSTALL)
        self._write_configuration()
        command = [program, "-F", "-c", str(self.data_dir / "dovecot.conf")]
        self._child = Child("Dovecot", command, self.data_dir / "dovecot.log", cwd=self.data_dir, grace_seconds=5)
        try:
            await_answer(self._child, lambda: answers_greeting(self.host, self.port, self.ca_file), 20)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; does nothing if it is not running."""
        self.close_client()
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """SIGKILL, also for its children."""
        self.close_client()
        if self._child is not None:
            self._child.kill()
            self._child = None

    def restart(self) -> None:
        """Stop and start: the same mail on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP to the whole process group, so that connections hang."""
        assert self._child is not None
        os.killpg(self._child.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        assert self._child is not None
        os.killpg(self._child.pid, signal.SIGCONT)

    def reset_uidvalidity(self, user: str, folder: str = "Sent") -> None:
        """Drop the UIDs: the mail of the folder stays, under a new UIDVALIDITY. Call while stopped."""
        place = self.data_dir / "mail" / user / folder
        for file in list(place.glob("dovecot*")) + list((self.data_dir / "mail" / user).glob("dovecot-uidvalidity*")):
            file.unlink()

    @property
    def client(self) -> MailClient:
        """A mail client with one session per user."""
        if self._client is None:
            self._client = MailClient(self.host, self.port, self.ca_file, self.users)
        return self._client

    def close_client(self) -> None:
        """Log the mail client out."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def append(self, user: str, folder: str, message: bytes, internal_date: datetime) -> None:
        """Store one message in a user's folder, with the date that the server is to report."""
        self.client.append(user, folder, message, internal_date)

    def deliver(self, user: str, folder: str, name: str, message: bytes, internal_date: datetime) -> None:
        """Store one message as the maildir file `name`, without a session: what Dovecot next sees of the folder."""
        place = self.data_dir / "mail" / user / folder
        paths = [place.parent, place, *(place / kind for kind in ("cur", "new", "tmp"))]
        for path in paths:
            path.mkdir(parents=True, exist_ok=True)
        file = place / "tmp" / f"{int(internal_date.timestamp())}.{name}.replyrate:2,S"
        file.write_bytes(message)
        os.utime(file, (internal_date.timestamp(), internal_date.timestamp()))
        if os.geteuid() == 0:
            owner = pwd.getpwnam("nobody")
            for path in (*paths, file):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        file.rename(place / "cur" / file.name)

    @contextmanager
    def password_changed(self, user: str) -> Iterator[None]:
        """Another password for a user; the password that the tests know is refused meanwhile."""
        self._write_users(self.users | {user: "changed"})
        yield
        self._write_users(self.users)

    def _write_users(self, users: Mapping[str, str]) -> None:
        file = self.data_dir / "users"
        file.write_text("".join(f"{name}:{{PLAIN}}{password}\n" for name, password in users.items()), "utf-8")
        file.chmod(0o644)

    def _write_configuration(self) -> None:
        root = os.geteuid() == 0
        me = pwd.getpwuid(os.geteuid())
        mail = pwd.getpwnam("nobody") if root else me
        for folder in ("run", "state", "mail"):
            (self.data_dir / folder).mkdir(parents=True, exist_ok=True)
        if root:
            self.data_dir.chmod(0o755)
            os.chown(self.data_dir / "mail", mail.pw_uid, mail.pw_gid)
        files = self._ca.issue(f"dovecot-{self.port}", self.names)
        self._write_users(self.users)
        configuration = CONFIGURATION.format(
            host=self.listens, port=self.port, starttls_port=self.starttls_port, base=self.data_dir, certificate=files.certificate, key=files.key,
            login_user="dovenull" if root else me.pw_name, internal_user="dovecot" if root else me.pw_name,
            internal_group="dovecot" if root else me.pw_gid, mail_uid=mail.pw_uid, mail_gid=mail.pw_gid,
            capability="" if self._savedate else WITHOUT_SAVEDATE,
        )  # fmt: skip
        if self._shared_below:
            configuration += SHARED.format(base=self.data_dir, prefix=self._shared_below, hidden=self._hidden)
        (self.data_dir / "dovecot.conf").write_text(configuration, "utf-8")

    def __enter__(self) -> "Dovecot":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
