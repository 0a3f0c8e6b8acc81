"""Pages that are made from the code are fresh, and links between pages lead somewhere."""

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
from services.common.postgres import AGGREGATOR_CONNECTIONS, FETCHER_CONNECTIONS, connections
from services.standalone.servers.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "schemas").glob("*.md")])


@pytest.mark.parametrize("name", sorted(render_all()))
def test_rendered_pages_are_fresh(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == render_all()[name], "run `make docs`"


def test_the_page_of_figures_shows_the_newest_results() -> None:
    assert (ROOT / "docs" / "dev" / "speed.md").read_text("utf-8") == speed.render(), "run `python -m bench.page`"
    assert (ROOT / "docs" / "scaling.md").read_text("utf-8") == speed.render_scaling(), "run `python -m bench.page`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_connections_that_pages_tell_are_those_of_the_code() -> None:
    """tests/integration/test_health.py counts what the services hold."""
    scaling = (ROOT / "docs" / "scaling.md").read_text("utf-8")
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    assert f"one for each worker and {FETCHER_CONNECTIONS} more, an aggregator {AGGREGATOR_CONNECTIONS})" in runbook
    assert f"one a worker, and {FETCHER_CONNECTIONS} a process" in scaling
    small, large = re.findall(r"^\| workers \|[^|]*\| ([\d,]+) \| ([\d,]+) \|", scaling, re.MULTILINE)[0]
    workers = [int(text.replace(",", "")) for text in (small, large)]
    told = [
        connections(workers=workers[0], fetchers=1, aggregators=1),
        connections(workers=workers[1], fetchers=53, aggregators=4),
        connections(workers=workers[1] // 3, fetchers=18, aggregators=4),
    ]
    assert (
        f"workers + {FETCHER_CONNECTIONS} a fetcher, {AGGREGATOR_CONNECTIONS} an aggregator (1, 4) | {told[0]} | {told[1]:,} |"
        in scaling
    )
    assert f"{told[2]:,} connections" in scaling


def test_bounds_are_those_of_the_code() -> None:
    rows = re.findall(r"\| `(services[\w.]+)` \| (\d+) \|", (ROOT / "docs" / "dev" / "limits.md").read_text("utf-8"))
    assert len(rows) > 10
    for name, told in rows:
        value: Any = services
        for part in name.split(".")[1:]:
            value = getattr(value, part, None) or import_module(f"{value.__name__}.{part}")
            value = value() if isinstance(value, type) else value
        assert value == int(told), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_are_commands(page: Path) -> None:
    assert [wrong for line, whole in told(page.read_text("utf-8")) for wrong in faults(line, whole)] == []


def test_commands_that_the_program_names_are_commands() -> None:
    texts = [
        # What is filled in when it is said may be anything.
        re.sub(r"\{[^{}]*\}", "X", path.read_text("utf-8"))
        for kind in ("*.py", "*.toml", "*.sql")
        for path in sorted((ROOT / "services").rglob(kind))
    ]
    named = [line for text in texts for line in inline(text) if line.startswith(("replyrate ", "make "))]
    assert len(named) > 40
    found = [wrong for line in named for wrong in faults(line, whole=False)]
    assert found == []


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
def test_a_command_that_is_none_is_found(line: str, wrong: str) -> None:
    ((found, whole),) = told(f"```\n{line}  # why\n```")
    assert whole and wrong in " ".join(faults(found, whole))


def told(text: str) -> Iterator[tuple[str, bool]]:
    """(command line, whether it stands in a block and so is to be typed as it is) of a page."""
    prose: list[str] = []
    fenced, held = False, ""
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            held += line.strip()
            if held.endswith("\\"):
                held = held[:-1]
                continue
            yield held.removeprefix("$ "), True
            held = ""
        else:
            prose.append(line)
    yield from ((line, False) for line in inline("\n".join(prose)))


def inline(text: str) -> list[str]:
    """What stands between single backticks, also over the end of a line (of a string of the program as well)."""
    return [re.sub(r'"?\s*\n\s*(?:f?")?', " ", one) for one in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


def faults(line: str, whole: bool) -> list[str]:
    """What is wrong with a command line of a page; none for what is no command of ours."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return []
    match words:
        case ["make", *rest]:
            return [f"{line}: {one}" for one in make_faults(rest)]
        case ["python" | ".venv/bin/python", "-m", module, *_] if module.startswith(("services", "tests", "bench")):
            return [] if (ROOT / f"{module.replace('.', '/')}.py").exists() or (
                ROOT / module.replace(".", "/") / "__main__.py"
            ).exists() else [f"{line}: no module {module}"]  # fmt: skip
        case ["docker", "compose", *rest]:
            return [f"{line}: {one}" for one in compose_faults(rest, whole)]
        case ["kubectl", *rest] if "services.cli" in rest:
            # What the shell reads is not the program's.
            ours = takewhile(lambda word: word != "<", rest[rest.index("services.cli") + 1 :])
            return [f"{line}: {one}" for one in command_faults([*ours], whole)]
        case ["replyrate" | ".venv/bin/replyrate", *rest]:
            return [f"{line}: {one}" for one in command_faults(rest, whole)]
    return []


def make_faults(words: list[str]) -> list[str]:
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


def compose_faults(words: list[str], whole: bool) -> list[str]:
    """Profiles and services must be there; what follows `run replyrate` must be a command."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    services = compose["services"]
    profiles = {profile for one in services.values() for profile in one.get("profiles", ())}
    wrong = [f"no profile {name}" for flag, name in pairwise(words) if flag == "--profile" and name not in profiles] + [
        f"no service {name.partition('=')[0]}"
        for flag, name in pairwise(words)
        if flag == "--scale" and name.partition("=")[0] not in services
    ]
    # Options of Compose that take a word of their own.
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
        wrong.append("makes Postgres and Kafka as well anew; name the services")
    if verb in ("run", "exec"):
        if named and named[0] == "replyrate":
            return wrong + command_faults(words[words.index("replyrate") + 1 :], whole)
        named = named[:1]
    return wrong + [f"no service {name}" for name in named if name.islower() and name not in services]


def command_faults(words: list[str], whole: bool) -> list[str]:
    """What click finds: names of commands and options, how many words there are, values out of a closed list."""
    from services.cli.__main__ import main

    command: click.Command = main
    whole = whole and "…" not in words
    words = [word.strip("[]") for word in words if word not in ("…", "...", "COMMAND")]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *others = words.pop(0).split("|")
        wrong = [one for one in (name, *others) if one not in command.commands]
        if wrong:
            return [f"no command {', '.join(wrong)}"]
        command = command.commands[name]
    if isinstance(command, click.Group):
        words = [word for word in words if word not in ("--help", "--version")]
    context = click.Context(command)
    try:
        values, rest, _ = command.make_parser(context).parse_args(words)
    except click.UsageError as error:
        # A sentence may name a command without what follows it.
        return [error.format_message()] if whole or "requires an argument" not in error.format_message() else []
    found = [f"too many: {' '.join(rest)}"] if rest else []
    for parameter in command.params:
        value = values.get(str(parameter.name))
        if whole and parameter.required and not isinstance(value, str | tuple | list):
            found.append(f"{parameter.name} is missing")
        closed = isinstance(parameter.type, click.Choice | click.IntRange) and not parameter.multiple
        if closed and isinstance(value, str) and not value.isupper():
            try:
                parameter.type.convert(value, parameter, context)
            except click.BadParameter as error:
                found.append(error.format_message())
    return found
