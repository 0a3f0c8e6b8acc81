"""docs/privacy.md names what may be asked for and what an erase leaves."""

import re

from services.common.topics import DEAD, INQUIRIES, REPLIES, SENT
from services.imap.connection import HEADER_FIELDS
from services.standalone.servers.paths import ROOT
from tests.support.wire import HEADERS, allowed

PAGE = (ROOT / "docs" / "privacy.md").read_text("utf-8")


def test_the_page_names_the_header_fields_that_are_asked_for() -> None:
    listed = PAGE[PAGE.index("`MESSAGE-ID`") : PAGE.index("`CONTENT-TYPE`") + 20]
    assert tuple(re.findall(r"`([A-Z-]+)`", listed)) == HEADERS == tuple(HEADER_FIELDS.split())


def test_the_page_names_every_topic() -> None:
    for topic in (INQUIRIES, SENT, REPLIES, DEAD):
        assert f"`{topic}`" in PAGE


def test_a_missing_statement_is_noticed() -> None:
    assert allowed(b'EXAMINE "Sent"')
    for command in (
        b'SELECT "Sent"', b"UID STORE 1 +FLAGS (\\Seen)", b"UID FETCH 1 (BODY[])", b"UID FETCH 1 (BODY.PEEK[])",
        b'UID SEARCH SUBJECT "x"', b'STATUS "Sent" (MESSAGES)', b"EXPUNGE",
        b"UID FETCH 1 (UID INTERNALDATE RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)]<0.32768>)",
    ):  # fmt: skip
        assert not allowed(command), command
    headers = b"BODY.PEEK[HEADER.FIELDS (%s)]<0.32768>" % HEADER_FIELDS.encode()
    fetch = b"UID FETCH 1 (UID INTERNALDATE RFC822.SIZE FLAGS " + headers + b")"
    assert allowed(fetch) and not allowed(fetch, consented=False)
    assert allowed(b"UID FETCH 1,2 (UID INTERNALDATE)", consented=False)
