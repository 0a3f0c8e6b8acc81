"""Log lines: JSON on standard error, one object each, with an `action` from a closed list.

A line contains opaque ids, counts and codes. Addresses, subjects and secrets do not belong in a log; a filter masks
whatever looks like an address anyway, since texts of libraries are logged here as well.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final

from services.common.display import escaped_json, printable, printable_lines

ACTIONS: Final[dict[str, str]] = {
    "service-started": "settings are read, dependencies answer, work starts",
    "service-stopping": "a signal was received; work in progress is finished",
    "service-stopped": "everything is flushed and released",
    "configuration-refused": "a setting, the schema or a topic is wrong; the process exits with 78",
    "setting-unknown": "a name with our prefix is not a setting",
    "dependency-away": "Kafka or Postgres does not answer; the same work is tried again",
    "dependency-back": "Kafka or Postgres answers again",
    "record-rejected": "a record broke its contract and became a dead letter",
    "record-rerouted": "an inquiry was in the wrong partition and was published again",
    "spans-lost": "the collector does not accept spans; logged once a minute",
    "record-traced": "a fact or state that carries a sampled traceparent was joined or merged",
    "partitions-assigned": "partitions were assigned to this process",
    "partitions-revoked": "partitions were taken from this process",
    "clocks-differ": "Postgres' clock is ahead of the host's, or agrees with it again",
    "topic-recreated": "a topic has a new id, or its log ends before what was read; it is read from its start",
    "recovery-done": "state is rebuilt from the changelog",
    "state-unsure": "the state of this process may differ from the durable one; it stops and replays",
    "state-dropped": "entries older than the horizon were dropped",
    "mailboxes-polled": "how many polls ended how in the last minute, and what they published",
    "mailbox-polled": "a poll of a mailbox succeeded; at level debug",
    "mailbox-postponed": "the limit of logins or sessions at a provider is reached; the mailbox is polled later",
    "polls-drawn": "mailboxes are polled sooner because a deadline of their account is near",
    "mailbox-failed": "a poll of a mailbox failed; the state of the mailbox says what happens next",
    "mailbox-scan": "progress of a first scan or a rescan",
    "mailbox-lease-lost": "another process owns the mailbox now; nothing was written",
    "connection-tested": "a connection test of a mailbox failed; the text is for the operator only",
    "connect-request-ended": "a connect request of a seller was carried out",
    "connect-request-failed": "a connect request of a seller ended with an unexpected error; the seller can try again",
    "connect-requests-expired": "no fetcher carried out connect requests in time; what was typed into them was deleted",
    "request-failed": "a request to the HTTP API ended with an unexpected error",
    "login-taken": "a company tried to connect a login that belongs to another company; the text is for the operator only",
    "message-rejected": "a mail could not be read and became a dead letter",
    "company-refreshed": "outcomes and rates of companies were written",
    "company-unjudged": "a company could not be judged; it is in quarantine and tried again",
    "published-compacted": "messages that an older release had stored as they were sent were stored compactly; `rows` since the start of this run",
    "coverage-compacted": "rows of coverage that an older release had written for each poll were deleted; `rows` since the start of this run",
    "rows-expired": "rows whose retention is over were deleted",
    "rule-set-activated": "a rule set is being activated; every company is judged by it first",
    "recompute-shown": "every company was judged by a rule set; its numbers are shown now",
    "work-failed": "a check, replay, purge or comparison that the console ran ended with an error; its page says so",
    "sign-in-refused": "a seller's sign-in at a provider was refused",
    "staff-sign-in-failed": "a sign-in to the console failed; the text says why",
    "staff-without-role": "somebody without a role of the console signed in, and got no session",
    "units-archived": "final units were moved to a file of the archive",
    "archive-unreadable": "a file of the archive is missing or damaged",
    "archive-cleaned": "files that the archive does not list were removed",
    "archive-incomplete": "files that the archive lists are missing in its folder; none is removed meanwhile",
    "archive-unusable": "the folder of the archive is not set, not there, of another database, full or not writable",
    "library": "a log line of a library",
    "crashed": "an unexpected error; the process ends and may be restarted",
}
"""Every `action` with its meaning; docs/metrics.md lists them."""

MAX_TEXT: Final = 2_000
"""Characters of the text of a line: a mail server chooses what it answers."""
MAX_FIELD: Final = 500
"""Characters of another field."""
MAX_TRACE: Final = 16_000
"""Characters of a stack trace: its beginning and its end, where the error is."""
CUT: Final = " […] "
_PART: Final = 600
"""More characters than the pattern of an address may match."""
_BETWEEN: Final = frozenset("<>\"'(),;:=[]")
"""With white space: characters that no address contains, as the pattern below sees it."""
_ADDRESS: Final = re.compile(r"[^\s@<>\"'(),;:=\[\]]{1,256}@[^\s@<>\"'(),;:=\[\]]{1,256}")
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "action"}


def redact(text: str) -> str:
    """`text` with everything masked that looks like an address or is a password in a URL."""
    return _ADDRESS.sub("…@…", text)


def bounded(text: str, limit: int) -> str:
    """The beginning of `text`, of at most about `limit` characters, and no part of an address at its end."""
    if len(text) <= limit:
        return text
    return _until_break(text[:limit]) + CUT.rstrip()


def _bounded_trace(text: str) -> str:
    if len(text) <= MAX_TRACE:
        return text
    end = _until_break(text[: -MAX_TRACE // 2 - 1 : -1])[::-1]
    return _until_break(text[: MAX_TRACE // 2]) + CUT + end


def _until_break(text: str) -> str:
    """`text` up to the last character that no address contains, so that a cut leaves no part of one that is not masked."""
    for length in range(len(text), max(0, len(text) - _PART), -1):
        if text[length - 1].isspace() or text[length - 1] in _BETWEEN:
            return text[:length]
    return text[:-_PART]


class _Fields:
    def __init__(self, service: str) -> None:
        self._service = service

    def of(self, record: logging.LogRecord) -> dict[str, Any]:
        action = getattr(record, "action", None)
        fields: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "service": self._service,
            "action": action if action in ACTIONS else "library",
            "text": redact(bounded(record.getMessage(), MAX_TEXT)),
        }
        for name, value in record.__dict__.items():
            if name not in _STANDARD and not name.startswith("_"):
                fields[name] = (
                    value if isinstance(value, int | float | bool | None) else redact(bounded(str(value), MAX_FIELD))
                )
        if record.exc_info:
            fields["trace"] = redact(_bounded_trace(logging.Formatter().formatException(record.exc_info)))
        return fields


class JsonFormatter(logging.Formatter):
    """One JSON object per line: at, level, service, action, text, then the fields of the line."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._fields = _Fields(service)

    def format(self, record: logging.LogRecord) -> str:
        """The line for `record`, without a line break or a control character inside."""
        return escaped_json(json.dumps(self._fields.of(record), ensure_ascii=False, default=str))


class ConsoleFormatter(logging.Formatter):
    """The same fields for a person: time, level, text, then name=value."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._fields = _Fields(service)

    def format(self, record: logging.LogRecord) -> str:
        """The line for `record`; a traceback follows on lines of its own."""
        fields = self._fields.of(record)
        trace = fields.pop("trace", None)
        at, level, service, action, text = (
            str(fields.pop(name)) for name in ("at", "level", "service", "action", "text")
        )
        extra = " ".join(f"{name}={value}" for name, value in fields.items())
        text, extra = printable(text), printable(extra)
        line = f"{at[11:23]} {level.upper():7} {service} [{action}] {text} {extra}".rstrip()
        return f"{line}\n{printable_lines(trace)}" if trace else line


def configure(format: str, level: str, service: str) -> None:
    """Send every log line of this process to standard error: ours from `level` on, those of libraries from warning on.

    `format` is `json` or `console`; `service` is the name in each line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service) if format == "json" else ConsoleFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("services").setLevel(level.upper())
    # At debug level these would print every byte of a session; no setting may turn that on.
    for name in ("imapclient", "kafka", "aiokafka", "faust", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
