"""Every refusal of the registry has its reason in both languages, with all placeholders filled in."""

import ast
import re
from pathlib import Path
from string import Formatter

import services.registry
from services.common.language import Bilingual
from services.registry import refusals, states
from services.registry.errors import RegistryError
from services.registry.state_changes import refused

ROOM = Path(services.registry.__file__).parent
BY_OPERATORS = {"api_keys.py"}
"""Modules whose refusals are met at the command line alone."""


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def calls(name: str, path: Path) -> list[ast.Call]:
    tree = ast.walk(ast.parse(path.read_text("utf-8")))
    return [node for node in tree if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


def test_every_reason_is_used_with_its_placeholders_in_both_languages() -> None:
    used = set()
    connect = ROOM.parent / "connect" / "onboarding.py"
    for path in (*sorted(ROOM.glob("*.py")), connect):
        for call in calls("reason", path):
            code = ast.literal_eval(call.args[0])
            used.add(code)
            sentence = refusals.load()[code]
            given = {keyword.arg for keyword in call.keywords}
            assert placeholders(sentence.en) == placeholders(sentence.zh) == given, f"{path.name}:{call.lineno}: {code}"
    assert used == set(refusals.load()), "no sentence is left over"


def test_every_refusal_has_a_reason_in_both_languages() -> None:
    for path in sorted(ROOM.glob("*.py")):
        for call in calls("RegistryError", path):
            if path.name not in BY_OPERATORS:
                assert ast.unparse(call.args[0]).startswith("reason("), f"{path.name}:{call.lineno}"


def test_every_state_refuses_in_both_languages() -> None:
    for event in states.load().events.values():
        for state in states.STATES:
            reason = refused(event, "c1", "m1", state).reason
            assert (
                reason is not None and reason.en.isascii() and state in reason.en and "{" not in reason.en + reason.zh
            )
            assert re.search(r"[\u4e00-\u9fff]", reason.zh) and states.load().names[state].zh in reason.zh
    assert "其他" in states.shown("").zh


def test_an_error_shows_its_reason_in_english() -> None:
    error = RegistryError(Bilingual("no", "否"), "company-add", company_id="c1")
    assert (str(error), error.reason, error.values) == ("no", Bilingual("no", "否"), {"company_id": "c1"})
