"""Somebody who uses the keyboard alone: what Tab reaches can be seen, and Enter and the space bar do what a click does."""

from dataclasses import dataclass
from typing import Any, Final

from tests.support.browser_lab import BrowserVisit

STOPS: Final = 150
"""More than a page has."""
FOCUSED: Final = """selector => {
    const focused = document.activeElement, box = focused.getBoundingClientRect(), style = getComputedStyle(focused);
    return {
        reached: focused.matches(selector),
        name: focused.outerHTML.slice(0, 200),
        isOutlined: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
        isInWindow: box.width > 0 && box.left > -1 && box.right < innerWidth + 1 && (box.height > innerHeight / 3
            ? box.top < innerHeight && box.bottom > 0 : box.top > -1 && box.bottom < innerHeight + 1),
    };
}"""
"""What has the focus: whether it matches a selector, has an outline, and is in the window; of a high element, a part of it."""
LIST_STOPS: Final = """() => {
    window.stops = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]')]
        .filter(element => element.checkVisibility({visibilityProperty: true}) && !element.disabled);
    return stops.length;
}"""
"""How many elements a page has that the keyboard must reach."""
STOP: Final = "() => window.stops.indexOf(document.activeElement)"
"""Which of these has the focus; -1 for none."""


@dataclass(frozen=True, slots=True)
class Keyboard:
    """The keys in one window."""

    window: BrowserVisit

    def press(self, *keys: str) -> None:
        """Press keys, one after another."""
        for key in keys:
            self.window.page.keyboard.press(key)

    def reach(self, selector: str, key: str = "Tab") -> None:
        """Press Tab until an element has the focus. Each stop on the way must be visible and outlined."""
        self.window.page.wait_for_load_state()  # the stylesheet has the outline
        seen: list[str] = []
        for _ in range(STOPS):
            self.press(key)
            focused: dict[str, Any] = self.window.page.evaluate(FOCUSED, selector)
            seen.append(focused["name"])
            assert focused["isOutlined"] and focused["isInWindow"], f"the focus cannot be seen: {focused}"
            if focused["reached"]:
                return
        raise AssertionError(f"{selector} is not reached: {seen}")

    def walk(self) -> int:
        """Press Tab through the whole page: every control is reached in the order of the document, each can be seen, and the last one can
        be left. Returns how many there are."""
        page = self.window.page
        page.wait_for_load_state()
        count: int = page.evaluate(LIST_STOPS)
        reached: list[int] = []
        for _ in range(3 * count + 5):  # a field for a day has three parts
            self.press("Tab")
            stop: int = page.evaluate(STOP)
            if len(reached) == count and stop != reached[-1]:
                break
            if not reached or stop != reached[-1]:
                reached.append(stop)
            focused: dict[str, Any] = page.evaluate(FOCUSED, "*")
            assert focused["isOutlined"] and focused["isInWindow"], f"the focus cannot be seen: {focused}"
        else:
            raise AssertionError(f"the last control is not left: {reached} of {count}")
        assert reached == list(range(count)), reached
        return count

    def skip(self) -> None:
        """Use the link past the header, which is the first stop of a new page; then the next stop is in the main part."""
        self.window.page.wait_for_load_state()
        self.press("Tab")
        assert self.has_focus("a.skip"), "the first stop is the way past the header"
        self.press("Enter")
        assert self.has_focus("#content")

    def type(self, selector: str, typed: str) -> None:
        """Go to a field and write over what is in it."""
        self.reach(selector)
        self.press("Control+a", "Delete")
        self.window.page.keyboard.type(typed)

    def send(self, action: str) -> None:
        """Go to the button of a form and press Enter; wait until the page has been left."""
        self.reach(f"form[method='post'][action^='{action}'] button[type=submit]")
        self.follow()

    def follow(self, key: str = "Enter") -> None:
        """Press a key that leads to another page, and wait for that."""
        with self.window.page.expect_navigation():
            self.press(key)

    def has_focus(self, selector: str) -> bool:
        """Whether an element has the focus."""
        return bool(self.window.page.evaluate(FOCUSED, selector)["reached"])
