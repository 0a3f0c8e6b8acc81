"""An OpenID provider on loopback where people sign in by redirect: oidc-provider-mock over TLS, with what it lacks.

PKCE by S256 is enforced (RFC 7636), answers have `iss` (RFC 9207) and always the state, refresh tokens may come with the secret in the form
(RFC 6749 section 2.3.1), and each access token that was given is noted, so that a mail server of the lab accepts it.
"""

import base64
import io
import json
import ssl
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import oidc_provider_mock
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app

from services.signin.authorization import SignInSecrets
from services.standalone.servers.ca import CertificateAuthority


class SignInProvider:
    """A provider whose accounts are made by signing in; an account's address is its name unless `name_account` says otherwise."""

    def __init__(
        self, ca: CertificateAuthority, *, gives_refresh_token: bool = True, registered_clients: bool = False
    ) -> None:
        self.given: set[str] = set()
        """Valid access tokens; a mail server of the lab may share the set."""
        self.is_away = False
        self.token_forms: list[dict[str, str]] = []
        self.authorize_queries: list[dict[str, str]] = []
        self._challenges: dict[str, str] = {}
        self._app = oidc_provider_mock.app(
            require_client_registration=registered_clients, require_nonce=True, issue_refresh_token=gives_refresh_token
        )
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        files = ca.issue(f"provider-{self._server.port}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.ssl_context = context
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._browser = httpx.Client(verify=ssl.create_default_context(cafile=str(ca.ca_file)), timeout=30)

    @property
    def issuer(self) -> str:
        """Its origin."""
        return f"https://localhost:{self._server.port}"

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The settings of a client at this provider. The scope for mail is one that the provider knows."""
        return {
            "client_id": "our-client", "client_secret": "Client-canary", "authorize_url": f"{self.issuer}/oauth2/authorize",
            "token_url": f"{self.issuer}/oauth2/token", "issuer": self.issuer, "scopes": ("phone",), "hosts": ("localhost",),
            **changes,
        }  # fmt: skip

    def __enter__(self) -> "SignInProvider":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._browser.close()
        self._thread.join(10)

    def name_account(self, account: str, **claims: Any) -> None:
        """Set the claims of an account."""
        self._browser.put(f"{self.issuer}/users/{account}", json=claims).raise_for_status()

    def register(self, redirect_uri: str) -> dict[str, str]:
        """Register a client with one redirect URI; its id and secret."""
        body = {"redirect_uris": [redirect_uri], "token_endpoint_auth_method": "client_secret_post"}
        answer = self._browser.post(f"{self.issuer}/oauth2/clients", json=body).json()
        return {name: answer[name] for name in ("client_id", "client_secret")}

    def sign_in(self, url: str, account: str) -> str:
        """What a person does at the authorization endpoint: the address to which the provider leads back."""
        assert self._browser.get(url).status_code == 200
        return self._left(self._browser.post(url, data={"sub": account}))

    def refuse(self, url: str) -> str:
        """The person refuses."""
        return self._left(self._browser.post(url, data={"action": "deny"}))

    def page(self, url: str) -> httpx.Response:
        """The page that a person sees at an address of the provider."""
        return self._browser.get(url)

    @staticmethod
    def _left(response: httpx.Response) -> str:
        assert response.status_code == 302, response.text
        return response.headers["Location"]

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        challenge = code = ""
        if path == "/oauth2/authorize" and method == "POST":
            query = dict(parse_qsl(environ["QUERY_STRING"]))
            self.authorize_queries.append(query)
            assert query["code_challenge_method"] == "S256"
            challenge = query["code_challenge"]
        if path == "/oauth2/token":
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ["wsgi.input"] = io.BytesIO(body)
            form = dict(parse_qsl(body.decode()))
            self.token_forms.append(form)
            code = form.get("code", "")
            if self.is_away:
                return _reply(start_response, "503 Service Unavailable", {})
            if form["grant_type"] == "refresh_token":
                secret = f"{form['client_id']}:{form['client_secret']}".encode()
                environ["HTTP_AUTHORIZATION"] = f"Basic {base64.b64encode(secret).decode()}"
            if code and SignInSecrets(form["code_verifier"], "").challenge != self._challenges.get(code):
                return _reply(start_response, "400 Bad Request", {"error": "invalid_grant"})
        chunks, status, headers = run_wsgi_app(self._app, environ, buffered=True)
        raw = b"".join(chunks)
        if challenge and "Location" in headers:
            parts = urlsplit(headers["Location"])
            values = {name: shown[0] for name, shown in parse_qs(parts.query).items()}
            self._challenges[values.get("code", "")] = challenge
            values = {"state": query["state"], **values, "iss": self.issuer}
            headers["Location"] = parts._replace(query=urlencode(values)).geturl()
        if path == "/oauth2/token" and status.startswith("200"):
            self.given.add(json.loads(raw)["access_token"])
        start_response(status, headers.to_wsgi_list())
        return [raw]


def _reply(start_response: Any, status: str, answer: dict[str, Any]) -> list[bytes]:
    raw = json.dumps(answer).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(raw)))])
    return [raw]
