"""schemas/asyncapi.yaml, schemas/README.md and the code name the same topics, types, policies."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.common.events import (
    TYPES,
)
from services.common.topics import ACCEPTED, changelog_name, specs

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
DOCUMENT: dict[str, Any] = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text())
CHANNELS: dict[str, dict[str, Any]] = {channel["address"]: channel for channel in DOCUMENT["channels"].values()}
MESSAGES: dict[str, dict[str, Any]] = DOCUMENT["components"]["messages"]
IN_TOPIC = {**ACCEPTED, changelog_name(): set()}


def resolve(reference: str) -> Any:
    """The target of a local $ref of the document."""
    target: Any = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        target = target[name]
    return target


def test_it_is_asyncapi_3() -> None:
    assert DOCUMENT["asyncapi"].startswith("3.")


def test_the_topics_are_those_of_the_code_with_their_policies() -> None:
    wanted = {spec.name: spec for spec in specs(partitions=12, horizon_days=60)}
    assert set(CHANNELS) == set(wanted) == set(IN_TOPIC)
    for name, channel in CHANNELS.items():
        binding = channel["bindings"]["kafka"]
        assert binding["topic"] == name
        assert binding["partitions"] == wanted[name].partitions
        documented = {key: ",".join(value) if isinstance(value, list) else str(value)
                for key, value in binding["topicConfiguration"].items()}  # fmt: skip
        assert documented == {key: value for key, value in wanted[name].configs.items() if key != "min.insync.replicas"}


def test_the_messages_are_the_types_and_refer_to_their_schemas() -> None:
    assert {message["name"] for message in MESSAGES.values()} == set(TYPES)
    for message in MESSAGES.values():
        file = SCHEMAS / message["payload"]["schema"]["$ref"]
        schema = json.loads(file.read_text())
        assert schema["properties"]["type"]["const"] == message["name"]


def test_a_topic_has_the_event_types_of_the_code() -> None:
    for name, channel in CHANNELS.items():
        documented = {resolve(message["$ref"])["name"] for message in channel.get("messages", {}).values()}
        assert documented == IN_TOPIC[name], name


def test_operations_agree_with_writers_and_readers() -> None:
    of = {"send": "x-writers", "receive": "x-readers"}
    operations = Counter(
        (resolve(operation["channel"]["$ref"])["address"], of[operation["action"]])
        for operation in DOCUMENT["operations"].values()
    )
    for name, channel in CHANNELS.items():
        for side in of.values():
            assert operations[name, side] == len([who for who in channel[side] if who != "anyone"]), (name, side)


@pytest.mark.parametrize("name", [*TYPES, *IN_TOPIC])
def test_the_page_names_every_type_and_topic(name: str) -> None:
    assert f"`{name}`" in (SCHEMAS / "README.md").read_text()


def test_writers_in_the_page_are_those_of_the_document() -> None:
    rows = [line.split("|") for line in (SCHEMAS / "README.md").read_text().splitlines() if "→" in line and "|" in line]
    for cells in rows[1:]:
        channel = CHANNELS[cells[1].strip().strip("`")]
        writers, readers = cells[4].split("→")
        assert all(who in writers for who in channel["x-writers"])
        assert all(who in readers for who in channel["x-readers"])
