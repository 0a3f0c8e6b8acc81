"""`doctor --probe`: waits for a mail that the seller sends to themselves, and says whether the server filed it."""

import sys
import time
from datetime import datetime
from typing import Any, cast

import psycopg

from services.aggregator.texts import Texts
from services.cli.output import SafeConsole, errors, print_json
from services.common.errors import EXIT_FAILED
from services.common.language import Language
from services.connect import texts
from services.connect.probe import (
    ASK_SECONDS,
    PROBE_MOST_SECONDS,
    READING_SECONDS,
    SEND_SECONDS,
    MailboxSighting,
    ProbeReading,
    SentMailProbe,
    begin,
    waiting_seconds,
)
from services.registry import states
from services.registry.states import State


def run_probe(
    connection: psycopg.Connection,
    company_id: str,
    account_id: str | None,
    wait: int | None,
    text: Texts,
    lang: str,
    json_: bool,
) -> None:
    """Run a probe and print its verdict; exits with 1 when the mail was not filed."""
    probe = SentMailProbe(connection, company_id, begin(connection, company_id, account_id))
    started = time.monotonic()
    reading = _wait_for_mail(probe, wait, text, lang)
    seconds = round(time.monotonic() - started)
    if json_:
        print_json({"company_id": company_id, "account_id": account_id, "since": probe.since, "seconds": seconds,
                    "verdict": reading.verdict,
                    "mailboxes": [_sighting_data(sighting) for sighting in reading.mailboxes]})  # fmt: skip
    else:
        SafeConsole().print(text("probe", reading.verdict), markup=False)
    if reading.verdict != "filed":
        sys.exit(EXIT_FAILED)


def _wait_for_mail(probe: SentMailProbe, wait: int | None, text: Texts, lang: str) -> ProbeReading:
    """Request polls and read their result, until the mail is there, no mailbox can be read, or the time is up."""
    started, announced = time.monotonic(), dict[str, tuple[bool, datetime]]()
    reading = probe.read()
    seconds = waiting_seconds(probe.since, reading, wait)
    if not reading.over:
        errors.print(text("probe", "begin", seconds=seconds), markup=False)
    with errors.status("") as status:
        while True:
            for sighting in reading.mailboxes:
                if announced.get(sighting.mailbox_id) != (sighting.failing, sighting.reading_at):
                    announced[sighting.mailbox_id] = (sighting.failing, sighting.reading_at)
                    _announce(probe.since, sighting, seconds, text, lang)
            seconds_left = started + seconds - time.monotonic()
            if reading.over or seconds_left <= 0:
                return reading
            probe.request_polls(reading)
            status.update(text("probe", "waiting", left=round(seconds_left)))
            time.sleep(min(1, seconds_left))
            reading = probe.read()
            seconds = max(seconds, waiting_seconds(probe.since, reading, wait))


def _announce(since: datetime, sighting: MailboxSighting, seconds: int, text: Texts, lang: str) -> None:
    """Print why a mailbox is not read, or when it will be where that takes long."""
    values = {
        "mailbox": sighting.mailbox_id, "spacing": round(sighting.spacing_seconds), "at": f"{sighting.reading_at:%H:%M:%S} UTC",
    }  # fmt: skip
    if sighting.failing:
        language = cast(Language, lang)
        is_active = sighting.state == "active"
        state_name = states.load().names[cast(State, sighting.state)].text(language)
        state = text("probe", "failed") if is_active else state_name
        because = texts.state_reason(sighting.state_reason, language) or state + ("。" if lang == "zh" else ".")
        code = "failing-again" if is_active else "failing-over"
        errors.print(text("probe", code, because=because, **values), style="yellow", markup=False, soft_wrap=True)
    elif sighting.spacing_seconds > ASK_SECONDS and not sighting.read:
        due = round((sighting.reading_at - since).total_seconds())
        errors.print(text("probe", "spaced", due=due, send=SEND_SECONDS, **values), markup=False, soft_wrap=True)
        if due + READING_SECONDS > seconds:
            errors.print(
                text("probe", "too-short", seconds=min(due + READING_SECONDS, PROBE_MOST_SECONDS), **values),
                style="yellow", markup=False, soft_wrap=True,
            )  # fmt: skip


def _sighting_data(sighting: MailboxSighting) -> dict[str, Any]:
    return {
        "mailbox_id": sighting.mailbox_id,
        "state": sighting.state,
        "state_reason": sighting.state_reason,
        "failing": sighting.failing,
        "read": sighting.read,
        "new": sighting.new,
        "own": sighting.own,
        "gone": sighting.gone,
        "reading_at": sighting.reading_at,
        "spacing_seconds": sighting.spacing_seconds,
    }
