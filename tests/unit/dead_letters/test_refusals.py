"""Why a letter is not replayed, in both languages."""

import re
from typing import get_args

from services.dead_letters import refusals
from services.dead_letters.refusals import RefusalCode, refusal

PLACEHOLDER = re.compile(r"\{(\w+)\}")


def test_each_code_has_its_sentence_with_the_same_values_in_both_languages() -> None:
    assert refusals.load().keys() == set(get_args(RefusalCode))
    for code, text in refusals.load().items():
        assert text.en and text.zh and set(PLACEHOLDER.findall(text.en)) == set(PLACEHOLDER.findall(text.zh)), code


def test_values_are_filled_in() -> None:
    assert refusal("replays-spent", count=3).zh == "已重放 3 次，每次均被拒绝"
