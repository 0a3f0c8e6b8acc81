"""`python -m tests.mail_servers`: writes the results of the last `make test-servers` into docs/dev/servers.md."""

import json

from tests.mail_servers.conftest import RESULTS
from tests.mail_servers.page import PAGE, render

if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text("utf-8"), json.loads(RESULTS.read_text("utf-8"))), "utf-8")
