"""The table of mailbox states contradicts itself nowhere, and a table that does is refused."""

from importlib import resources

import pytest

from services.common.errors import ConfigError
from services.registry import states

TEXT = resources.files("services.registry").joinpath("states.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('to = "paused"', 'to = "pausd"', "event paused: to: unknown state pausd"),
        ('from = ["paused"]', 'from = ["pausd"]', "event resumed: from: unknown state pausd"),
        ('by = "fetcher"', 'by = "nobody"', "by: nobody is not one of"),
        ('remedy = "mailbox-connect"', 'remedy = "none"', "event reconnected: remedy: none is not one of"),
        ('name = "resumed"', 'name = "paused"', "an event is listed twice"),
        ("[state.removed]", "[state.gone]", "'removed'; the head of the file lists what it must contain"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused_with_the_problem(old: str, new: str, problem: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError, match=problem):
        states.parse(TEXT.replace(old, new), "states.toml")


def test_sentences_for_sellers_contain_no_command() -> None:
    """They are shown on the portal too, where nobody has a command line; docs/command-line.md names the commands."""
    sentences = [line for line in TEXT.splitlines() if line.startswith("says = ")]
    assert sentences and not [line for line in sentences if "replyrate " in line]
