"""The browser of these tests: one for all files."""

from tests.support.browser_lab import chromium, visit

__all__ = ["chromium", "visit"]
