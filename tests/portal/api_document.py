"""The document of the API: `python -m tests.portal.api_document` writes schemas/api.v1.yaml as the routes describe it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import yaml

from services.common.kafka import Publisher
from services.common.settings import PortalConfig, load_settings
from services.inquiries.publication import FactPublisher
from services.portal.api.app import create_api
from services.portal.database import TokenDatabase
from services.portal.resources import PortalResources
from services.standalone.servers.paths import ROOT

FILE = ROOT / "schemas" / "api.v1.yaml"
HEAD = "# Rendered from the routes of services/portal/api: python -m tests.portal.api_document\n"


def described() -> dict[str, Any]:
    """The document of the routes; opens no connection."""
    dsn = "postgresql://nobody@127.0.0.1:1/none"
    settings = load_settings(
        {"REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "REPLYRATE_POSTGRES__DSN": dsn}, PortalConfig
    )
    facts = FactPublisher(lambda: Publisher(settings.kafka, "tests"))
    return create_api(PortalResources(settings, TokenDatabase(dsn, 1), lambda: datetime.now(UTC), facts)).openapi()


def operations(document: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The operations of a document by method and path, like `GET /companies`."""
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


class _Dumper(yaml.SafeDumper):
    """Writes a schema that occurs twice in full, since not every reader of OpenAPI takes YAML's aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> str:
    """The text of the file."""
    return HEAD + yaml.dump(described(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    FILE.write_text(render(), "utf-8")
