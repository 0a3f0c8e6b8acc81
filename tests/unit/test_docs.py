"""Rendered pages are fresh, links between pages work, and every command on a page exists."""

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import services
from bench import page as speed
from services.cli.pages import render_all
from services.common.postgres import AGGREGATOR_CONNECTIONS, FETCHER_CONNECTIONS, PORTAL_CONNECTIONS, connections
from services.standalone.servers.paths import ROOT

IMAGE_BYTES = 40_000
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "schemas").glob("*.md")])


@pytest.mark.parametrize("name", sorted(render_all()))
def test_rendered_pages_are_fresh(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == render_all()[name], "run `make docs`"


def test_the_page_of_figures_shows_the_newest_results() -> None:
    assert (ROOT / "docs" / "dev" / "speed.md").read_text("utf-8") == speed.render(), "run `python -m bench.page`"
    assert (ROOT / "docs" / "scaling.md").read_text("utf-8") == speed.render_scaling(), "run `python -m bench.page`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_have_a_target(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_images_are_shown_and_small() -> None:
    """tests/portal/browser draws them; that an image of a page exists is tested with the links."""
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text("utf-8"))
    }
    images = set((ROOT / "docs" / "images").iterdir())
    assert images == {image for image in shown if image.parent == ROOT / "docs" / "images"}
    assert all(image.stat().st_size < IMAGE_BYTES for image in images)


def test_pages_state_the_numbers_of_connections_of_the_code() -> None:
    """tests/integration/test_health.py counts the connections of running services."""
    scaling = (ROOT / "docs" / "scaling.md").read_text("utf-8")
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    each = f"{FETCHER_CONNECTIONS} a fetcher, {AGGREGATOR_CONNECTIONS} an aggregator, {PORTAL_CONNECTIONS} a portal"
    assert f"({each})" in runbook
    assert f"{FETCHER_CONNECTIONS} a process" in scaling
    totals = [connections(fetchers=1, aggregators=1, portals=1), connections(fetchers=53, aggregators=4, portals=2)]
    assert f"{each} (1, 1, 1; 53, 4, 2) | {totals[0]} | {totals[1]} |" in scaling
    assert f"{totals[1]} connections" in scaling


def test_bounds_are_those_of_the_code() -> None:
    rows = re.findall(r"\| `(services[\w.]+)` \| (\d+) \|", (ROOT / "docs" / "dev" / "limits.md").read_text("utf-8"))
    assert len(rows) > 10
    for name, stated in rows:
        value: Any = services
        for part in name.split(".")[1:]:
            value = getattr(value, part, None) or import_module(f"{value.__name__}.{part}")
            value = value() if isinstance(value, type) else value
        assert value == int(stated), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_are_commands(page: Path) -> None:
    assert [wrong for line, whole in commands_of(page.read_text("utf-8")) for wrong in problems_of(line, whole)] == []


def test_commands_that_the_program_names_are_commands() -> None:
    texts = [
        # A placeholder may become anything.
        re.sub(r"\{[^{}]*\}", "X", path.read_text("utf-8"))
        for kind in ("*.py", "*.toml", "*.sql")
        for path in sorted((ROOT / "services").rglob(kind))
    ]
    named = [line for text in texts for line in inline(text) if line.startswith(("replyrate ", "make "))]
    assert len(named) > 40
    faulty = [wrong for line in named for wrong in problems_of(line, whole=False)]
    assert faulty == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("replyrate rat my-shop", "no command rat"),
        ("replyrate dlq ls", "no command ls"),
        ("replyrate rate my-shop --as-off 2026-01-01", "No such option"),
        ("replyrate account add my-shop", "account_id is missing"),
        ("replyrate doctor a b c", "too many"),
        ("replyrate explain a b --lang de", "'de' is not one of"),
        ("docker compose run --rm replyrate mailbox ad --company c", "no command ad"),
        ("docker compose --profile demos up --wait", "no profile demos"),
        ("docker compose up --wait --scale fetchers=3", "no service fetchers"),
        ("docker compose up --wait --scale fetcher=3", "FETCHER_REPLICAS"),
        ("docker compose up --wait --force-recreate", "Postgres and Kafka as well"),
        ("docker compose -f docker-compose.yml -f deploy/compose.kafka.yml up", "no file deploy/compose.kafka.yml"),
        ("kubectl exec deployment/replyrate-cli -- python -m services.cli rat my-shop", "no command rat"),
        ("docker compose restart aggregators", "no service aggregators"),
        ("make secret", "no target secret"),
        ("make faults SEEDS=1", "no variable SEEDS"),
        ("python -m services.fetchers", "no module"),
    ],
)
def test_a_wrong_command_is_reported(line: str, wrong: str) -> None:
    ((command, whole),) = commands_of(f"```\n{line}  # why\n```")
    assert whole and wrong in " ".join(problems_of(command, whole))


def commands_of(text: str) -> Iterator[tuple[str, bool]]:
    """(command line, whether it is in a code block and therefore complete) of a page."""
    prose: list[str] = []
    fenced, command = False, ""
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            command += line.strip()
            if command.endswith("\\"):
                command = command[:-1]
                continue
            yield command.removeprefix("$ "), True
            command = ""
        else:
            prose.append(line)
    yield from ((line, False) for line in inline("\n".join(prose)))


def inline(text: str) -> list[str]:
    """Texts between single backticks, also across line breaks (and across the lines of a string in the program)."""
    return [re.sub(r'"?\s*\n\s*(?:f?")?', " ", quoted) for quoted in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


def problems_of(line: str, whole: bool) -> list[str]:
    """What is wrong with a command line of a page; empty for a command of somebody else."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return []
    match words:
        case ["make", *words_after]:
            return [f"{line}: {problem}" for problem in make_problems(words_after)]
        case ["python" | ".venv/bin/python", "-m", module, *_] if module.startswith(("services", "tests", "bench")):
            return [] if (ROOT / f"{module.replace('.', '/')}.py").exists() or (
                ROOT / module.replace(".", "/") / "__main__.py"
            ).exists() else [f"{line}: no module {module}"]  # fmt: skip
        case ["docker", "compose", *words_after]:
            return [f"{line}: {problem}" for problem in compose_problems(words_after, whole)]
        case ["kubectl", *words_after] if "services.cli" in words_after:
            # A redirection belongs to the shell.
            ours = takewhile(lambda word: word != "<", words_after[words_after.index("services.cli") + 1 :])
            return [f"{line}: {problem}" for problem in command_problems([*ours], whole)]
        case ["replyrate" | ".venv/bin/replyrate", *words_after]:
            return [f"{line}: {problem}" for problem in command_problems(words_after, whole)]
    return []


def make_problems(words: list[str]) -> list[str]:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    wrong = []
    for word in words:
        name, equals, _ = word.partition("=")
        if equals and f"$({name})" not in makefile:
            wrong.append(f"no variable {name}")
        elif not equals and word not in targets:
            wrong.append(f"no target {word}")
    return wrong


def compose_problems(words: list[str], whole: bool) -> list[str]:
    """Profiles and services must exist; what follows `run replyrate` must be a command."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    services = compose["services"]
    profiles = {profile for definition in services.values() for profile in definition.get("profiles", ())}
    wrong = [f"no profile {name}" for flag, name in pairwise(words) if flag == "--profile" and name not in profiles] + [
        f"no service {name.partition('=')[0]}"
        for flag, name in pairwise(words)
        if flag == "--scale" and name.partition("=")[0] not in services
    ]
    # Options of Compose that take a value.
    wrong += [
        f"no file {name}" for flag, name in pairwise(words) if flag in ("-f", "--file") and not (ROOT / name).exists()
    ]
    takes = ("--profile", "--scale", "-v", "--volume", "--file", "-f", "--since", "--tail", "--name")
    bare = [word for before, word in pairwise(["", *words]) if not word.startswith("-") and before not in takes]
    if not bare:
        return wrong
    verb, named = bare[0], bare[1:]
    if verb == "up" and "--scale" in words:
        wrong.append("lasts until the next `up` only; FETCHER_REPLICAS and its siblings in .env stay")
    if verb == "up" and "--force-recreate" in words and not named:
        wrong.append("recreates Postgres and Kafka as well; name the services")
    if verb in ("run", "exec"):
        if named and named[0] == "replyrate":
            return wrong + command_problems(words[words.index("replyrate") + 1 :], whole)
        named = named[:1]
    return wrong + [f"no service {name}" for name in named if name.islower() and name not in services]


def command_problems(words: list[str], whole: bool) -> list[str]:
    """Problems that click reports: names of commands and options, number of arguments, values of a closed list."""
    from services.cli.__main__ import main

    command: click.Command = main
    whole = whole and "…" not in words
    words = [word.strip("[]") for word in words if word not in ("…", "...", "COMMAND")]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *alternatives = words.pop(0).split("|")
        wrong = [alternative for alternative in (name, *alternatives) if alternative not in command.commands]
        if wrong:
            return [f"no command {', '.join(wrong)}"]
        command = command.commands[name]
    if isinstance(command, click.Group):
        words = [word for word in words if word not in ("--help", "--version")]
    context = click.Context(command)
    try:
        values, surplus, _ = command.make_parser(context).parse_args(words)
    except click.UsageError as error:
        # A sentence may name a command without its arguments.
        return [error.format_message()] if whole or "requires an argument" not in error.format_message() else []
    problems = [f"too many: {' '.join(surplus)}"] if surplus else []
    for parameter in command.params:
        value = values.get(str(parameter.name))
        if whole and parameter.required and not isinstance(value, str | tuple | list):
            problems.append(f"{parameter.name} is missing")
        closed = isinstance(parameter.type, click.Choice | click.IntRange) and not parameter.multiple
        if closed and isinstance(value, str) and not value.isupper():
            try:
                parameter.type.convert(value, parameter, context)
            except click.BadParameter as error:
                problems.append(error.format_message())
    return problems
