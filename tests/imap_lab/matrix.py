"""The result of the connection test for every provider of the lab and every defect: the tables of docs/dev/lab.md.

Each server has the name of the provider's real one, so that it is in the provider directory; connections go to loopback only.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Final, TypeVar

from services.connect import connection_test
from services.connect.connection_test import ConnectionTestSetup
from services.connect.report import ConnectionTestReport
from services.imap.folders import folder_text
from services.imap.host_policy import HostPolicy
from services.imap.limits import SessionLimits
from services.imap.tls import tls_context
from services.mail.values import Login
from services.providers import catalog
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.profiles import DOVECOT, PROFILES, Defect, Profile
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import fill

HOSTS: Final = {"exmail": "imap.exmail.qq.com", "godaddy": "imap.secureserver.net"}
"""Servers of companies' own domains, which are found by MX."""
PATIENT: Final = SessionLimits()
IMPATIENT: Final = SessionLimits(command_seconds=3, session_seconds=12, connect_seconds=5)
SLOW: Final = frozenset({Defect.SILENT, Defect.HALF_OPEN, Defect.DRIP, Defect.DRIP_ANSWER, Defect.DRIP_LITERAL})
"""These end at a time limit. The others get the full limits, so that a busy machine does not change the tables."""
PARALLEL_TESTS: Final = 6

Place = TypeVar("Place")


@dataclass(frozen=True, slots=True)
class Case:
    """One situation: a defect of the server, the password that is typed, or a `change` of the mailbox."""

    defect: Defect | None = None
    password: Callable[[LabServer], str] = lambda server: server.secret
    change: Callable[[LabServer], None] = lambda server: None
    limits: SessionLimits = PATIENT


CASES: Final = {
    "right secret": Case(),
    "web password": Case(password=lambda server: server.web_password),
    "wrong secret": Case(password=lambda server: "wrong"),
    "too many logins": Case(Defect.LOGIN_RATE),
    "login held back": Case(Defect.UNSAFE_LOGIN),
    "no Sent folder": Case(change=lambda server: server.folders.remove(server.sent)),
    "nothing in it": Case(change=lambda server: server.sent.messages.clear()),
}


def host_of(profile: Profile) -> str:
    """The server that a customer of this provider would type."""
    provider = catalog.load().by_domain(profile.domain)
    return provider.hosts[0] if provider is not None else HOSTS.get(profile.name, f"imap.{profile.domain}")


def report_of(folder: Path, ca: CertificateAuthority, profile: Profile, case: Case) -> ConnectionTestReport:
    """The connection test of a mailbox with three sent messages."""
    host, now = host_of(profile), datetime.now(UTC).replace(microsecond=0)
    server = LabServer(folder, ca, profile, hosts=(host,))
    if case.defect is not None:
        server.defects.add(case.defect)
    fill(server, [now - timedelta(days=50), now - timedelta(days=20), now - timedelta(hours=3)])
    server.refused_uid = server.sent.messages[-1].uid
    case.change(server)
    with server:
        hosts = HostPolicy((server.port,), (ip_network("127.0.0.0/8"),), resolve=lambda *_: ["127.0.0.1"])
        setup = ConnectionTestSetup(catalog.load(), hosts, tls_context(ca.ca_file), "0", case.limits)
        login = Login(server.user, host, server.port, server.user, case.password(server))
        return connection_test.run(login, setup, datetime.now(UTC)).report


def cell(report: ConnectionTestReport) -> str:
    """A report as a table cell: the stage and code that failed, or the Sent folders and the warnings."""
    if (failed := report.failed) is not None:
        return f"{failed.name}: `{failed.code}`"
    folders = ", ".join(f"{folder_text(folder.name)} ({folder.found_by})" for folder in report.folders)
    return "; ".join([f"passes, {folders}", *(f"`{warning.code}`" for warning in report.warnings)])


def providers(folder: Path, ca: CertificateAuthority) -> str:
    """The table of profiles and cases."""
    places = [(name, case) for name in PROFILES for case in CASES]
    cells = _all(lambda place: report_of(folder / "-".join(place), ca, PROFILES[place[0]], CASES[place[1]]), places)
    lines = [_table_row("Provider", *CASES), _table_row(*["---"] * (len(CASES) + 1))]
    lines += [
        _table_row(f"{name} ({host_of(PROFILES[name])})", *(cells[name, case] for case in CASES)) for name in PROFILES
    ]
    return "\n".join(lines) + "\n"


def defects(folder: Path, ca: CertificateAuthority) -> str:
    """The table of defects, each in an otherwise ordinary server."""
    cases = {defect: Case(defect, limits=IMPATIENT if defect in SLOW else PATIENT) for defect in Defect}
    cells = _all(lambda defect: report_of(folder / defect.name, ca, DOVECOT, cases[defect]), list(Defect))
    lines = [_table_row("Defect", "What the server does", "Connection test"), _table_row("---", "---", "---")]
    lines += [_table_row(f"`{defect.name}`", defect.value, cells[defect]) for defect in Defect]
    return "\n".join(lines) + "\n"


def _all(run: Callable[[Place], ConnectionTestReport], places: list[Place]) -> dict[Place, str]:
    with ThreadPoolExecutor(PARALLEL_TESTS) as pool:
        return dict(zip(places, map(cell, pool.map(run, places)), strict=True))


def _table_row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
