"""What a seller does on the connect page, step by step, in a browser; in any language, since forms and fields have the same names."""

from dataclasses import dataclass

from tests.support.browser_lab import BrowserVisit

FINISHED_SECONDS = 150
RESULT = r"#progress:not([hx-sse\:connect]) .actions"
"""Of the page that is loaded with the result; no more stages are awaited on it."""
RESULT_LINK = "main a[href$='/result']"
PRESSES = 6
"""Of the link to the result; each answer is held for some seconds."""


@dataclass(frozen=True, slots=True)
class SellerSteps:
    """The steps in one window. Each leads to the next page and waits until it is shown."""

    window: BrowserVisit

    def open_link(self, link: str) -> None:
        """Open a link and press its button."""
        self.window.open(link)
        self.press("/link/")

    def consent(self, name: str = "Li Wei") -> None:
        """Agree to the text."""
        page = self.window.page
        page.fill("#name", name)
        page.check("#agreed")
        self.press("/connect/consent")

    def address(self, address: str) -> None:
        """Name the mailbox; where its server is not known, wait for the look-up of the fetcher."""
        self.window.page.fill("#address", address)
        self.press("/connect/address")

    def login(self, *, password: str, host: str | None = None, port: int | None = None, starttls: bool = False) -> None:
        """Type the password, and the server where it is another one than the page shows."""
        page = self.window.page
        page.fill("#password", password)
        if host is not None or port is not None:
            self.show_server()
            page.fill("#host", host or "")
            page.fill("#port", str(port or ""))
            page.set_checked("#starttls", starttls)
        self.press("/connect/login")

    def show_server(self) -> None:
        """Open the part of the form with the server."""
        page = self.window.page
        if not page.is_visible("#host"):
            page.click("form[method='post'][action='/connect/login'] details summary")

    def press(self, action: str) -> None:
        """The button of the form that goes to `action`, or to what begins with it."""
        self.window.page.click(f"form[method='post'][action^='{action}'] button[type=submit]")

    def go_on(self, path: str) -> None:
        """The link to a page of ours, whatever is behind its path."""
        self.window.page.click(f"main a[href^='{path}']")

    def until_looked_up(self) -> None:
        """Wait for the page of the password, with a server that a fetcher found; by hand when it found none."""
        page = self.window.page
        self._until(f"form[action='/connect/login'], {RESULT}")
        if not page.is_visible("form[action='/connect/login']"):
            self.go_on("/connect/login")

    def until_listed(self) -> None:
        """Wait for the choice of the folders, which the fetcher lists."""
        self._until("form[action$='/folders'] #folders")

    def until_finished(self) -> None:
        """Wait for the result of the test: live, or, without scripts, by the link to the result."""
        self._until(RESULT)

    def _until(self, selector: str) -> None:
        page = self.window.page
        if self.window.scripts == "no-scripts":
            for _ in range(PRESSES):
                if page.query_selector(selector):
                    return
                page.click(RESULT_LINK)
        page.wait_for_selector(selector, timeout=FINISHED_SECONDS * 1000)
