-- migrate:up
-- additive: yes

-- Facts and outcomes of final units older than REPLYRATE_AGGREGATOR__KEEP_UNITS_DAYS leave Postgres as Parquet files
-- (docs/decisions/0096). What stays here: which files there are, which inquiries are in them, and what the judgement of younger
-- ones needs to know of them.

CREATE TABLE ledger.archive (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    archive_id uuid NOT NULL DEFAULT gen_random_uuid(),
    begins_at timestamptz NOT NULL
);
COMMENT ON TABLE ledger.archive IS
    'Identity of the archive, which its folder repeats. Its row is locked while files are written or removed.';
COMMENT ON COLUMN ledger.archive.begins_at IS 'Nothing is archived before: a day after an upgrade, when aggregators of earlier releases are gone.';
INSERT INTO ledger.archive (begins_at)
SELECT statement_timestamp() + CASE WHEN EXISTS (SELECT FROM ledger.companies) THEN interval '1 day' ELSE interval '0' END;

CREATE TABLE ledger.archive_files (
    file_id uuid PRIMARY KEY,
    path text COLLATE "C" NOT NULL UNIQUE,
    company_group smallint NOT NULL,
    month date NOT NULL,
    schema_version smallint NOT NULL,
    inquiries integer NOT NULL,
    bytes bigint NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    is_outdated boolean NOT NULL DEFAULT false,
    superseded_at timestamptz
);
CREATE INDEX archive_files_outdated ON ledger.archive_files (file_id) WHERE is_outdated;
COMMENT ON TABLE ledger.archive_files IS 'Parquet files of the archive. A file that is not listed here does not count and is removed a day after it was written.';
COMMENT ON COLUMN ledger.archive_files.path IS 'Relative to the folder of the archive.';
COMMENT ON COLUMN ledger.archive_files.month IS 'UTC month of the latest receipt of each unit group in the file.';
COMMENT ON COLUMN ledger.archive_files.is_outdated IS 'The file has rows of a company that was erased or restored, and is written again without them.';
COMMENT ON COLUMN ledger.archive_files.superseded_at IS 'Since when the file does not count, since it was written again; it is removed a day later.';

CREATE TABLE ledger.archive_parts (
    part_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file_id uuid NOT NULL REFERENCES ledger.archive_files,
    company_id text COLLATE "C" NOT NULL,
    inquiries integer NOT NULL,
    first_received_at timestamptz NOT NULL,
    last_received_at timestamptz NOT NULL,
    first_fact_at timestamptz NOT NULL,
    last_fact_at timestamptz NOT NULL,
    archived_at timestamptz NOT NULL
);
CREATE INDEX archive_parts_company ON ledger.archive_parts (company_id);
CREATE INDEX archive_parts_file ON ledger.archive_parts (file_id);
COMMENT ON TABLE ledger.archive_parts IS 'The rows of a company in a file of the archive.';
COMMENT ON COLUMN ledger.archive_parts.last_fact_at IS 'The latest receipt, status or reply.';

CREATE TABLE ledger.archived_inquiries (
    company_id text COLLATE "C" NOT NULL,
    inquiry_id text COLLATE "C" NOT NULL,
    part_id bigint NOT NULL REFERENCES ledger.archive_parts ON DELETE CASCADE,
    received_at timestamptz NOT NULL,
    thread_key bigint,
    PRIMARY KEY (company_id, inquiry_id)
);
CREATE INDEX archived_inquiries_part ON ledger.archived_inquiries (part_id);
CREATE INDEX archived_inquiries_thread ON ledger.archived_inquiries (company_id, thread_key) WHERE thread_key IS NOT NULL;
COMMENT ON TABLE ledger.archived_inquiries IS 'Which inquiries are archived: a later record of one is not counted as a new inquiry.';
COMMENT ON COLUMN ledger.archived_inquiries.thread_key IS 'Hash of buyer and thread.';

CREATE TABLE ledger.archived_accounts (
    part_id bigint NOT NULL REFERENCES ledger.archive_parts ON DELETE CASCADE,
    company_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    named_at timestamptz NOT NULL,
    PRIMARY KEY (part_id, account_id)
);
CREATE INDEX archived_accounts_company ON ledger.archived_accounts (company_id);
COMMENT ON TABLE ledger.archived_accounts IS 'Accounts that archived facts name, and since when: they keep their rows of reply_rate.';

CREATE TABLE ledger.archived_days (
    part_id bigint NOT NULL REFERENCES ledger.archive_parts ON DELETE CASCADE,
    rule_set text COLLATE "C" NOT NULL,
    company_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    day date NOT NULL,
    outcome text COLLATE "C" NOT NULL,
    inquiries integer NOT NULL,
    excluded integer NOT NULL,
    units integer NOT NULL,
    PRIMARY KEY (part_id, rule_set, account_id, day, outcome)
);
CREATE INDEX archived_days_company ON ledger.archived_days (company_id, rule_set);
COMMENT ON TABLE ledger.archived_days IS 'Counts of archived inquiries by day and account, for report_v1.reply_daily.';
COMMENT ON COLUMN ledger.archived_days.outcome IS 'Outcome of the units; empty for the counts of inquiries.';

ALTER TABLE ledger.companies ADD COLUMN archive_due_at timestamptz NOT NULL DEFAULT '-infinity';
CREATE INDEX companies_archive_due ON ledger.companies (archive_due_at);
COMMENT ON COLUMN ledger.companies.archive_due_at IS 'When to look next for units of the company to archive; used only if units are archived.';

CREATE OR REPLACE VIEW ledger.outcome_days AS
SELECT rule_set, company_id, coalesce(owner, account_id) AS account_id, coalesce(own_day, unit_day) AS day, 1 AS inquiries,
    (outcome = 'excluded')::integer AS excluded, NULL AS outcome, state, 0 AS units
FROM ledger.outcomes
UNION ALL
SELECT rule_set, company_id, account_id, unit_day, 0, 0, outcome, state, 1 FROM ledger.outcomes WHERE inquiry_id = unit_inquiry_id
UNION ALL
SELECT rule_set, company_id, account_id, day, inquiries, excluded, nullif(outcome, ''), 'final' COLLATE "C", units FROM ledger.archived_days;

CREATE OR REPLACE VIEW report_v1.reply_daily AS
SELECT rule_set, 'company'::text COLLATE "C" AS level, company_id, NULL::text COLLATE "C" AS account_id, day,
    sum(inquiries)::bigint AS inquiries,
    sum(excluded)::bigint AS excluded,
    coalesce(sum(units) FILTER (WHERE outcome IN ('timely', 'late', 'unanswered')), 0)::bigint AS counted,
    coalesce(sum(units) FILTER (WHERE outcome = 'timely'), 0)::bigint AS timely,
    coalesce(sum(units) FILTER (WHERE outcome = 'late'), 0)::bigint AS late,
    coalesce(sum(units) FILTER (WHERE outcome = 'unanswered'), 0)::bigint AS unanswered,
    coalesce(sum(units) FILTER (WHERE outcome = 'unmeasured'), 0)::bigint AS unmeasured,
    coalesce(sum(units) FILTER (WHERE outcome = 'pending'), 0)::bigint AS pending,
    CASE WHEN bool_and(state = 'final') THEN 'final' ELSE 'provisional' END AS state
FROM ledger.outcome_days GROUP BY rule_set, company_id, day
UNION ALL
SELECT rule_set, 'account'::text COLLATE "C", company_id, account_id, day,
    sum(inquiries)::bigint,
    sum(excluded)::bigint,
    coalesce(sum(units) FILTER (WHERE outcome IN ('timely', 'late', 'unanswered')), 0)::bigint,
    coalesce(sum(units) FILTER (WHERE outcome = 'timely'), 0)::bigint,
    coalesce(sum(units) FILTER (WHERE outcome = 'late'), 0)::bigint,
    coalesce(sum(units) FILTER (WHERE outcome = 'unanswered'), 0)::bigint,
    coalesce(sum(units) FILTER (WHERE outcome = 'unmeasured'), 0)::bigint,
    coalesce(sum(units) FILTER (WHERE outcome = 'pending'), 0)::bigint,
    CASE WHEN bool_and(state = 'final') THEN 'final' ELSE 'provisional' END
FROM ledger.outcome_days GROUP BY rule_set, company_id, account_id, day;

DO $$
DECLARE table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['ledger.archive_parts', 'ledger.archived_inquiries', 'ledger.archived_accounts'] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('CREATE POLICY services ON %s TO replyrate_fetcher, replyrate_aggregator USING (true)', table_name);
        EXECUTE format(
            'CREATE POLICY console ON %s FOR SELECT TO replyrate_console USING (starts_with(company_id, (SELECT registry.key_prefix())))',
            table_name);
        EXECUTE format(
            'CREATE POLICY key ON %s FOR SELECT TO replyrate_portal USING (starts_with(company_id, (SELECT registry.key_prefix())))', table_name);
        EXECUTE format(
            'CREATE POLICY panel ON %s FOR SELECT TO replyrate_portal USING (company_id = (SELECT registry.panel_company()))', table_name);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.archive_files, ledger.archive_parts, ledger.archived_inquiries, ledger.archived_accounts,
    ledger.archived_days TO replyrate_aggregator;
GRANT SELECT, UPDATE ON ledger.archive TO replyrate_aggregator;
GRANT SELECT ON ledger.archive_parts, ledger.archived_inquiries TO replyrate_portal;
GRANT SELECT ON ledger.archive_parts, ledger.archived_inquiries, ledger.archived_accounts TO replyrate_console;

-- Aggregators of an earlier release do not know the archive and would remove rates of archived inquiries. They are gone a day after this
-- migration (begins_at) and when rates are stored in ranges (0038); from the first archived unit on those releases are refused.
CREATE FUNCTION ledger.begin_archive() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ledger.rates_form form, ledger.archive archive
        WHERE form.in_ranges AND archive.begins_at <= statement_timestamp()) THEN
        RETURN false;
    END IF;
    UPDATE replyrate.migrations migration SET additive = false WHERE migration.name = 'archive' AND additive;
    RETURN true;
END $$;
COMMENT ON FUNCTION ledger.begin_archive() IS 'Whether units may be archived; from then on earlier releases are refused.';
REVOKE EXECUTE ON FUNCTION ledger.begin_archive() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.begin_archive() TO replyrate_aggregator;

COMMENT ON COLUMN report_v1.accounts.inquiries IS 'Inquiries that the account received and that are in Postgres, also excluded ones.';
COMMENT ON COLUMN report_v1.freshness.newest_inquiry_at IS 'Receipt of the newest inquiry that is in Postgres.';

-- migrate:down
COMMENT ON COLUMN report_v1.accounts.inquiries IS 'Known inquiries that the account received, also excluded ones.';
COMMENT ON COLUMN report_v1.freshness.newest_inquiry_at IS 'Receipt of the newest known inquiry.';
DO $$
BEGIN
    IF EXISTS (SELECT FROM ledger.archive_parts) THEN
        RAISE EXCEPTION 'units are archived in Parquet files; restore a dump from before instead';
    END IF;
END $$;
DROP FUNCTION ledger.begin_archive();
CREATE OR REPLACE VIEW report_v1.reply_daily AS
SELECT rule_set, 'company'::text COLLATE "C" AS level, company_id, NULL::text COLLATE "C" AS account_id, day,
    sum(inquiries)::bigint AS inquiries,
    sum(excluded)::bigint AS excluded,
    count(*) FILTER (WHERE outcome IN ('timely', 'late', 'unanswered')) AS counted,
    count(*) FILTER (WHERE outcome = 'timely') AS timely,
    count(*) FILTER (WHERE outcome = 'late') AS late,
    count(*) FILTER (WHERE outcome = 'unanswered') AS unanswered,
    count(*) FILTER (WHERE outcome = 'unmeasured') AS unmeasured,
    count(*) FILTER (WHERE outcome = 'pending') AS pending,
    CASE WHEN bool_and(state = 'final') THEN 'final' ELSE 'provisional' END AS state
FROM (
    SELECT rule_set, company_id, coalesce(owner, account_id) AS account_id, coalesce(own_day, unit_day) AS day, 1 AS inquiries,
        (outcome = 'excluded')::integer AS excluded, NULL AS outcome, state
    FROM ledger.outcomes
    UNION ALL
    SELECT rule_set, company_id, account_id, unit_day, 0, 0, outcome, state FROM ledger.outcomes WHERE inquiry_id = unit_inquiry_id
) counted_day GROUP BY rule_set, company_id, day
UNION ALL
SELECT rule_set, 'account'::text COLLATE "C", company_id, account_id, day,
    sum(inquiries)::bigint,
    sum(excluded)::bigint,
    count(*) FILTER (WHERE outcome IN ('timely', 'late', 'unanswered')),
    count(*) FILTER (WHERE outcome = 'timely'),
    count(*) FILTER (WHERE outcome = 'late'),
    count(*) FILTER (WHERE outcome = 'unanswered'),
    count(*) FILTER (WHERE outcome = 'unmeasured'),
    count(*) FILTER (WHERE outcome = 'pending'),
    CASE WHEN bool_and(state = 'final') THEN 'final' ELSE 'provisional' END
FROM (
    SELECT rule_set, company_id, coalesce(owner, account_id) AS account_id, coalesce(own_day, unit_day) AS day, 1 AS inquiries,
        (outcome = 'excluded')::integer AS excluded, NULL AS outcome, state
    FROM ledger.outcomes
    UNION ALL
    SELECT rule_set, company_id, account_id, unit_day, 0, 0, outcome, state FROM ledger.outcomes WHERE inquiry_id = unit_inquiry_id
) counted_day GROUP BY rule_set, company_id, account_id, day;
DROP VIEW ledger.outcome_days;
CREATE VIEW ledger.outcome_days AS
SELECT rule_set, company_id, coalesce(owner, account_id) AS account_id, coalesce(own_day, unit_day) AS day, 1 AS inquiries,
    (outcome = 'excluded')::integer AS excluded, NULL AS outcome, state
FROM ledger.outcomes
UNION ALL
SELECT rule_set, company_id, account_id, unit_day, 0, 0, outcome, state FROM ledger.outcomes WHERE inquiry_id = unit_inquiry_id;
COMMENT ON VIEW ledger.outcome_days IS 'Inquiries by their own day and account, and units by theirs, for report_v1.reply_daily.';
DROP INDEX ledger.companies_archive_due;
ALTER TABLE ledger.companies DROP COLUMN archive_due_at;
DROP TABLE ledger.archived_days, ledger.archived_accounts, ledger.archived_inquiries, ledger.archive_parts, ledger.archive_files,
    ledger.archive;
