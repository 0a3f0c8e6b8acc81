"""What servers say, and what it means."""

import pytest

from services.providers import server_texts


@pytest.mark.parametrize(
    ("stage", "text", "kind", "code"),
    [
        ("examine", "EXAMINE Unsafe Login. Please contact kefu@188.com for help", "refused", "unsafe-login"),
        ("login", "LOGIN Login error or password error", "refused", "authorization-code-or-server"),
        ("login", "Login fail. Account is abnormal, service is not open, password is incorrect, login frequency limited, or system is busy", "unclear", "login-unclear"),
        ("login", "LOGIN fail. Please using authorized code to login.", "refused", "authorization-code-needed"),
        ("login", "Please using weixin token to login", "refused", "client-password-needed"),
        ("login", "Basic authentication is disabled.", "refused", "oauth2-needed"),
        ("examine", "User is authenticated but not connected.", "later", "too-many-sessions"),
        ("login", "[ALERT] Application-specific password required: https://support.google.com/x (Failure)", "refused", "app-password-needed"),
        ("login", "[WEBALERT https://accounts.google.com/x] Web login required.", "refused", "app-password-needed"),
        ("login", "[AUTHENTICATIONFAILED] Invalid credentials (Failure)", "refused", "login-refused"),
        ("login", "[ALERT] Your account is not enabled for IMAP use.", "refused", "imap-off"),
        ("fetch", "[LIMIT] FETCH Rate limit hit.", "later", "throttled"),
        ("fetch", "[UNAVAILABLE] come back", "later", "throttled"),
        ("search", "Request is throttled. Suggested Backoff Time: 59320 milliseconds", "later", "throttled"),
        ("list", "[OVERQUOTA] x", "later", "throttled"),
        ("greeting", "BYE Too many connections", "later", "throttled"),
        ("login", "LOGIN frequency limited, please try later", "later", "throttled"),
        ("login", "[UNAVAILABLE] Temporary authentication failure.", "later", "throttled"),
        ("login", "[SERVERBUG] Internal error occurred. Refer to server log for more information.", "later", "throttled"),
        ("login", "[AUTHENTICATIONFAILED] too many wrong passwords", None, None),
        ("login", "[AUTHENTICATIONFAILED] Invalid credentials, try again later", "refused", "login-refused"),
        ("login", "b'[AUTHENTICATIONFAILED] Temporary authentication failure'", None, None),
        ("login", "[AUTHENTICATIONFAILED] Too many failed logins [LIMIT]", None, None),
        ("login", "Authentication rate limit from one source exceeded", "later", "throttled"),
        ("login", "[LIMIT] Too many authentication attempts. Try again later.", "later", "throttled"),
        ("login", "b'[LIMIT] AUTHENTICATE Rate limit hit.'", "later", "throttled"),
        ("login", "[LIMIT] wrong password", "later", "throttled"),
        ("login", "[limit] please using authorized code", "later", "throttled"),
        ("login", "[THROTTLED] authentication", "later", "throttled"),
        ("login", "[INUSE] Mailbox in use, authentication denied", "later", "throttled"),
        ("login", "[TEMPFAIL] Password database not reachable", "later", "throttled"),
        ("login", "Authentication failed: temporarily blocked", "later", "throttled"),
        ("login", "Too many failed password attempts", "later", "throttled"),
        ("login", "Authentication service unavailable", "later", "throttled"),
        ("login", "[ALERT] Invalid credentials (Failure)", "refused", "login-refused"),
        ("login", "Authentication failed. Check the password and try again.", None, None),
        ("fetch", "[SERVERBUG] Internal error occurred.", None, None),
        ("search", "[INUSE] x", "later", "throttled"),
        ("greeting", "b'* BYE System going down for maintenance'", "later", "throttled"),
        *(("login", text, "later", "throttled") for text in (
            "[ALERT] Your IP has been blocked for 10 minutes", "Maximum concurrent connections reached", "Authentication service not responding",
            "Authentication timed out", "Auth server connection lost", "LDAP server is down", "系统忙", "登录失败次数太多", "操作过快",
            "Anmeldung vorübergehend nicht möglich", "Server error", "login attempts blocked until 12:00",
            "Account locked for 30 min due to failed authentication", "quota of connections reached", "Slow down, authentication is delayed",
            "Login denied: authentication queue full", "Please retry authentication", "service degraded", "Connexion refusée, réessayez plus tard",
            "Ведутся технические работы", "Too fast", "LOGIN failed: simultaneous logins", "暂时无法登录",
        )),
        *(("login", text, None, None) for text in (
            "Login failed", "Authentication failed", "Password incorrect, please try again", "IMAP disabled for this user", "account blocked",
            "Account locked, contact the administrator", "用户名或密码错误",
        )),
        ("login", "wrong", None, None),
        ("examine", "no such folder", None, None),
        ("fetch", "operated separately", None, None),
    ],
)  # fmt: skip
def test_the_meaning_of_refusals(stage: str, text: str, kind: str | None, code: str | None) -> None:
    meaning = server_texts.meaning(stage, text)
    assert (None if meaning is None else (meaning.kind, meaning.code)) == (None if kind is None else (kind, code))
