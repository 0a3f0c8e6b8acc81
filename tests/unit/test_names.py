"""Names say what they hold: no placeholder names, and one meaning for each class name (docs/glossary.md)."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.standalone.servers.paths import ROOT

PLACEHOLDERS = frozenset(
    {"one", "other", "others", "found", "held", "known", "made", "kept", "rest", "row", "it", "thing", "stuff"}
)
FOLDERS = ("services", "schemas", "bench", "examples", "tests")
CONTRACTS = {"services/common/settings/sections.py": {"other"}}
"""Names that are part of a contract: the settings REPLYRATE_OAUTH2__OTHER__…"""
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def files() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int, bool]]:
    """(name, line, whether a comprehension binds it) of every assigned name, parameter and assigned attribute."""
    in_comprehension = {
        id(target)
        for node in ast.walk(tree)
        if isinstance(node, COMPREHENSIONS)
        for generator in node.generators
        for target in ast.walk(generator.target)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                yield name, node.lineno, id(node) in in_comprehension
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno, False
            case ast.arg(arg=name):
                yield name, node.lineno, False
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name, node.lineno, False
            case _:
                pass


def placeholders(source: str) -> list[str]:
    """`line: name` for each name in a source text that says nothing."""
    return [
        f"{line}: {name}"
        for name, line, short_allowed in bound_names(ast.parse(source))
        if name.lstrip("_") in PLACEHOLDERS or (len(name) == 1 and name != "_" and not short_allowed)
    ]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_is_a_placeholder(path: Path) -> None:
    allowed = CONTRACTS.get(str(path.relative_to(ROOT)), set())
    assert [entry for entry in placeholders(path.read_text("utf-8")) if entry.split()[-1] not in allowed] == []


@pytest.mark.parametrize(
    "source",
    [
        "found = 1", "for one in (): pass", "def f(other): pass", "self.held = 1", "with open('x') as rest: pass", "x = 1",
        "if known := 1: pass", "_one = 1", "sum(one for one in ())", "match 1:\n    case [*rest]: pass",
        "try:\n    pass\nexcept OSError as e:\n    pass", "lambda x: x",
    ],
)  # fmt: skip
def test_a_placeholder_is_recognised(source: str) -> None:
    assert placeholders(source) != []


@pytest.mark.parametrize(
    "source", ["mailbox_row = 1", "[n for n in ()]", "_ = 1", "found_uids = 1", "x.one", "one.field"]
)
def test_a_name_with_a_noun_is_accepted(source: str) -> None:
    assert placeholders(source) == []


def test_a_class_name_exists_once_in_services() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "services").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_no_class_of_services_looks_like_a_test() -> None:
    """pytest tries to collect every imported class named Test… and warns."""
    named = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sorted((ROOT / "services").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test")
    ]
    assert named == []


def test_rooms_stay_small() -> None:
    """Classes have at most 250 lines, functions 60, constructors 8 arguments besides self."""
    too_large = []
    for path in sorted((ROOT / "services").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            limit = 250 if isinstance(node, ast.ClassDef) else 60
            if lines > limit:
                too_large.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines")
            if not isinstance(node, ast.ClassDef) and node.name == "__init__":
                arguments = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
                if arguments > 8:
                    too_large.append(f"{path.relative_to(ROOT)}:{node.lineno} __init__: {arguments} arguments")
    assert too_large == []
