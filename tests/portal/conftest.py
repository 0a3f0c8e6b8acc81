"""The browser of these tests: a single one for all files, since one process can drive only one."""

from tests.support.browser_lab import chromium, visit

__all__ = ["chromium", "visit"]
