"""What staff are told to do: about every cause and every state, in both languages, and without commands or the API, which they have not."""

import re
from string import Formatter

import pytest

from services.aggregator.doctor.causes import CAUSES, Cause
from services.aggregator.doctor.diagnosis import LANGUAGES
from services.cli.__main__ import main
from services.common.language import Bilingual
from services.portal.console import advice, texts
from services.registry import states

NOT_OF_STAFF = re.compile(rf"replyrate ({'|'.join(main.commands)})\b|/v1/|(?<![-\w])--\w")
"""Commands, options and paths of the API."""
FIRST_RUN = "problem-link-unusable.next"
"""Says how to print another link; whoever opens such a link got it from the command line."""


def in_both(text: Bilingual) -> list[str]:
    return [text.text(language) for language in LANGUAGES]


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.code)
def test_every_cause_has_advice_for_staff_that_names_its_facts_alone(cause: Cause) -> None:
    named = [
        {name for _, name, _, _ in Formatter().parse(text) if name}
        for text in in_both(advice.load()["cause"][cause.code])
    ]
    assert named[0] == named[1] <= {*cause.facts, "units"}


def test_advice_is_about_causes_and_states_that_exist() -> None:
    assert set(advice.load()) == {"cause", "state"}
    assert set(advice.load()["cause"]) == {cause.code for cause in CAUSES}
    assert set(advice.load()["state"]) == set(states.load().names)


def test_a_fact_that_is_missing_is_a_dash() -> None:
    assert "(last one: –)" in advice.about_cause("no-valid-inquiries", {"last_inquiry_on": None}, "en")
    assert "Of – inquiries 3 were" in advice.about_cause("none", {"late": 3}, "en")


def test_no_text_of_the_console_names_a_command_or_the_api() -> None:
    shown = {f"{name}.{code}": in_both(text) for name, part in advice.load().items() for code, text in part.items()}
    shown |= {
        f"{name}.{key}": list(languages.values())
        for name, table in texts.load().items()
        for key, languages in table.items()
    }
    naming = {name for name, sentences in shown.items() if any(NOT_OF_STAFF.search(text) for text in sentences)}
    assert naming == {FIRST_RUN}
