"""The table of docs/dev/servers.md: server × check."""

from collections.abc import Mapping

from services.standalone.servers.paths import ROOT
from tests.mail_servers.servers import SERVERS

PAGE = ROOT / "docs" / "dev" / "servers.md"
BEGIN, END = "<!-- results: rendered by `python -m tests.mail_servers` -->\n", "<!-- end of results -->"
CHECKS: Mapping[str, str] = {
    "test_wrong_password_is_reported_as_such": "wrong password",
    "test_connect_finds_the_sent_folder": "connect",
    "test_first_scan_survives_a_restart_of_the_server": "first scan, restart",
    "test_idle_polls_publish_nothing": "idle poll",
    "test_new_mail_is_published_by_the_next_complete_poll": "new mail",
    "test_a_deleted_message_changes_nothing": "deletion",
    "test_a_recreated_folder_is_scanned_again_without_new_events": "UIDVALIDITY",
    "test_nothing_is_marked_as_read": "unread stays unread",
}


def table(results: Mapping[str, Mapping[str, bool]]) -> str:
    """Markdown of `results`: server → check → passed. A check that a server cannot have is `–`."""
    lines = ["| Server | Version | " + " | ".join(CHECKS.values()) + " |", "|---" * (len(CHECKS) + 2) + "|"]
    for server in SERVERS:
        outcomes = results.get(server.name, {})
        cells = [
            "–" if (passed := outcomes.get(check)) is None else "passed" if passed else "**failed**" for check in CHECKS
        ]
        lines.append(f"| {server.name} | {server.version} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def render(page: str, results: Mapping[str, Mapping[str, bool]]) -> str:
    """The page with its table replaced."""
    return page[: page.index(BEGIN) + len(BEGIN)] + table(results) + page[page.index(END) :]
