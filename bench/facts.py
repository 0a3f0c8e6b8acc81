"""A narrow judgement of a company with the facts of a year beside one with those of 60 days: what old inquiries cost. Part of `PARTS=scale`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from bench.measure import Figure, scratch
from bench.narrow import narrow_seconds
from services.aggregator.judge import rules
from services.common import migrations
from services.common.postgres import connect
from services.standalone.servers.postgres import EmbeddedPostgres

DAYS: Final[Mapping[str, int]] = {"days-60": 60, "days-365": 365}
"""Company → days of facts."""
INQUIRIES_A_DAY: Final = 30
RULE_SETS: Final = ("default", "first-reply-24h")
NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)

COMPANY: Final = """
WITH company AS (INSERT INTO registry.companies (company_id) VALUES (%(company)s)),
account AS (INSERT INTO registry.accounts (company_id, account_id) SELECT %(company)s, 'a' || number FROM generate_series(0, 4) number)
INSERT INTO ledger.companies (company_id, judged_at) VALUES (%(company)s, %(now)s)
"""
INQUIRIES: Final = """
INSERT INTO ledger.inquiries (company_id, inquiry_id, account_id, received_at, facts_id, buyer_id, buyer_addresses, channel)
SELECT %(company)s, 'inquiry-' || number, 'a' || number %% 5, %(now)s - number * interval '1 day' / %(a_day)s, md5(number::text),
    'buyer-' || number, ARRAY[md5(number::text)], 'inquiry'
FROM generate_series(1, %(inquiries)s) number
"""
REPLIES: Final = """
INSERT INTO ledger.replies (company_id, inquiry_id, reply_id, source, account_id, mailbox_id, replied_at, evidence, kind, matched_by)
SELECT company_id, inquiry_id, md5(inquiry_id), 'mail', account_id, 'm', received_at + interval '3 hours', 'verified', 'human', matched_by
FROM ledger.inquiries, unnest(ARRAY['in-reply-to', 'references', 'buyer-address']) matched_by
WHERE company_id = %(company)s AND abs(hashtext(inquiry_id)::bigint) %% 3 < 2
"""


def measure(repeats: int) -> list[Figure]:
    """Measured once, whatever `repeats` is: CPU of the Postgres backend."""
    del repeats
    figure = Figure(
        "judgement_facts_year_vs_60_days", "Postgres' CPU, narrow judgement with the facts of 365 days ÷ with those of 60", 1.2,
        smaller_is_better=True,
    )  # fmt: skip
    with scratch() as folder, EmbeddedPostgres(folder / "postgres", durable=True) as server:
        with connect(server.create_database("bench"), "bench", statement_seconds=3600) as connection:
            migrations.migrate(connection, lambda _: None)
            _load(connection)
            for name in RULE_SETS:
                few, many = narrow_seconds(connection, rules.load_builtin(name), list(DAYS), NOW)
                figure.values.append(many / few)
                figure.detail[f"{name}: milliseconds"] = [round(1000 * seconds, 1) for seconds in (few, many)]
    return [figure]


def _load(connection: psycopg.Connection) -> None:
    for company_id, days in DAYS.items():
        values: dict[str, Any] = {
            "company": company_id, "now": NOW, "a_day": INQUIRIES_A_DAY, "inquiries": INQUIRIES_A_DAY * days,
        }  # fmt: skip
        for statement in (COMPANY, INQUIRIES, REPLIES):
            connection.execute(statement.encode(), values)
    connection.execute("VACUUM ANALYZE")
