"""Log lines: one JSON object each, a closed vocabulary, no address in any of them."""

import json
import logging
from collections.abc import Iterator

import pytest

from services.common import logs


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_one_object_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info", "fetcher")
    logging.getLogger("services.x").info(
        "done\nhere", extra={"action": "mailbox-polled", "mailbox_id": "m1", "messages": 3}
    )
    (line,) = lines(capsys)
    assert line["service"] == "fetcher"
    assert line["action"] == "mailbox-polled"
    assert (line["mailbox_id"], line["messages"], line["text"]) == ("m1", 3, "done\nhere")
    assert str(line["at"]).endswith("Z")


def test_addresses_are_blotted_out_of_texts_fields_and_traces(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info", "fetcher")
    try:
        raise ValueError("who is <canary@mail.test>?")
    except ValueError:
        logging.getLogger("services.x").exception(
            "from canary@mail.test", extra={"action": "crashed", "who": "canary@mail.test"}
        )
    text = json.dumps(lines(capsys))
    assert "canary" not in text
    assert "ValueError" in text


def test_an_action_outside_the_list_does_not_enter_it(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info", "x")
    logging.getLogger("services.x").info("a", extra={"action": "made-up"})
    assert lines(capsys)[0]["action"] == "library"


def test_libraries_speak_only_from_warning_on(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "debug", "x")
    logging.getLogger("imapclient").debug("LOGIN user password")
    logging.getLogger("kafka").info("chatter")
    logging.getLogger("services.x").debug("ours")
    assert [line["text"] for line in lines(capsys)] == ["ours"]


def test_the_console_form_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("console", "info", "matcher")
    logging.getLogger("services.x").warning("odd", extra={"action": "dependency-away", "seconds": 2})
    text = capsys.readouterr().err
    assert "WARNING" in text and "odd seconds=2" in text
