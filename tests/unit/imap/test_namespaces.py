"""Whose folders a server lists."""

import pytest

from services.imap.folders import Folder, choose_sent_folders, readable
from services.imap.namespaces import Namespaces, from_answer, is_personal

DOVECOT = Namespaces((b"",), (b"Shared/",))
CYRUS = Namespaces((b"INBOX.",), (b"user.", b""))
COURIER = Namespaces((b"INBOX.",), (b"#shared.", b"shared."))
UNKNOWN = Namespaces()


@pytest.mark.parametrize(
    ("namespaces", "name", "personal"),
    [
        (DOVECOT, b"Sent", True), (DOVECOT, b"Shared/colleague@firm.example/Sent", False), (DOVECOT, b"shared/colleague/Sent", False),
        (DOVECOT, b"Work/Shared/Sent", True), (DOVECOT, b"Other Users/alice/Sent", False),
        (CYRUS, b"INBOX.Sent", True), (CYRUS, b"INBOX", True), (CYRUS, b"Sent", False), (CYRUS, b"user.alice.Sent", False),
        (CYRUS, b"Inbox.Sent", True), (COURIER, b"INBOX.Sent", True), (COURIER, b"shared.sales.Sent", False), (COURIER, b"Sent", False),
        (UNKNOWN, b"Sent", True), (UNKNOWN, b"INBOX.Sent", True), (UNKNOWN, b"[Gmail]/Sent Mail", True), (UNKNOWN, b"Projects/Sent", True),
        (UNKNOWN, b"Shared/alice/Sent", False), (UNKNOWN, b"shared.alice.Sent", False), (UNKNOWN, b"Other Users/alice/Sent", False),
        (UNKNOWN, b"user.alice.Sent", False), (UNKNOWN, b"#shared/alice/Sent", False), (UNKNOWN, b"Public Folders/Sent", False),
        (UNKNOWN, b"INBOX.shared.alice.Sent", False), (UNKNOWN, b"~alice/Sent", False), (UNKNOWN, "共享文件夹/张/已发送".encode(), False),
        (UNKNOWN, b"&UXFOq2WHTvZZOQ-/x/&XfJT0ZAB-", False), (UNKNOWN, b"Shared", True),
        (Namespaces((b"Shared/me/", b""), (b"Shared/",)), b"Shared/me/Sent", True),
        (Namespaces((b"",), (b"",)), b"Sent", False),
    ],
)  # fmt: skip
def test_the_longest_prefix_decides_whose_a_folder_is(namespaces: Namespaces, name: bytes, personal: bool) -> None:
    assert is_personal(name, namespaces) is personal


def test_the_answer_to_namespace_has_three_groups() -> None:
    parsed = (((b"", b"/"), (b"#mh/", b"/", b"X-PARAM", (b"a",))), ((b"~", b"/"),), None)
    assert from_answer(parsed) == Namespaces([b"", b"#mh/"], [b"~"])
    for broken in ((), (None,), ((b"x",), None, None), (7, 8, 9)):
        with pytest.raises((ValueError, TypeError)):
            from_answer(broken)


def test_only_folders_that_can_be_opened_and_are_not_below_the_trash_are_read() -> None:
    closed = [
        Folder(b"Sent", frozenset((b"\\nonexistent", b"\\sent"))),
        Folder(b"Sent Mail", frozenset((b"\\noselect", b"\\sent"))),
    ]
    discarded = [
        Folder(b"Bin-1", frozenset((b"\\trash",))), Folder(b"Bin-1/Sent", frozenset((b"\\sent",))), Folder(b"Trash/Sent", frozenset()),
        Folder(b"INBOX.Junk.Sent", frozenset()), Folder(b"Deleted Items/old/Sent", frozenset()), Folder(b"&V4NXPpCuTvY-/Sent", frozenset()),
    ]  # fmt: skip
    own = [Folder(b"Sent Items", frozenset()), Folder(b"Bin-1x/Sent", frozenset())]
    assert readable([*closed, *discarded, *own], UNKNOWN) == [discarded[0], *own]
    chosen = choose_sent_folders(readable([*closed, *discarded, *own], UNKNOWN), [b"Sent"])
    assert [folder.name for folder in chosen] == [b"Bin-1x/Sent", b"Sent Items"]
