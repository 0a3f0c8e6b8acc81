"""One request with a limit on the time and size of the whole answer.

http.client limits each read and not the sum of them, so a server that sends one byte every few seconds could hold a
worker for hours. A timer shuts the sockets down when the time is over; that ends a blocked read at once.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode, urlsplit

from services.imap.errors import TokenUnavailable

ANSWER_BYTES: Final = 64 * 1024
ANSWER_SECONDS: Final = 10.0


def post(
    url: str, form: Mapping[str, str], context: ssl.SSLContext, *, seconds: float = ANSWER_SECONDS
) -> tuple[int, bytes]:
    """POST a form; status and body of the answer, at most 64 KiB, within `seconds` in all. Redirects are not followed.

    TokenUnavailable when there is no complete answer.
    """
    return _request(
        url, "POST", urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"}, context, seconds
    )


def get(url: str, context: ssl.SSLContext, *, seconds: float = ANSWER_SECONDS) -> tuple[int, bytes]:
    """GET a document, with the limits of `post`. TokenUnavailable."""
    return _request(url, "GET", None, {}, context, seconds)


def _request(
    url: str, method: str, body: str | None, headers: Mapping[str, str], context: ssl.SSLContext, seconds: float
) -> tuple[int, bytes]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    sockets: list[socket.socket] = []
    connection = http.client.HTTPSConnection(host, parts.port or 443, context=context)

    timed_out = threading.Event()

    def shut_down() -> None:
        timed_out.set()
        for opened in sockets:
            try:
                opened.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    timer = threading.Timer(seconds, shut_down)
    timer.daemon = True
    try:
        plain = socket.create_connection((host, parts.port or 443), timeout=seconds)
        sockets.append(plain)
        timer.start()
        secured = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        sockets.append(secured)
        secured.do_handshake()
        connection.sock = secured
        connection.request(method, parts.path or "/", body, {**headers, "Accept": "application/json"})
        answer = connection.getresponse()
        received = answer.read(ANSWER_BYTES + 1)
    except ssl.SSLError as error:
        raise TokenUnavailable("login", f"TLS with the sign-in service failed: {error.reason or 'closed'}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TokenUnavailable("login", f"the sign-in service cannot be reached ({type(error).__name__})") from None
    finally:
        timer.cancel()
        connection.close()
        for opened in sockets:
            opened.close()
    if timed_out.is_set():  # what was cut off may look like a complete answer
        raise TokenUnavailable("login", "the sign-in service answers too slowly")
    if len(received) > ANSWER_BYTES:
        raise TokenUnavailable("login", "the sign-in service answers more than 64 KiB")
    return answer.status, received
