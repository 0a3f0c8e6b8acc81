"""Every refusal of the registry that names a remedy gets a command or an option at the command line."""

import ast
from pathlib import Path
from string import Formatter

import services
from services.cli import remedies
from services.registry.errors import REMEDIES, RegistryError

ROOMS = [Path(services.__file__).parent / room for room in ("registry", "connect")]


def test_every_code_has_a_sentence_and_every_sentence_a_code() -> None:
    assert set(remedies.load()) == set(REMEDIES)


def test_every_refusal_fills_the_placeholders_of_its_sentence() -> None:
    named = set()
    for path in (path for room in ROOMS for path in sorted(room.glob("*.py"))):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(call, ast.Call) or ast.unparse(call.func) != "RegistryError" or len(call.args) < 2:
                continue
            values = {keyword.arg for keyword in call.keywords}
            for node in ast.walk(call.args[1]):
                if isinstance(node, ast.Constant) and node.value in REMEDIES:
                    named.add(node.value)
                    sentence = remedies.load()[node.value]
                    placeholders = {name for _, name, _, _ in Formatter().parse(sentence) if name}
                    assert placeholders <= values, f"{path.name}:{call.lineno}: {node.value}"
    assert named == set(REMEDIES), "no code is left over"


def test_the_sentence_follows_what_happened() -> None:
    error = RegistryError("there is no company c1", "company-add", company_id="c1")
    assert remedies.explain(error) == "there is no company c1; add it: replyrate company add c1"
    assert remedies.explain(RegistryError("nothing changed")) == "nothing changed"
