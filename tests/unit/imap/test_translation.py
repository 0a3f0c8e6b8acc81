"""A NO to FETCH: whether it may be about one message and pass by itself."""

import pytest

from services.imap.translation import is_temporary


@pytest.mark.parametrize(
    ("text", "temporary"),
    [
        ("[UNAVAILABLE] x", True), ("Backend timeout", True), ("mailbox locked", True), ("System Error", True), ("Server error", True),
        ("I/O error", True), ("Message store not responding", True), ("Service degraded", True), ("[SYS/TEMP] x", True), ("Lock timeout", True),
        ("Data store offline", True), ("Resource deadlock avoided", True), ("Storage node is down", True), ("connection refused", True), ("系统错误", True),
        ("Some messages could not be FETCHed (Failure)", False), ("FETCH failed", False), ("no such message", False), ("download refused", False),
        ("[LIMIT] temporarily limited", False), ("too many requests, try again", False),
    ],
)  # fmt: skip
def test_words_that_may_be_temporary(text: str, temporary: bool) -> None:
    assert is_temporary(text) is temporary
