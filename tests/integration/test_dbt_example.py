"""examples/dbt on a demo world, with a login that reads the views only: its tests pass and its marts equal report_v1."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import conninfo, sql

from services.cli.pages import analysts
from services.common.postgres import connect
from services.standalone.servers.paths import ROOT
from tests.support.panel_world import seed_world

DBT = ROOT / ".cache" / "dbt" / "bin" / "dbt"
PROJECT = ROOT / "examples" / "dbt"
LOGIN = "analyst"
"""dbt starts slowly where several tests share two processors."""


@dataclass(frozen=True, slots=True)
class Warehouse:
    """A copy of the project beside a database with a demo world. `dsn`: of the database's owner."""

    dsn: str
    folder: Path
    environment: dict[str, str]

    def dbt(self, *words: str, code: int = 0) -> str:
        """What a dbt command prints."""
        assert DBT.exists(), "dbt is missing: run `make .cache/dbt/ready`"
        command = [
            str(DBT),
            "--no-use-colors",
            *words,
            "--project-dir",
            str(self.folder),
            "--profiles-dir",
            str(self.folder),
        ]
        result = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=300, check=False, cwd=self.folder
        )
        assert result.returncode == code, result.stdout[-4000:] + result.stderr[-2000:]
        return result.stdout

    def results(self) -> dict[str, str]:
        """Unique id → status of everything that the last build ran."""
        run = json.loads((self.folder / "target" / "run_results.json").read_text("utf-8"))
        return {result["unique_id"]: result["status"] for result in run["results"]}


@pytest.fixture(scope="module")
def warehouse(postgres: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    dsn = postgres()
    parts = conninfo.conninfo_to_dict(dsn)
    login = f"{parts['dbname']}_{LOGIN}"
    folder = tmp_path_factory.mktemp("dbt") / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("target", "logs"))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DBT_", "PG"))},
        "DO_NOT_TRACK": "1",
        "REPLYRATE_DBT_HOST": str(parts["host"]),
        "REPLYRATE_DBT_PORT": str(parts["port"]),
        "REPLYRATE_DBT_USER": login,
        "REPLYRATE_DBT_PASSWORD": "analysts-only",
        "REPLYRATE_DBT_DATABASE": str(parts["dbname"]),
        "REPLYRATE_DBT_SSLMODE": "disable",
    }
    with connect(dsn, "tests") as connection:
        seed_world(connection, seed=5)
        connection.execute("UPDATE ledger.companies SET judged_at = now()")  # as a refresh notes it
        identifier = sql.Identifier(login)
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'analysts-only' IN ROLE replyrate_dashboard").format(identifier)
        )
        connection.execute(sql.SQL("CREATE SCHEMA analytics AUTHORIZATION {}").format(identifier))
        yield Warehouse(dsn, folder, environment)
        connection.execute(sql.SQL("DROP OWNED BY {}").format(identifier))
        connection.execute(sql.SQL("DROP ROLE {}").format(identifier))


@pytest.fixture(scope="module")
def built(warehouse: Warehouse) -> Warehouse:
    """After `dbt build`, which runs the models and every test of sources and models."""
    warehouse.dbt("build")
    return warehouse


def rows(warehouse: Warehouse, statement: str) -> list[tuple[Any, ...]]:
    with connect(warehouse.dsn, "tests") as connection:
        return connection.execute(statement.encode()).fetchall()


def test_every_test_of_the_sources_passes(built: Warehouse) -> None:
    results = built.results()
    tests = [name for name in results if name.startswith("test.")]
    sources = yaml.safe_load(analysts.pages()["../examples/dbt/models/sources/report_v1.yml"])["sources"][0]["tables"]
    declared = sum(len(item.get("data_tests", ())) for table in sources for item in (table, *table["columns"]))
    assert len(tests) >= declared > 80
    assert {
        name: status
        for name, status in results.items()
        if status not in ("pass", "success") and not name.startswith("exposure.")
    } == {}


def test_the_sources_are_fresh(built: Warehouse) -> None:
    built.dbt("source", "freshness")
    sources = json.loads((built.folder / "target" / "sources.json").read_text("utf-8"))["results"]
    assert {result["unique_id"].rsplit(".", 1)[1]: result["status"] for result in sources} == {
        "reply_rate": "pass", "mailbox_health": "pass", "freshness": "pass",
    }  # fmt: skip


def test_numbers_that_nobody_judges_are_stale(built: Warehouse) -> None:
    with connect(built.dsn, "tests") as connection:
        connection.execute("UPDATE ledger.companies SET judged_at = now() - interval '51 hours'")
    assert "ERROR STALE" in built.dbt("source", "freshness", "--select", "source:report_v1.freshness", code=1)


def test_marts_add_up_to_the_counts_of_the_views(built: Warehouse) -> None:
    counts = "sum(inquiries), sum(counted), sum(timely), sum(unmeasured)"
    view = (
        f"SELECT company_id, {counts} FROM report_v1.reply_daily WHERE level = 'company' AND rule_set = 'default'"
        " GROUP BY company_id ORDER BY company_id"
    )
    expected = rows(built, view)
    assert len(expected) > 4 and sum(values[2] for values in expected) > 50
    for mart in ("reply_rate_by_week", "reply_rate_by_company"):
        assert (
            rows(built, f"SELECT company_id, {counts} FROM analytics.{mart} GROUP BY company_id ORDER BY 1") == expected
        )
    for _, _, counted, timely, _ in expected:
        assert timely <= counted
    by_company = dict(rows(built, "SELECT company_id, round(reply_rate, 12) FROM analytics.reply_rate_by_company"))
    assert by_company == {
        company: None if not counted else round(timely / counted, 12) for company, _, counted, timely, _ in expected
    }
    weeks = rows(built, "SELECT count(*), count(DISTINCT week), count(reply_rate) FROM analytics.reply_rate_by_week")
    assert weeks[0][0] > weeks[0][1] > 3 and weeks[0][2] > 10


def test_a_rate_is_a_ratio_of_sums_and_no_rate_is_summed(built: Warehouse) -> None:
    manifest = json.loads((built.folder / "target" / "semantic_manifest.json").read_text("utf-8"))
    measures = {
        measure["name"]: measure["agg"] for model in manifest["semantic_models"] for measure in model["measures"]
    }
    assert set(measures.values()) == {"sum"} and {"timely", "counted", "covered_seconds", "expected_seconds"} <= set(
        measures
    )
    assert not [name for name in measures if "rate" in name or "share" in name]
    ratios = {
        metric["name"]: (metric["type_params"]["numerator"]["name"], metric["type_params"]["denominator"]["name"])
        for metric in manifest["metrics"]
        if metric["type"] == "ratio"
    }
    assert ratios == {"reply_rate": ("timely", "counted"), "covered_share": ("covered_seconds", "expected_seconds")}
    exposures = json.loads((built.folder / "target" / "manifest.json").read_text("utf-8"))["exposures"]
    assert len(exposures) == 2


def test_the_model_for_exchange_computes_the_same(built: Warehouse) -> None:
    """Each metric of schemas/report_v1.osi.yaml runs as it is written, over the source that it names."""
    (model,) = yaml.safe_load(analysts.pages()["../schemas/report_v1.osi.yaml"])["semantic_model"]
    datasets = {dataset["name"]: dataset for dataset in model["datasets"]}
    values = {}
    for metric in model["metrics"]:
        expression = metric["expression"]["dialects"][0]["expression"]
        (name,) = [dataset for dataset in datasets if f"({dataset}." in expression]
        source = datasets[name]["source"]
        table = f"({source}) AS {name}" if source.startswith("SELECT") else f"{source} AS {name}"
        where = " WHERE rule_set = 'default'" if name == "reply_daily" else ""
        ((values[metric["name"]],),) = rows(built, f"SELECT {expression} FROM {table}{where}")
    ((timely, counted),) = rows(built, "SELECT sum(timely), sum(counted) FROM analytics.reply_rate_by_week")
    assert (values["timely"], values["counted"]) == (timely, counted)
    assert round(values["reply_rate"], 12) == round(timely / counted, 12)
    assert values["expected_seconds"] == sum(values[f"{part}_seconds"] for part in ("covered", "waiting", "gap"))
    for relationship in model["relationships"]:
        assert datasets[relationship["to"]]["primary_key"] == relationship["to_columns"]


def test_the_login_reads_the_views_only(warehouse: Warehouse) -> None:
    with psycopg.connect(
        warehouse.dsn, user=warehouse.environment["REPLYRATE_DBT_USER"], password="analysts-only", autocommit=True
    ) as analyst:
        assert analyst.execute("SELECT count(*) FROM report_v1.accounts").fetchone() != (0,)
        for statement in (
            "SELECT FROM ledger.inquiries",
            "SELECT FROM registry.mailboxes",
            "CREATE TABLE report_v1.mine ()",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                analyst.execute(statement.encode())
