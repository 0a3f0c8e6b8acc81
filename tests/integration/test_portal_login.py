"""The portal of an embedded installation has a login of its own, and none of the keys."""

from pathlib import Path

import psycopg
import pytest

from services.common import migrations
from services.common.postgres import connect
from services.standalone.servers.environment import service_environ
from services.standalone.servers.portal_login import portal_environ
from services.standalone.servers.postgres import EmbeddedPostgres


def test_the_portal_of_an_embedded_installation_has_its_own_rights_only(server_folder: Path, tmp_path: Path) -> None:
    with EmbeddedPostgres(server_folder / "postgres-portal") as server:
        dsn = server.create_database("portal")
        with connect(dsn, "tests") as connection:
            migrations.migrate(connection, lambda _: None)
        shared = service_environ(tmp_path, kafka="127.0.0.1:9", partitions=1, dsn=dsn)
        first = portal_environ(shared, dsn, 8480)
        again = portal_environ({**shared, "REPLYRATE_PORTAL__PUBLIC_URL": "https://replies.example"}, dsn, 8481)
        assert shared["REPLYRATE_VAULT_KEY_FILE"] and not {name for name in again if "KEY_FILE" in name}
        assert (first["REPLYRATE_PORTAL__PUBLIC_URL"], again["REPLYRATE_PORTAL__PUBLIC_URL"]) == (
            "http://127.0.0.1:8480", "https://replies.example",
        )  # fmt: skip
        assert again["REPLYRATE_PORTAL__PORT"] == "8481"
        # Every start has a password of its own.
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(first["REPLYRATE_POSTGRES__DSN"])
        with psycopg.connect(again["REPLYRATE_POSTGRES__DSN"], autocommit=True) as login:
            assert login.execute("SELECT current_user, count(*) FROM registry.companies").fetchone() == (
                "replyrate_portal", 0,
            )  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                login.execute("SELECT 1 FROM registry.secrets")
