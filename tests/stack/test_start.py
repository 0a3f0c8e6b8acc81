"""What an operator meets first: no secrets, a secret that went missing, and the demo."""

import json
import time
from pathlib import Path

import pytest

from tests.stack.conftest import FIGURES
from tests.stack.mail import ago, stamp
from tests.stack.stack import Stack, inquiry, running

INQUIRY = inquiry("one", stamp(ago(days=10)), "buyer@buyers.example")
pytestmark = pytest.mark.timeout(1500)


def test_without_secrets_the_start_says_what_makes_them(folder: Path) -> None:
    refused = Stack(folder / "stack").composed("up", "--detach", "--wait", "--no-build", "--pull", "never")
    assert refused.returncode != 0 and "make secrets" in refused.stderr


@pytest.mark.parametrize("profile", ["demo", "observability", "tools", "*"])
def test_every_profile_can_be_read(folder: Path, profile: str) -> None:
    stack = Stack(folder / "stack")
    stack.make_secrets()
    read = stack.composed("--profile", profile, "config", "--quiet")
    assert (read.returncode, read.stderr) == (0, "")


def test_a_missing_secret_stops_the_start_and_is_made_by_the_same_command(images: None, folder: Path) -> None:
    stack = Stack(folder / "stack")
    assert "hash.key and vault.key in a safe place" in stack.make_secrets()
    assert "all secrets exist" in stack.make_secrets()
    secrets = stack.folder / "secrets"
    contents = {file.name: file.read_bytes() for file in secrets.iterdir()}
    assert len(contents["hash.key"]) == len(contents["vault.key"]) == 32 and len(set(contents.values())) == len(
        contents
    )
    assert secrets.stat().st_mode & 0o077 == 0
    (secrets / "hash.key").unlink()
    with running(stack):
        refused = stack.composed("up", "--detach", "--wait", "--no-build", "--pull", "never")
        assert refused.returncode != 0 and "secrets/hash.key" in refused.stderr
        stack.make_secrets()
        assert {file.name for file in secrets.iterdir()} == set(contents)
        for name, content in contents.items():
            assert ((secrets / name).read_bytes() == content) == (name != "hash.key")


def test_the_demo_shows_the_rates_of_the_recount(images: None, folder: Path) -> None:
    stack = Stack(folder / "stack")
    stack.make_secrets()
    with running(stack):
        # First without the demo, and with a seller of the operator's own: the running fetcher must learn of the mail server's authority later.
        stack.up()
        stack.replyrate("company", "add", "earlier-company")
        stack.replyrate("account", "add", "earlier-company", "main")
        stack.replyrate("publish", "-", text=json.dumps({"company_id": "earlier-company", **INQUIRY}))
        started = time.monotonic()
        stack.up(profile="demo")
        FIGURES["profile demo until the rates agree, s"] = f"{time.monotonic() - started:.1f}"
        shown = stack.compose("--profile", "demo", "logs", "--no-log-prefix", "demo")
        assert "agree with the recount" in shown and "DO NOT" not in shown
        rates = stack.rows(
            "SELECT rate FROM report_v1.reply_rate_latest"
            " WHERE level = 'company' AND rule_set = 'default' AND company_id <> 'earlier-company'"
        )
        assert len(rates) == 8 and sum(rate["rate"] == 0 for rate in rates) == 4
        # A second start finds its sellers and leaves them alone.
        stack.compose("--profile", "demo", "restart", "demo")
        stack.up(profile="demo")
        assert "earlier start are still registered" in stack.compose(
            "--profile", "demo", "logs", "--no-log-prefix", "demo"
        )
