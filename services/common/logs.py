"""Log lines: JSON on standard error, one object each, with an `action` out of a closed list.

A line carries opaque ids, counts and codes. Addresses, subjects and secrets do not belong into a log; a filter blots
out what looks like an address all the same, since texts of libraries end up here as well.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final

ACTIONS: Final[dict[str, str]] = {
    "service-started": "settings are read, dependencies answer, work begins",
    "service-stopping": "a signal was received; what is in hand is finished",
    "service-stopped": "everything is flushed and released",
    "configuration-refused": "a setting, the schema or a topic is not as it must be; the process ends with 78",
    "setting-unknown": "a name with our prefix is not a setting",
    "dependency-away": "Kafka or Postgres does not answer; the same work is tried again",
    "dependency-back": "Kafka or Postgres answers again",
    "record-rejected": "a record broke its contract and became a dead letter",
    "record-rerouted": "an inquiry lay in the wrong partition and was published again",
    "spans-lost": "no collector takes the spans; told once a minute",
    "record-traced": "a fact or state that carries a sampled traceparent was joined or merged",
    "partitions-assigned": "partitions came to this process",
    "partitions-revoked": "partitions left this process",
    "topic-recreated": "a topic has a new id; it is read from its start",
    "recovery-done": "state is rebuilt from the changelog",
    "state-unsure": "this process may differ from what is durable; it stops and replays",
    "state-dropped": "entries older than the horizon were dropped",
    "company-erased": "everything of a company was removed",
    "mailbox-polled": "a poll of a mailbox ended well",
    "mailbox-postponed": "the budget of logins or sessions at a provider is used up; the mailbox is polled later",
    "polls-drawn": "mailboxes are polled sooner, since a deadline of their account is near",
    "mailbox-failed": "a poll of a mailbox failed; its state says what is next",
    "mailbox-scan": "progress of a first scan or a rescan",
    "mailbox-lease-lost": "another process owns the mailbox now; nothing was written",
    "connection-tested": "a connection test of a mailbox failed; the text is for the operator alone",
    "login-taken": "a company wanted to connect a login that another company has; the text is for the operator alone",
    "message-rejected": "a mail could not be read and became a dead letter",
    "company-refreshed": "outcomes and rates of companies were written",
    "company-unjudged": "Postgres could not judge a company; it waits apart and is tried again",
    "rows-expired": "rows that need not be kept any longer were deleted",
    "rule-set-activated": "a rule set is to count; every company is judged by it first",
    "recompute-shown": "every company was judged by a rule set; its numbers are the ones that are shown",
    "library": "a line of a library that we use",
    "crashed": "an unexpected error; the process ends and may be restarted",
}
"""Every `action` with its meaning; docs/metrics.md lists them."""

_ADDRESS: Final = re.compile(r"[^\s@<>\"'(),;:=\[\]]{1,256}@[^\s@<>\"'(),;:=\[\]]{1,256}")
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "action"}


def redact(text: str) -> str:
    """`text` with everything that looks like an address, or carries a password in a URL, blotted out."""
    return _ADDRESS.sub("…@…", text)


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
            "text": redact(record.getMessage()),
        }
        for name, value in record.__dict__.items():
            if name not in _STANDARD and not name.startswith("_"):
                fields[name] = value if isinstance(value, int | float | bool | None) else redact(str(value))
        if record.exc_info:
            fields["trace"] = redact(logging.Formatter().formatException(record.exc_info))
        return fields


class JsonFormatter(logging.Formatter):
    """One JSON object per line: at, level, service, action, text, then the fields of the line."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._fields = _Fields(service)

    def format(self, record: logging.LogRecord) -> str:
        """The line for `record`, without a line break inside."""
        return json.dumps(self._fields.of(record), ensure_ascii=False, default=str)


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
        rest = " ".join(f"{name}={value}" for name, value in fields.items())
        line = f"{at[11:23]} {level.upper():7} {service} [{action}] {text} {rest}".rstrip()
        return f"{line}\n{trace}" if trace else line


def configure(format: str, level: str, service: str) -> None:
    """Send every log line of this process to standard error: ours from `level` on, those of libraries from warning on.

    `format` is `json` or `console`; `service` is the name that stands in each line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service) if format == "json" else ConsoleFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("services").setLevel(level.upper())
    # These would print every byte of a session at debug level; no setting may switch that on.
    for name in ("imapclient", "kafka", "aiokafka", "faust", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
