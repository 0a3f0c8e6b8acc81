"""A seller who uses the keyboard alone: what Tab reaches can be seen, and Enter and the space bar do what a click does."""

from dataclasses import dataclass
from typing import Any, Final

from tests.support.browser_lab import BrowserVisit

STOPS: Final = 60
"""More than a page has."""
FOCUSED: Final = """selector => {
    const focused = document.activeElement, box = focused.getBoundingClientRect(), style = getComputedStyle(focused);
    return {
        reached: focused.matches(selector),
        name: focused.outerHTML.slice(0, 200),
        isOutlined: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
        isInWindow: box.width > 0 && box.top > -1 && box.bottom < innerHeight + 1 && box.left > -1 && box.right < innerWidth + 1,
    };
}"""
"""What has the focus: whether it matches a selector, has an outline, and is in the window."""


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
