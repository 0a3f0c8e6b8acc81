"""`explain COMPANY INQUIRY` and `explain COMPANY --message ID`: why an inquiry or a sent message counts as it does."""

import sys
from collections.abc import Callable
from typing import Any

import click
import psycopg

from services.aggregator.archive.files import archive_folder
from services.aggregator.explain import explain_inquiry
from services.aggregator.explanation_sentences import sentences
from services.aggregator.judge.rules import RuleSet
from services.aggregator.message_story import message_story
from services.aggregator.refresh import recompute
from services.aggregator.texts import LANGUAGES, Texts
from services.cli.context import as_json, database, guarded, load_config
from services.cli.numbers.explain_inquiry import print_explanation
from services.cli.numbers.explain_message import MessageTexts, message_sentences, print_message_story
from services.cli.numbers.rules import rule_set_named
from services.cli.output import print_json
from services.common.errors import EXIT_FAILED, ReplyrateError
from services.common.hashing import Hasher
from services.registry.hash_key import compare_hash_key

language = click.option(
    "--lang", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Language of the answer."
)


@click.command()
@click.argument("company_id")
@click.argument("inquiry_id", required=False)
@click.option("--message", "message_id", metavar="MESSAGE-ID", help="Explain a sent message instead of an inquiry.")
@click.option("--rules", "name", help="Rule set. Default: every active one.")
@language
@as_json
@guarded
def explain(
    company_id: str, inquiry_id: str | None, message_id: str | None, name: str | None, lang: str, json_: bool
) -> None:
    """Explain how an inquiry or a sent message counts, and why.

    For an inquiry: the facts, the replies that were considered, the rules, the deadline, the outcome and its history.

    For a message: when and by which mailbox it was published, to which inquiries it was matched, and whether it counts and
    why; or that it was never seen, and which mailboxes could have shown it. The id may be in angle brackets.

    Exit 1 when the inquiry or the message is not known.
    """
    if (inquiry_id is None) == (message_id is None):
        raise click.UsageError("give either an INQUIRY_ID or --message MESSAGE-ID")
    config = load_config()

    def load(missing: str) -> RuleSet:
        return rule_set_named(missing, config.aggregator.rules_dir)

    with database(config) as connection:
        if message_id is not None:
            rule_sets = (
                recompute.active_readonly(connection) if name is None else chosen_rule_sets(connection, name, load)
            )
            hasher = Hasher(config.hash_key())
            compare_hash_key(connection, hasher)
            story = message_story(connection, rule_sets, hasher, company_id, message_id)
            is_known = _show_message(story, config.horizon_days, lang, json_=json_)
        else:
            rule_sets, folder = chosen_rule_sets(connection, name, load), archive_folder(config.aggregator)
            stories = [
                explain_inquiry(connection, rule_set, company_id, str(inquiry_id), folder) for rule_set in rule_sets
            ]
            is_known = _show_inquiry(stories, lang, json_=json_)
    if not is_known:
        sys.exit(EXIT_FAILED)


def _show_message(story: dict[str, Any], horizon_days: int, lang: str, *, json_: bool) -> bool:
    """Print the state of a message; False when it was never seen."""
    if json_:
        story["sentences"] = {
            written_in: message_sentences(story, MessageTexts(written_in), horizon_days) for written_in in LANGUAGES
        }
        print_json(story)
    else:
        print_message_story(story, MessageTexts(lang), horizon_days)
    return bool(story["status"] != "never-seen")


def _show_inquiry(stories: list[dict[str, Any]], lang: str, *, json_: bool) -> bool:
    """Print the explanation by each rule set; False when the inquiry is not known."""
    for story in stories:
        story["sentences"] = {written_in: sentences(story, Texts("explain", written_in)) for written_in in LANGUAGES}
    if json_:
        print_json(stories)
    else:
        for story in stories:
            print_explanation(story, Texts("explain", lang))
    return all(story["outcome"] != "unknown" for story in stories)


def chosen_rule_sets(connection: psycopg.Connection, name: str | None, load: Callable[[str], RuleSet]) -> list[RuleSet]:
    """The rule set of that name (as it is active, else as `load` finds it), or all active ones."""
    active = recompute.active_readonly(connection)
    if name is None:
        if not active:
            raise ReplyrateError("no rule set is active yet; start the aggregator, or name one with --rules")
        return active
    return [rule_set for rule_set in active if rule_set.name == name] or [load(name)]
