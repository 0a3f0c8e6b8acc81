"""Every way in which reading a mailbox can fail, sign-in included: one family, so that one table of codes explains them all.

`code` is what a log line, a metric, the registry and the connection test carry; services/connect/texts.toml holds the
sentences of each code.
"""

from services.common.errors import ReplyrateError


class MailboxError(ReplyrateError):
    """Reading a mailbox failed. `stage` is where, `code` a short name for what; both are safe to log and to store.

    The text is for the operator. What a seller may see is the sentence of the code: it reveals nothing about the operator's
    network.
    """

    code = "broken"

    def __init__(self, stage: str, detail: str = "", *, code: str | None = None) -> None:
        self.stage = stage
        if code is not None:
            self.code = code
        super().__init__(f"{self.code} at {stage}" + (f": {detail}" if detail else ""))


class HostRefused(MailboxError):
    """The host must not be connected to (services.imap.host_policy)."""

    code = "host-refused"


class Unreachable(MailboxError):
    """No connection: DNS, TCP, or the server closed it."""

    code = "unreachable"


class TlsFailed(MailboxError):
    """No verified TLS."""

    code = "tls-failed"


class StarttlsMissing(TlsFailed):
    """The server does not start TLS on a port that begins without it."""

    code = "starttls-missing"


class StarttlsUnsafe(TlsFailed):
    """Something arrived before TLS that must not be there (services.imap.starttls)."""

    code = "starttls-unsafe"


class LoginRefused(MailboxError):
    """The server refused the login; `code` says more where the server's words do. A person must act; with `definite` no
    further attempt can succeed."""

    code = "login-refused"
    definite = False


class LoginUnclear(LoginRefused):
    """The server refused the login with words that may also mean "too often" (QQ): retried, but seldom."""

    code = "login-unclear"


class Throttled(MailboxError):
    """The server asks for fewer logins or sessions."""

    code = "throttled"


class NoSentFolder(MailboxError):
    """No folder is a Sent folder by choice, attribute or name."""

    code = "no-sent-folder"


class ServerBroken(MailboxError):
    """The server breaks the protocol."""

    code = "server-broken"


class CommandRefused(ServerBroken):
    """The server answers NO or BAD to a command that it should know."""


class TemporarilyRefused(CommandRefused):
    """The server answers NO with a code or words that may be temporary: the message is asked for again in a later poll."""


class SessionLimitReached(MailboxError):
    """The server sent too much, or too slowly (services.imap.limits)."""

    code = "budget-spent"


class AnswerTooSlow(SessionLimitReached):
    """The server did not answer a command, or not all of it, in time."""


# Raised by services.signin, at the stage "login".


class GrantEnded(LoginRefused):
    """The refresh token is void: revoked, expired, or the provider requires its owner to act. A retry cannot succeed."""

    code = "oauth2-grant-ended"
    definite = True


class TokenUnavailable(MailboxError):
    """The provider's sign-in service does not answer as it should; this is not counted against the mailbox."""

    code = "oauth2-unavailable"


class TokenThrottled(Throttled):
    """The provider's sign-in service asks for fewer requests."""

    code = "oauth2-unavailable"


class ClientRefused(MailboxError):
    """The provider refuses the operator's OAuth2 client, not the mailbox's owner."""

    code = "oauth2-client-refused"


class SignInNotConfigured(MailboxError):
    """The operator has registered no OAuth2 client for this server."""

    code = "oauth2-not-set-up"
