"""A platform's backend: registers a seller with its address, makes the link with which the seller connects a mailbox, publishes an inquiry, reads the rate.

    python examples/platform/backend.py https://replies.marketplace.example --key-file FILE --company shop-1 --account main

Needs the Python package `httpx`. FILE has an API key with the scopes registry:read, registry:write, connect:write, inquiries:write and numbers:read
(`replyrate api-key add`). Every request can be sent again: companies and accounts are registered once, an inquiry that is published
twice is one inquiry, and a link that is asked for twice within a day is one link (Idempotency-Key).
"""

import argparse
import hashlib
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

TRIES = 5
"""How often a request is sent again."""


class Backend:
    """Sends requests to the HTTP API of replyrate; docs/api.md describes it."""

    def __init__(self, url: str, key: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/v1", headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def send(self, method: str, path: str, body: object = None, *, key: str | None = None) -> Any:
        """The answer to a request. Sends it again after a pause when the service is busy; exits with the problem when it is refused.

        `key`: of the request, which is then carried out once; sent again within a day, it gets the first answer.
        """
        headers = {} if key is None else {"Idempotency-Key": key}
        response = self._client.request(method, path, json=body, headers=headers)
        for _ in range(TRIES):
            if response.status_code not in (429, 503):
                break
            time.sleep(int(response.headers["Retry-After"]))
            response = self._client.request(method, path, json=body, headers=headers)
        answer = response.json()
        if response.is_error:
            sys.exit(f"{method} {path}: {answer['title']}. {answer['detail']} {answer.get('errors', '')}")
        return answer

    def link(self, wanted: dict[str, Any], wish: str) -> str:
        """The link of a seller's wish to connect. It is sealed in the stored answer, and the same whenever the same is asked for."""
        key = hashlib.sha256(json.dumps([wish, wanted], sort_keys=True).encode()).hexdigest()
        url: str = self.send("POST", "/connect-sessions", wanted, key=key)["url"]
        return url

    def finished(self, request: Any) -> Any:
        """A request that a fetcher carries out, once it has; exits with the reason when it was refused."""
        while request["state"] in ("waiting", "running"):
            time.sleep(1)
            request = self.send("GET", f"/requests/{request['request_id']}")
        if request["state"] != "passed":
            sys.exit(f"{request['purpose']}: {request['code_text']['en']}")
        return request


def main() -> None:
    """Run the steps."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="public address of the portal")
    for name in ("--key-file", "--company", "--account"):
        parser.add_argument(name, required=True)
    parser.add_argument("--address", help="registered address of the account; the link then connects no other one")
    parser.add_argument(
        "--wish", default="first", help="name of the seller's wish to connect; another one gets a new link"
    )
    options = parser.parse_args()
    backend = Backend(options.url, Path(options.key_file).read_text("utf-8").strip())
    company = f"/companies/{quote(options.company, safe='')}"

    backend.send("PUT", company)
    backend.send("PUT", f"{company}/accounts/{quote(options.account, safe='')}", {"kind": "main"})

    wanted = {"company_id": options.company, "account_id": options.account, "expected_address": options.address}
    if options.address is not None:
        account = f"{company}/accounts/{quote(options.account, safe='')}"
        request = backend.finished(backend.send("PUT", f"{account}/addresses/registered", {"address": options.address}))
        for mailbox_id in request["report"]["reconnect"]:
            again = backend.link({**wanted, "mailbox_id": mailbox_id}, options.wish)
            print(f"The address of mailbox {mailbox_id} changed; the seller connects it again here: {again}")

    print(f"Send this link to the seller; it can be opened once: {backend.link(wanted, options.wish)}")

    inquiry = {
        "type": "inquiry",
        "company_id": options.company,
        "account_id": options.account,
        "inquiry_id": "A-1001",
        "received_at": datetime.now(UTC).isoformat(),
        "buyer": {"id": "buyer-71", "addresses": ["anna@harbour-tools.example"]},
        "message_ids": ["<ask-1001@platform.example>"],
    }
    print(f"Inquiries published: {backend.send('POST', '/inquiries:batch', [inquiry])['published']}")

    rates = backend.send("GET", f"{company}/rates")["items"]
    for rate in rates:
        who = rate["account_id"] or rate["company_id"]
        shown = rate["rate_missing"]["en"] if rate["rate"] is None else f"{rate['rate_shown']} %"
        print(f"{rate['rule_set']}, {who}, as of {rate['as_of']}: {shown}")
    if not rates:
        print("No rate yet: the first one appears within seconds of the first inquiry.")


if __name__ == "__main__":
    main()
