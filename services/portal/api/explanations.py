"""Explanations for sellers: without details of mailboxes that are not of the reader's own account."""

from typing import Any


def without_mailboxes(story: dict[str, Any], own_account: str, hidden: str | None) -> dict[str, Any]:
    """An explanation (services/aggregator/explain.py) with `hidden` instead of the mailboxes of other accounts, and, if the unit is
    another account's, with nothing about how far they were read (`coverage`: None)."""
    replies = [*story["facts"]["replies"], *story.get("considered", [])]
    own_mailboxes = {reply["mailbox_id"] for reply in replies if reply["account_id"] == own_account}

    def named(of_mail: dict[str, Any]) -> dict[str, Any]:
        mailbox_id = of_mail["mailbox_id"]
        return {**of_mail, "mailbox_id": mailbox_id if mailbox_id in own_mailboxes or not mailbox_id else hidden}

    shown = {**story, "facts": {**story["facts"], "replies": [named(reply) for reply in story["facts"]["replies"]]}}
    if "considered" in story:
        shown["considered"] = [named(reply) for reply in story["considered"]]
    if "unit" in story:
        shown["unit"] = named(story["unit"])
    if story.get("account_id") != own_account and "coverage" in story:
        shown["coverage"] = None
    return shown
