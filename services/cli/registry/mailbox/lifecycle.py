"""`mailbox pause|resume|rescan|remove|link|unlink`: what an operator does with a connected mailbox."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from services.cli.context import guarded, in_language, load_config, open_registry
from services.cli.output import echo, errors
from services.cli.registry.mailbox.options import acting_operator
from services.common.display import printable
from services.common.language import Language
from services.connect import consent
from services.connect.consent import check_name
from services.registry.registry import Registry
from services.registry.state_changes import OPERATOR


@click.command("pause")
@click.argument("company_id")
@click.argument("mailbox_id")
@acting_operator
@guarded
def mailbox_pause(company_id: str, mailbox_id: str, by: str) -> None:
    """Stop polling a mailbox until it is resumed."""
    with _registry_as(by) as registry:
        registry.mailboxes.pause(company_id, mailbox_id, by=by)
    errors.print(f"Mailbox {printable(mailbox_id)} is paused.")


@click.command("resume")
@click.argument("company_id")
@click.argument("mailbox_id")
@acting_operator
@guarded
def mailbox_resume(company_id: str, mailbox_id: str, by: str) -> None:
    """Poll a paused mailbox again."""
    with _registry_as(by) as registry:
        registry.mailboxes.resume(company_id, mailbox_id, by=by)
    errors.print(f"Mailbox {printable(mailbox_id)} is active.")


@click.command("rescan")
@click.argument("company_id")
@click.argument("mailbox_id")
@guarded
def mailbox_rescan(company_id: str, mailbox_id: str) -> None:
    """Read everything within the horizon again.

    Known messages are published unchanged.
    """
    with open_registry(load_config()) as registry:
        registry.mailboxes.rescan(company_id, mailbox_id)
        state = registry.mailboxes.details(company_id, mailbox_id)["state"]
    errors.print(
        f"Mailbox {printable(mailbox_id)} is read again from the newest message back to the horizon"
        + ("." if state == "active" else f" once it is active; its state is {state}."),
        soft_wrap=True,
    )


@click.command("remove")
@click.argument("company_id")
@click.argument("mailbox_id")
@click.option("--by", default=OPERATOR, show_default=True, help="Person to record as withdrawing the consent.")
@in_language
@guarded
def mailbox_remove(company_id: str, mailbox_id: str, by: str, language: Language) -> None:
    """Withdraw the consent to read a mailbox.

    The mailbox is never read again; its password, address and user name are deleted.
    """
    with _registry_as(by) as registry:
        registry.mailboxes.remove(company_id, mailbox_id, by=by)
    errors.print(f"Mailbox {printable(mailbox_id)} is removed; its secrets are deleted.")
    for sentence in consent.load().remains[language]:
        echo(sentence)


@click.command("link")
@click.argument("company_id")
@click.argument("mailbox_id")
@click.argument("other_company_id")
@click.option("--by", required=True, help="Operator who decided it.")
@guarded
def mailbox_link(company_id: str, mailbox_id: str, other_company_id: str, by: str) -> None:
    """Allow another company to connect the same login.

    Each company reads the mailbox separately.
    """
    with _registry_as(by) as registry:
        registry.links.add(company_id, mailbox_id, other_company_id, by=by)
    errors.print(
        f"Company {printable(other_company_id)} may connect the login of mailbox {printable(mailbox_id)} too: replyrate mailbox add"
    )


@click.command("unlink")
@click.argument("company_id")
@click.argument("mailbox_id")
@click.argument("other_company_id")
@guarded
def mailbox_unlink(company_id: str, mailbox_id: str, other_company_id: str) -> None:
    """Undo `mailbox link`.

    The other company must have removed the mailbox first.
    """
    with open_registry(load_config()) as registry:
        registry.links.remove(company_id, mailbox_id, other_company_id)
    errors.print(
        f"Company {printable(other_company_id)} may no longer connect the login of mailbox {printable(mailbox_id)}."
    )


@contextmanager
def _registry_as(by: str) -> Iterator[Registry]:
    """The registry for a change that is recorded as done by `by`. Raises RegistryError when that is not a name."""
    check_name("--by", by)
    with open_registry(load_config()) as registry:
        yield registry
