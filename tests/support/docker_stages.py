"""The Dockerfile as data: its stages, each with its parent and its instructions."""

import re
from typing import NamedTuple

from services.standalone.servers.paths import ROOT


class DockerStage(NamedTuple):
    """One `FROM parent AS name` of the Dockerfile and what follows it."""

    name: str
    parent: str
    text: str


def copied_rooms(target: str) -> list[str]:
    """The rooms of services/ that an image has, in the order in which they are copied."""
    stages = docker_stages()
    return re.findall(r"^COPY services/(\w+) ", stages["base"].text + stages[target].text, re.MULTILINE)


def docker_stages() -> dict[str, DockerStage]:
    """Name of a stage → the stage, in the order of the Dockerfile."""
    head, *parts = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    assert set(re.findall(r"^[A-Z]+", head, re.MULTILINE)) == {"ARG"}
    stages: dict[str, DockerStage] = {}
    for part in parts:
        line, text = part.split("\n", 1)
        parent, name = line.split(" AS ")
        stages[name] = DockerStage(name, parent, text)
    return stages
