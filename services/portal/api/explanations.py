"""Explanations for sellers: without details of mailboxes that are not of the reader's own account."""

from typing import Any


def without_mailboxes(story: dict[str, Any], own_account: str, hidden: str | None) -> dict[str, Any]:
    """An explanation (services/aggregator/explain.py) with `hidden` instead of the mailboxes of other accounts, and, if the unit is
    another account's, with nothing about how far they were read (`coverage`: None)."""

    def named(replies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {**reply, "mailbox_id": hidden if reply["mailbox_id"] and reply["account_id"] != own_account else reply["mailbox_id"]}
            for reply in replies
        ]  # fmt: skip

    shown = {**story, "facts": {**story["facts"], "replies": named(story["facts"]["replies"])}}
    if "considered" in story:
        shown["considered"] = named(story["considered"])
    if story.get("account_id") != own_account and "coverage" in story:
        shown["coverage"] = None
    return shown
