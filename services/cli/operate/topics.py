"""`topics create|check`: the Kafka topics of an installation."""

import sys

import click

from services.cli.context import as_json, guarded, load_config
from services.cli.output import errors, print_json
from services.common.errors import EXIT_FAILED
from services.common.kafka import Admin
from services.common.kafka.unpacking import missing_libraries
from services.common.verify import wanted_topics


@click.group()
def topics() -> None:
    """Create and check the Kafka topics."""


@topics.command("create")
@as_json
@guarded
def topics_create(json_: bool) -> None:
    """Create the topics that are missing.

    Existing topics are not changed.
    """
    config = load_config()
    with Admin(config.kafka, "replyrate-cli") as admin:
        created = admin.create_topics(wanted_topics(config))
        problems = admin.check_topics(wanted_topics(config))
    if json_:
        print_json({"created": created, "problems": problems})
    else:
        for name in created:
            errors.print(f"created {name}", markup=False)
        if not created:
            errors.print("All topics exist.")
    _fail_on_problems(problems)


@topics.command("check")
@as_json
@guarded
def topics_check(json_: bool) -> None:
    """Check that the topics are configured correctly.

    Exit 1, with the fix for each topic that is not or with which facts can be lost, and for each codec that cannot be read
    here.
    """
    config = load_config()
    with Admin(config.kafka, "replyrate-cli") as admin:
        wanted = wanted_topics(config)
        problems = [
            *admin.check_topics(wanted), *admin.topic_risks([spec.name for spec in wanted]), *missing_libraries(),
        ]  # fmt: skip
    if json_:
        print_json({"problems": problems})
    elif not problems:
        errors.print("All topics are configured correctly.")
    _fail_on_problems(problems)


def _fail_on_problems(problems: list[str]) -> None:
    for problem in problems:
        errors.print(problem, style="red", markup=False)
    if problems:
        sys.exit(EXIT_FAILED)
