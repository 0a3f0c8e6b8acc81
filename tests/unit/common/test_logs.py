"""Log lines: one JSON object each, a closed vocabulary, no address in any of them."""

import ast
import json
import logging
from collections.abc import Iterator

import pytest

from services.common import logs
from services.standalone.servers.paths import ROOT


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


HOSTILE = 'NO \x1b[2J\u009b31m\u202e\u2028 [/red] =cmd()\r\n{"action": "crashed"} \ud83d'


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_line_is_bounded_whatever_a_server_or_an_exception_says(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(form, "info", "fetcher")
    endless = "a word " * 300_000
    try:
        raise ValueError(endless)
    except ValueError:
        logging.getLogger("services.x").exception(
            "%s", endless, extra={"action": "crashed", "answer": endless, "names": [endless] * 3}
        )
    text = capsys.readouterr().err
    assert len(text) < logs.MAX_TEXT + 2 * logs.MAX_FIELD + logs.MAX_TRACE + 1000
    assert "ValueError" in text and "[…]" in text and text.count("Traceback") == 1


@pytest.mark.parametrize("length", range(logs.MAX_TEXT - 40, logs.MAX_TEXT + 5))
def test_a_cut_shows_no_part_of_an_address(length: int, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info", "fetcher")
    text = "x " * (length // 2) + "canary.name@mail.example " + "y" * 5000
    try:
        raise ValueError("x " * length + "canary.name@mail.example" + " y" * logs.MAX_TRACE + text)
    except ValueError:
        logging.getLogger("services.x").exception("%s", text)
    assert "canary" not in capsys.readouterr().err


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_text_from_outside_controls_a_terminal_or_makes_a_second_line(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(form, "info", "fetcher")
    logging.getLogger("services.x").warning("%s", HOSTILE, extra={"action": "mailbox-failed", "answer": HOSTILE})
    (line,) = capsys.readouterr().err.split("\n")[:-1]
    assert line.isprintable()
    if form == "json":
        fields = json.loads(line)
        assert fields["text"] == fields["answer"] == HOSTILE
        assert fields["action"] == "mailbox-failed"


def test_every_action_that_is_logged_is_in_the_list() -> None:
    logged = {
        action.value
        for path in sorted((ROOT / "services").rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call)
        for argument in call.keywords
        if argument.arg == "extra" and isinstance(argument.value, ast.Dict)
        for name, action in zip(argument.value.keys, argument.value.values, strict=True)
        if isinstance(name, ast.Constant) and name.value == "action" and isinstance(action, ast.Constant)
    }
    assert len(logged) > 30 and logged <= logs.ACTIONS.keys()
