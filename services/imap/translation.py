"""Errors of imapclient, imaplib and sockets → the family in services.imap.errors."""

import imaplib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from imapclient import exceptions

from services.imap.errors import (
    AnswerTooSlow,
    CommandRefused,
    LoginRefused,
    LoginUnclear,
    MailboxError,
    ServerBroken,
    TemporarilyRefused,
    Throttled,
    Unreachable,
)
from services.providers import server_texts

_BYE: Final = re.compile(r"\* *BYE\b", re.I)
_NOT_IMAP: Final = re.compile(r"(command: \S+ => )?unexpected (tagged )?response: ")
"""imaplib's own words; a BYE may contain the first of them as well."""
TEMPORARY: Final = re.compile(
    r"\[(TEMPFAIL|SERVERBUG|UNAVAILABLE|INUSE|CONTACTADMIN|SYS/TEMP|SYS)\]|temporar|unavailable|try again|retry|internal (server )?error"
    r"|timed? ?out|(system|server|backend|storage|store|database|i/o|disk) (error|failure)|backend|not respond|\block(ed)?\b|deadlock|in use"
    r"|\b(offline|down|degraded|overloaded|maintenance)\b|connection (refused|lost|reset|failed)|系统错误|服务器错误|稍后|稍候|暂时|维护",
    re.I,
)
"""Words of a NO to FETCH that may be temporary (RFC 5530 §3; Gmail, Microsoft and Zimbra send them without a code; MailKit #839)."""
LIMITED: Final = re.compile(r"too many|\blimit|\[limit|throttl|\brate\b|frequen|overquota|频繁", re.I)
"""Words of a NO that are about this client and not about a message, although it also contains temporary words."""


@contextmanager
def translated(stage: str) -> Iterator[None]:
    """Translate errors raised inside. Words of the server stay out of them: they may hold names."""
    try:
        yield
    except MailboxError as error:
        error.stage = stage if error.stage in ("read", "send") else error.stage
        raise
    except exceptions.ProtocolError:
        raise ServerBroken(stage, "an answer that cannot be parsed") from None
    except imaplib.IMAP4.abort as error:
        if not _BYE.search(str(error)) and _NOT_IMAP.match(str(error)):
            raise ServerBroken(stage, "an answer that is not IMAP") from None
        raise refusal(stage, error) or Unreachable(stage, "the server closed the connection") from None
    except (exceptions.IMAPClientError, imaplib.IMAP4.error) as error:
        if stage == "greeting" and _BYE.search(str(error)):
            # With or without a text it is the end of this session only (RFC 3501 §7.1.5).
            raise _if_temporary(refusal(stage, error)) or Unreachable(stage, "the server says BYE") from None
        if stage == "fetch" and is_temporary(str(error)):
            raise TemporarilyRefused(stage, "the server refused the command for now") from None
        raise refusal(stage, error) or CommandRefused(stage, "the server refused the command") from None
    except TimeoutError:
        raise AnswerTooSlow(stage, "the server answers too slowly") from None
    except OSError as error:
        raise Unreachable(stage, type(error).__name__) from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, RecursionError, OverflowError):
        # imapclient's parser raises these on answers that are not IMAP.
        raise ServerBroken(stage, "an answer that cannot be parsed") from None


def _if_temporary(error: MailboxError | None) -> MailboxError | None:
    return error if isinstance(error, Throttled) else None


def is_temporary(text: str) -> bool:
    """Whether a NO to FETCH may be about one message and pass by itself."""
    head = text[:1000]
    return TEMPORARY.search(head) is not None and LIMITED.search(head) is None


def refusal(stage: str, error: Exception) -> MailboxError | None:
    """The meaning of the server's words in `error`, without the words; None when they are not known (server_texts.toml)."""
    meaning = server_texts.meaning(stage, str(error))
    if meaning is None:
        return None
    if meaning.kind == "later":
        return Throttled(stage, code=meaning.code)
    return (LoginUnclear if meaning.kind == "unclear" else LoginRefused)(stage, code=meaning.code)
