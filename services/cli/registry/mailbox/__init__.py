"""Mailboxes: `mailbox consent-text|add|reconnect|test|list|show|history|pause|resume|rescan|remove|link|unlink`."""

import click

from services.cli.registry.mailbox.connect import mailbox_add, mailbox_reconnect
from services.cli.registry.mailbox.consent import mailbox_consent_text
from services.cli.registry.mailbox.lifecycle import (
    mailbox_link,
    mailbox_pause,
    mailbox_remove,
    mailbox_rescan,
    mailbox_resume,
    mailbox_unlink,
)
from services.cli.registry.mailbox.show import mailbox_history, mailbox_list, mailbox_show
from services.cli.registry.mailbox.test import mailbox_test


@click.group()
def mailbox() -> None:
    """Mailboxes whose Sent folders are read."""


for command in (
    mailbox_add,
    mailbox_consent_text,
    mailbox_history,
    mailbox_link,
    mailbox_list,
    mailbox_pause,
    mailbox_reconnect,
    mailbox_remove,
    mailbox_rescan,
    mailbox_resume,
    mailbox_show,
    mailbox_test,
    mailbox_unlink,
):
    mailbox.add_command(command)
