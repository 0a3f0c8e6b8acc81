"""A stack of docker-compose.yml as an operator has one: the file unchanged, settings and secrets in a folder of its own.

These tests use what is published (the compose file, the command, the topics' events, the views). Except for a free
port, the fault runs and the earlier release, they import nothing of ours.
"""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from services.standalone.servers.child import free_port

ROOT: Final = Path(__file__).parents[2]
SERVICES: Final = ("fetcher", "matcher", "aggregator")
"""What facts pass through, from mail to rate."""
PORTAL: Final = "portal"
CONSOLE: Final = "console"
WEB: Final = (PORTAL, CONSOLE)
"""What people open in a browser; both run from the image of the portal."""
WAIT_SECONDS: Final = 600


class Stack:
    """One project of Compose. `down` removes everything it made."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.project = f"replyrate-test-{secrets.token_hex(3)}"
        names = ("POSTGRES_PORT", "KAFKA_PORT", "PORTAL_PORT", "CONSOLE_PORT")
        self.ports = {name: free_port() for name in names}
        folder.mkdir(parents=True, exist_ok=True)
        lines = {**{name: str(port) for name, port in self.ports.items()}, **(settings or {})}
        (folder / ".env").write_text("".join(f"{name}={text}\n" for name, text in lines.items()), "utf-8")

    def files(self) -> list[Path]:
        """The compose files."""
        return [ROOT / "docker-compose.yml"]

    def make_secrets(self) -> str:
        """Run `make secrets`; returns its output."""
        return run([str(ROOT / "deploy" / "secrets"), str(self.folder)])

    def compose(
        self, *arguments: str, seconds: float = WAIT_SECONDS, check: bool = True, text: str | None = None
    ) -> str:
        """`docker compose ARGUMENTS`; its standard output. With `check` a failure fails the test and shows the logs."""
        done = self.composed(*arguments, seconds=seconds, text=text)
        if check and done.returncode != 0:
            logs = "\n".join(
                f"== {service}\n{self.logs(service, 15)}" for service in ("init", *SERVICES, *WEB, "kafka")
            )
            raise AssertionError(
                f"docker compose {arguments} ended with {done.returncode}:\n{done.stderr[-3000:]}\n{logs}"
            )
        return done.stdout

    def composed(
        self, *arguments: str, seconds: float = WAIT_SECONDS, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`docker compose ARGUMENTS`, however it ends."""
        command = [
            "docker", "compose", *(part for file in self.files() for part in ("--file", str(file))),
            "--project-directory", str(self.folder), "--project-name", self.project, "--progress", "quiet", *arguments,
        ]  # fmt: skip
        return subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False, input=text, env=clean_environment()
        )

    def up(self, *arguments: str, profile: str | None = None, seconds: float = WAIT_SECONDS) -> None:
        """`docker compose up --wait` with the images that are here."""
        before = ("--profile", profile) if profile else ()
        self.compose(*before, "up", "--detach", "--wait", "--no-build", "--pull", "never", *arguments, seconds=seconds)

    def replyrate(self, *arguments: str, text: str | None = None, volume: str | None = None) -> str:
        """`docker compose run --rm replyrate ARGUMENTS`, the command line of the stack."""
        mounts = ("--volume", volume) if volume else ()
        return self.compose("run", "--rm", "-T", *mounts, "replyrate", *arguments, text=text)

    def containers(self, service: str) -> list[str]:
        """Ids of a service's containers, the stopped ones too."""
        return self.compose("ps", "--all", "--quiet", service).split()

    def inspect(self, container: str) -> dict[str, Any]:
        """What Docker knows about a container."""
        details: list[dict[str, Any]] = json.loads(run(["docker", "inspect", container]))
        return details[0]

    def logs(self, service: str, lines: int = 1000) -> str:
        """The end of a service's log."""
        done = self.composed("logs", "--no-color", "--no-log-prefix", "--tail", str(lines), service)
        return done.stdout

    def logged(self, service: str, action: str) -> list[dict[str, Any]]:
        """The log lines of a service with one action."""
        return [
            line for text in self.logs(service, 5000).splitlines() if (line := as_json(text)).get("action") == action
        ]

    def kill_process(self, container: str, user: str | None = None) -> None:
        """SIGKILL for the process that the container's init started: a crash, not a stop by Docker.

        `user`: whose process it is, when not that of the container's own user (without CAP_KILL root may not either).
        """
        script = (
            "for p in /proc/[0-9]*; do"
            " if grep -qs '^PPid:[[:space:]]*1$' $p/status; then kill -9 ${p#/proc/} && exit 0; fi; done; exit 1"
        )
        as_user = ("--user", user) if user else ()
        done = subprocess.run(
            ["docker", "exec", *as_user, container, "sh", "-c", script], capture_output=True, text=True, check=False
        )
        # 137: the container was gone before the shell could say so.
        assert done.returncode in (0, 137), done.stderr

    def healthy(self, service: str) -> bool:
        """Whether every container of a service is up and healthy."""
        states = [self.inspect(container)["State"] for container in self.containers(service)]
        return bool(states) and all(state.get("Health", {}).get("Status") == "healthy" for state in states)

    def metric(self, container: str, name: str) -> float:
        """The sum of a metric's samples on the page of one container."""
        script = "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8080, timeout=5); c.request('GET', '/metrics'); print(c.getresponse().read().decode())"
        page = run(["docker", "exec", container, "python", "-c", script])
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.split("{")[0].split(" ")[0] == name
        )

    def dsn(self, login: str = "dashboard") -> str:
        """The database as one of its logins reaches it from this machine."""
        password = (self.folder / "secrets" / f"postgres-{login}.password").read_text("utf-8").strip()
        return f"postgresql://replyrate_{login}:{password}@127.0.0.1:{self.ports['POSTGRES_PORT']}/replyrate"

    def rows(self, statement: str, **values: object) -> list[dict[str, Any]]:
        """Rows as the dashboard's login sees them."""
        with psycopg.connect(self.dsn(), autocommit=True, connect_timeout=10) as connection:
            with connection.cursor(row_factory=dict_row) as cursor:
                return cursor.execute(statement.encode(), values).fetchall()

    def down(self) -> None:
        """Remove containers, networks and volumes; fails when something of the project is left."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "30", check=False)
        mine = ["--filter", f"label=com.docker.compose.project={self.project}", "--quiet"]
        left = [run(["docker", *kind, *mine]) for kind in (["ps", "--all"], ["volume", "ls"], ["network", "ls"])]
        assert not any(left), f"something of {self.project} is left: {left}"
        shutil.rmtree(self.folder, ignore_errors=True)


class Seller:
    """A company with one account; its mailbox is on the given IMAP server."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.company_id = f"c-{secrets.token_hex(4)}"
        self.address = f"{self.company_id}@seller.example"
        stack.replyrate("company", "add", self.company_id)
        stack.replyrate("account", "add", self.company_id, "main", "--address", self.address)

    def connect(self, host: str, password: str) -> dict[str, Any]:
        """Register the mailbox."""
        file = self.stack.folder / f"{self.company_id}.password"
        file.write_text(password + "\n", "utf-8")
        file.chmod(0o444)
        added: dict[str, Any] = json.loads(
            self.stack.replyrate(
                "mailbox", "add", "--company", self.company_id, "--account", "main", "--address", self.address,
                "--host", host, "--consent-by", "the test", "--password-file", "/password", "--json",
                volume=f"{file}:/password:ro",
            )
        )  # fmt: skip
        return added

    def publish(self, *facts: dict[str, Any]) -> None:
        """Publish facts about this company."""
        lines = "".join(json.dumps({"company_id": self.company_id, **fact}) + "\n" for fact in facts)
        result = json.loads(self.stack.replyrate("publish", "--json", "-", text=lines))
        assert result == {"published": len(facts), "invalid": []}

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """inquiry id → its row of report_v1.inquiry_outcomes, by the rule set that counts every inquiry."""
        outcomes = self.stack.rows(
            "SELECT * FROM report_v1.inquiry_outcomes WHERE company_id = %(company_id)s AND rule_set = 'first-reply-24h'",
            company_id=self.company_id,
        )
        return {outcome["inquiry_id"]: outcome for outcome in outcomes}

    def await_outcome(self, inquiry_id: str, outcome: str, seconds: float = 90) -> float:
        """Wait for an outcome; returns how long that took."""
        started = time.monotonic()
        until(
            lambda: self.outcomes().get(inquiry_id, {}).get("outcome") == outcome, seconds,
            lambda: f"{inquiry_id} is {self.outcomes().get(inquiry_id)}, not {outcome}\n"
            + "\n".join(f"== {service}\n{self.stack.logs(service, 20)}" for service in SERVICES),
        )  # fmt: skip
        return time.monotonic() - started


def inquiry(inquiry_id: str, received_at: str, address: str) -> dict[str, Any]:
    """A buyer's inquiry as `publish` takes it."""
    return {
        "type": "inquiry", "account_id": "main", "inquiry_id": inquiry_id, "received_at": received_at,
        "buyer_id": address, "buyer_addresses": [address], "buyer_region": "DE",
    }  # fmt: skip


def until(true: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    """Wait until `true()`, an error of a server that is starting counting as no; fails with `what()`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except psycopg.OperationalError:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what()}")
        time.sleep(0.3)


def run(command: Sequence[str], seconds: float = 600, check: bool = True, env: dict[str, str] | None = None) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, check=False, env=env or clean_environment()
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def clean_environment() -> dict[str, str]:
    """The environment without what Compose would put in place of the folder's .env."""
    ours = (
        "REPLYRATE_",
        "POSTGRES_",
        "KAFKA_",
        "PORTAL_",
        "CONSOLE_",
        "COMPOSE_",
        "CLUSTER_",
        "SECRETS_DIR",
        "IMAP_CA_DIR",
    )
    return {name: text for name, text in os.environ.items() if not name.startswith(ours)}


def as_json(text: str) -> dict[str, Any]:
    """A log line; empty when it is no JSON object."""
    try:
        line = json.loads(text)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}


@contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """Whatever happens inside, nothing of the stack is left."""
    try:
        yield stack
    finally:
        stack.down()
