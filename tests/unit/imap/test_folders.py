"""Folder names as people and as servers write them, and names of Sent folders."""

import pytest

from services.imap.folders import Folder, folder_name, folder_text, is_sent_name, other_sent_folders


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"&XfJT0ZAB-", "已发送"), (b"Sent", "Sent"), (b"R&-D", "R&D"), (b"A&-B-C", "A&B-C"), (b"&-", "&"),
        (b"R&-D &XfJT0ZAB-", "R&D 已发送"), (b"INBOX.Envoy&AOk-s", "INBOX.Envoyés"), (b"a+b", "a+b"),
    ],
)  # fmt: skip
def test_a_folder_name_can_be_typed_as_it_is_shown(raw: bytes, text: str) -> None:
    assert folder_text(raw) == text and folder_name(text) == raw and folder_name(raw.decode()) == raw


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        (b"Sent", True), (b"Sent Messages", True), (b"[Gmail]/&XfJT0ZCuTvY-", True), (b"&W8RO9lCZTv0-", True), (b"INBOX.Sent", True),
        (b"&kAFP4W4IMH8w4TD8MOs-", True), (b"&AMk-l&AOk-ments envoy&AOk-s", True), (b"&BB4EQgQ,BEAEMAQyBDsENQQ9BD0ESwQ1-", True),
        (b"Sent to clients", False), (b"&U9FO9nux-", False), (b"Drafts", False), (b"\xff\xfe", False), (b"&broken", False),
    ],
)  # fmt: skip
def test_names_of_sent_folders(name: bytes, sent: bool) -> None:
    assert is_sent_name(name) is sent


def test_plain_utf8_is_shown_as_it_is() -> None:
    assert folder_text("已发送".encode("gb18030")) == "已发送" and is_sent_name(b"INBOX." + "已发送邮件".encode("gbk"))
    assert folder_text("已发送".encode()) == "已发送" and folder_text(b"\xff\x07") == "\ufffd\ufffd"


@pytest.mark.parametrize(
    ("names", "watched", "counted"),
    [
        (["INBOX", "Sent", "Sent/2024", "Sent/2025", "Archive/2025"], ["Sent"], ["Sent/2025", "Sent/2024"]),
        (["INBOX.Sent", "INBOX.Sent.2025", "INBOX.Sent2025"], ["INBOX.Sent"], ["INBOX.Sent.2025"]),
        (["Sent", "Sent Messages", "Sent Messages/old"], ["Sent"], ["Sent Messages", "Sent Messages/old"]),
        (["Sent", *(f"Sent/{year}" for year in range(2015, 2026))], ["Sent"], [f"Sent/{year}" for year in range(2025, 2020, -1)]),
        (["Out", "Out/a", "Sent"], ["Out"], ["Sent", "Out/a"]),
        (["INBOX", "Sent"], ["Sent"], []),
    ],
)  # fmt: skip
def test_folders_for_sent_mail_that_are_not_read(names: list[str], watched: list[str], counted: list[str]) -> None:
    listed = [Folder(name.encode(), frozenset()) for name in names]
    assert other_sent_folders(listed, [name.encode() for name in watched]) == [name.encode() for name in counted]
