"""What the page of the causes offers: a mailbox is connected by its own account alone, and the button means the mailbox that fails."""

from typing import get_args

import pytest

from services.aggregator.doctor import diagnosis
from services.aggregator.doctor.causes import CAUSES
from services.portal.panel.findings import STEPS
from services.portal.panel.steps import OF_FOLDERS, WITHDRAWALS, Offer, Step, offer, withdrawable

Mailbox = dict[str, str | None]
HEALTHY: Mailbox = {"mailbox_id": "m-healthy", "state": "active", "state_reason": None}
FAILING: Mailbox = {"mailbox_id": "m-failing", "state": "needs_reconnect", "state_reason": "login-refused"}
REFUSED: Mailbox = {"mailbox_id": "m-refused", "state": "refused", "state_reason": "no-login-method"}
PAUSED: Mailbox = {"mailbox_id": "m-paused", "state": "paused", "state_reason": None}
WITHOUT_FOLDER: Mailbox = {"mailbox_id": "m-folder", "state": "active", "state_reason": "no-sent-folder"}
NOTHING_TO_DO = ("Nothing to do", "need not do anything", "Wait until then")
OF_MAILBOXES: tuple[Step, ...] = ("reconnect", "connect", "connect-backup", "folders", "test-mail")


def test_every_cause_has_a_step() -> None:
    assert set(STEPS) == {cause.code for cause in CAUSES}


def test_a_cause_with_nothing_to_do_says_so_in_its_advice() -> None:
    waiting = {code for code, step in STEPS.items() if step == "wait"}
    assert "provider-window-too-short" not in waiting and len(waiting) > 2
    for code in waiting:
        advice = diagnosis.advice_text(code, "seller", {}, "en")
        assert any(words in advice for words in NOTHING_TO_DO), code


@pytest.mark.parametrize("step", OF_MAILBOXES)
@pytest.mark.parametrize("is_framed", [False, True])
def test_only_the_own_account_is_led_to_a_mailbox(step: Step, is_framed: bool) -> None:
    mailboxes: list[Mailbox]
    for mailboxes in ([], [HEALTHY], [FAILING], [HEALTHY, FAILING]):
        assert offer(step, "company", mailboxes, is_framed=is_framed) == Offer("accounts")
        assert offer(step, "others", mailboxes, is_framed=is_framed) == Offer("that-account")


def test_whoever_looks_may_wait_and_look_at_inquiries() -> None:
    for step in set(get_args(Step)) - set(OF_MAILBOXES):
        for whose in ("company", "own", "others"):
            assert offer(step, whose, [], is_framed=True) == Offer(step)


def test_a_mailbox_is_chosen_only_without_doubt() -> None:
    assert offer("reconnect", "own", [HEALTHY, FAILING], is_framed=False) == Offer("reconnect", "m-failing")
    assert offer("reconnect", "own", [FAILING, FAILING], is_framed=False) == Offer("mailboxes")
    assert offer("reconnect", "own", [HEALTHY, HEALTHY], is_framed=False) == Offer("mailboxes")
    assert offer("reconnect", "own", [HEALTHY, REFUSED], is_framed=False) == Offer("reconnect", "m-healthy")
    assert offer("folders", "own", [HEALTHY, FAILING], is_framed=False) == Offer("mailboxes")
    assert offer("folders", "own", [HEALTHY], is_framed=False) == Offer("folders", "m-healthy")
    assert offer("reconnect", "own", [REFUSED], is_framed=False) == Offer("mailboxes")


def test_folders_are_chosen_without_the_password_where_a_working_one_is_stored() -> None:
    assert STEPS["wrong-sent-folder"] == "folders"
    for mailbox in (FAILING, PAUSED):
        assert offer("folders", "own", [mailbox], is_framed=False) == Offer("reconnect", mailbox["mailbox_id"])
    for reason in OF_FOLDERS:
        mailbox = WITHOUT_FOLDER | {"state_reason": reason}
        assert offer("reconnect", "own", [HEALTHY, mailbox], is_framed=False) == Offer("folders", "m-folder")
    assert offer("reconnect", "own", [FAILING, WITHOUT_FOLDER], is_framed=False) == Offer("mailboxes")
    stopped = WITHOUT_FOLDER | {"state": "paused"}
    assert offer("reconnect", "own", [stopped], is_framed=False) == Offer("reconnect", "m-folder")


def test_the_step_for_the_backup_address_connects_it_as_backup() -> None:
    assert STEPS["backup-not-connected"] == "connect-backup"
    assert offer("connect-backup", "own", [HEALTHY], is_framed=False) == Offer("connect", role="backup")
    assert offer("connect", "own", [FAILING], is_framed=False) == Offer("connect", role="registered")


def test_a_frame_changes_nothing() -> None:
    for step in OF_MAILBOXES:
        assert offer(step, "own", [FAILING], is_framed=True).place in ("mailboxes", "test-mail")


def test_a_mailbox_that_need_not_be_read_may_be_withdrawn() -> None:
    old, new, failed = (
        {"mailbox_id": name, "state": state, "state_reason": reason}
        for name, state, reason in (
            ("m-old", "needs_reconnect", "address-changed"), ("m-new", "active", None), ("m-failed", "pending_test", "login-refused"),
        )
    )  # fmt: skip
    assert withdrawable("address-changed", "own", [old, new], is_framed=False) == old
    assert withdrawable("address-changed", "own", [new], is_framed=False) is None
    assert withdrawable("mailbox-does-not-answer", "own", [new, failed], is_framed=False) == new
    assert withdrawable("mailbox-does-not-answer", "own", [old, new], is_framed=False) is None, "which one is not known"
    assert withdrawable("sent-not-stored", "own", [new], is_framed=False) is None
    for failing in (FAILING, PAUSED, WITHOUT_FOLDER):
        assert withdrawable("login-failing-since", "own", [new, failing], is_framed=False) == failing
    assert withdrawable("login-failing-since", "own", [new], is_framed=False) is None
    assert withdrawable("login-failing-since", "own", [FAILING, PAUSED], is_framed=False) is None, (
        "which one is not known"
    )
    for cause in WITHDRAWALS:
        assert cause in STEPS
        assert withdrawable(cause, "own", [old], is_framed=True) is None
        assert withdrawable(cause, "others", [old], is_framed=False) is None
        assert withdrawable(cause, "company", [old], is_framed=False) is None
