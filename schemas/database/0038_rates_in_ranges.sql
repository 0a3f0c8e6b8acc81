-- migrate:up
-- additive: yes

-- Consecutive days on which the row of reply_rate of a company or account says the same are stored as one row (docs/decisions/0065).

CREATE TABLE ledger.rate_ranges (
    computed_at timestamptz NOT NULL,
    valid_from timestamptz,
    valid_to timestamptz,
    mean_seconds double precision,
    median_seconds double precision,
    p90_seconds double precision,
    p95_seconds double precision,
    first_as_of date NOT NULL,
    inquiries integer NOT NULL,
    excluded integer NOT NULL,
    counted integer NOT NULL,
    timely integer NOT NULL,
    late integer NOT NULL,
    unanswered integer NOT NULL,
    unmeasured integer NOT NULL,
    pending integer NOT NULL,
    days smallint NOT NULL CHECK (days BETWEEN 1 AND 31),
    window_starts_before smallint NOT NULL,
    window_ends_before smallint NOT NULL,
    is_final boolean NOT NULL,
    rule_set text COLLATE "C" NOT NULL,
    company_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    rule_version text COLLATE "C" NOT NULL,
    rate numeric,
    rate_shown numeric,
    coverage numeric,
    buckets integer[],
    computed_ats timestamptz[]
);
CREATE INDEX rate_ranges_key ON ledger.rate_ranges (company_id, rule_set, account_id);
COMMENT ON TABLE ledger.rate_ranges IS
    'Rows of reply_rate and their earlier versions: consecutive as_of days of one month whose rows differ in nothing but their day are one row.';
COMMENT ON COLUMN ledger.rate_ranges.first_as_of IS 'The first as_of day; the others follow.';
COMMENT ON COLUMN ledger.rate_ranges.days IS 'How many as_of days.';
COMMENT ON COLUMN ledger.rate_ranges.account_id IS 'Empty at company level.';
COMMENT ON COLUMN ledger.rate_ranges.window_starts_before IS 'How many days before as_of the window starts.';
COMMENT ON COLUMN ledger.rate_ranges.window_ends_before IS 'How many days before as_of the window ends.';
COMMENT ON COLUMN ledger.rate_ranges.computed_at IS 'When the row of the first day was computed.';
COMMENT ON COLUMN ledger.rate_ranges.computed_ats IS 'When the row of each day was computed; null: all at the same instant.';
COMMENT ON COLUMN ledger.rate_ranges.valid_from IS 'Since when the rows are shown; null: since each was computed.';
COMMENT ON COLUMN ledger.rate_ranges.buckets IS
    'The bucket of later answers, then those of the hours up to the last with an answer; empty: no answer.';

CREATE VIEW ledger.rate_rows AS
SELECT rule_set, rule_version, level, company_id, account_id, as_of, window_start, window_end, inquiries, excluded, counted, timely, late,
    unanswered, unmeasured, pending, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds, rate_shown, coverage, state,
    computed_at, valid_from, valid_to, buckets
FROM ledger.rates
UNION ALL
SELECT stored.rule_set, stored.rule_version, (CASE stored.account_id WHEN '' THEN 'company' ELSE 'account' END) COLLATE "C",
    stored.company_id, stored.account_id, stored.first_as_of + day.number,
    stored.first_as_of + (day.number - stored.window_starts_before), stored.first_as_of + (day.number - stored.window_ends_before),
    stored.inquiries::bigint, stored.excluded::bigint, stored.counted::bigint, stored.timely::bigint, stored.late::bigint,
    stored.unanswered::bigint, stored.unmeasured::bigint, stored.pending::bigint, stored.rate, stored.mean_seconds,
    stored.median_seconds, stored.p90_seconds, stored.p95_seconds, stored.rate_shown, stored.coverage,
    (CASE WHEN stored.is_final THEN 'final' ELSE 'provisional' END) COLLATE "C",
    coalesce(stored.computed_ats[day.number + 1], stored.computed_at),
    coalesce(stored.valid_from, stored.computed_ats[day.number + 1], stored.computed_at), stored.valid_to,
    CASE WHEN stored.buckets IS NOT NULL THEN stored.buckets[2:]
        || (array_fill(0, ARRAY[24]))[:25 - greatest(cardinality(stored.buckets), 1)] || coalesce(stored.buckets[1], 0) END
FROM ledger.rate_ranges stored
JOIN unnest('{0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30}'::integer[]) day (number)
    ON day.number < stored.days;
COMMENT ON VIEW ledger.rate_rows IS
    'Rows of reply_rate and their earlier versions, a row for each as_of day.';

CREATE VIEW ledger.rate_last_days AS
SELECT rule_set, rule_version, level, company_id, account_id, as_of, window_start, window_end, inquiries, excluded, counted, timely, late,
    unanswered, unmeasured, pending, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds, rate_shown, coverage, state, computed_at
FROM ledger.rates WHERE valid_to IS NULL
UNION ALL
SELECT rule_set, rule_version, (CASE account_id WHEN '' THEN 'company' ELSE 'account' END) COLLATE "C", company_id, account_id,
    first_as_of + (days - 1), first_as_of + (days - 1 - window_starts_before), first_as_of + (days - 1 - window_ends_before),
    inquiries::bigint, excluded::bigint, counted::bigint, timely::bigint, late::bigint, unanswered::bigint, unmeasured::bigint,
    pending::bigint, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds, rate_shown, coverage,
    (CASE WHEN is_final THEN 'final' ELSE 'provisional' END) COLLATE "C", coalesce(computed_ats[days], computed_at)
FROM ledger.rate_ranges WHERE valid_to IS NULL;
COMMENT ON VIEW ledger.rate_last_days IS
    'The row of reply_rate of the last day of each stored row: what looks for the newest need not expand the others.';

CREATE VIEW ledger.rate_ends WITH (security_invoker = true) AS
SELECT rule_set, company_id, level, as_of AS first_as_of, as_of AS last_as_of, state FROM ledger.rates WHERE valid_to IS NULL
UNION ALL
SELECT rule_set, company_id, (CASE account_id WHEN '' THEN 'company' ELSE 'account' END) COLLATE "C", first_as_of,
    first_as_of + (days - 1), (CASE WHEN is_final THEN 'final' ELSE 'provisional' END) COLLATE "C"
FROM ledger.rate_ranges WHERE valid_to IS NULL;
COMMENT ON VIEW ledger.rate_ends IS 'The first and the last day of each stored row that is shown now.';
CREATE VIEW shadow.rate_ends AS
SELECT rule_set, company_id, level, as_of AS first_as_of, as_of AS last_as_of, state FROM shadow.rates WHERE valid_to IS NULL;

-- As it was, of both tables.
CREATE OR REPLACE VIEW report_v1.reply_rate AS
SELECT rule_set, rule_version, level, company_id, nullif(account_id, '') AS account_id, as_of, window_start, window_end,
    inquiries, excluded, counted, timely, late, unanswered, unmeasured, pending, rate, mean_seconds, median_seconds,
    p90_seconds, p95_seconds, rate_shown, coverage, state, computed_at
FROM ledger.rate_rows WHERE valid_to IS NULL;
CREATE OR REPLACE VIEW report_v1.reply_rate_history AS
SELECT rule_set, rule_version, level, company_id, nullif(account_id, '') AS account_id, as_of, window_start, window_end,
    inquiries, excluded, counted, timely, late, unanswered, unmeasured, pending, rate, mean_seconds, median_seconds,
    p90_seconds, p95_seconds, rate_shown, coverage, state, computed_at, valid_from, valid_to
FROM ledger.rate_rows;
CREATE OR REPLACE VIEW report_v1.reply_rate_latest AS
SELECT DISTINCT ON (rule_set, level, company_id, account_id) *
FROM (
    SELECT rule_set, rule_version, level, company_id, nullif(account_id, '') AS account_id, as_of, window_start, window_end,
        inquiries, excluded, counted, timely, late, unanswered, unmeasured, pending, rate, mean_seconds, median_seconds,
        p90_seconds, p95_seconds, rate_shown, coverage, state, computed_at
    FROM ledger.rate_last_days
) shown ORDER BY rule_set, level, company_id, account_id, as_of DESC;
CREATE OR REPLACE VIEW report_v1.reply_time_histogram AS
SELECT r.rule_set, r.level, r.company_id, nullif(r.account_id, '') COLLATE "C" AS account_id, r.as_of, b.bucket::integer AS bucket,
    CASE WHEN b.bucket = 25 THEN 'later' ELSE (b.bucket - 1) || '-' || b.bucket || ' h' END AS label,
    b.answered::bigint AS answered
FROM ledger.rate_rows r CROSS JOIN LATERAL unnest(r.buckets) WITH ORDINALITY b (answered, bucket)
WHERE r.valid_to IS NULL;

ALTER TABLE ledger.rate_ranges ENABLE ROW LEVEL SECURITY;
CREATE POLICY services ON ledger.rate_ranges TO replyrate_fetcher, replyrate_aggregator USING (true);
CREATE POLICY key ON ledger.rate_ranges FOR SELECT TO replyrate_portal USING (starts_with(company_id, (SELECT registry.key_prefix())));
CREATE POLICY panel ON ledger.rate_ranges FOR SELECT TO replyrate_portal USING (company_id = (SELECT registry.panel_company()));
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.rate_ranges TO replyrate_aggregator;
GRANT SELECT ON ledger.rate_ranges TO replyrate_portal;
GRANT SELECT ON ledger.rate_rows, ledger.rate_last_days TO replyrate_aggregator;
GRANT SELECT ON ledger.rate_ends TO replyrate_aggregator, replyrate_portal;
GRANT SELECT ON shadow.rate_ends TO replyrate_aggregator;

-- An aggregator of an earlier release does not know these rows and would judge every day again. So aggregators go on with ledger.rates for
-- a day. Then those of an earlier release may not write it any more, and that release is refused.
CREATE VIEW ledger.rate_days AS SELECT * FROM ledger.rates;
COMMENT ON VIEW ledger.rate_days IS 'Rows as releases before migration 0038 stored them; moved to ledger.rate_ranges.';
GRANT SELECT, DELETE ON ledger.rate_days TO replyrate_aggregator;

CREATE TABLE ledger.rates_form (
    in_ranges boolean NOT NULL,
    in_ranges_from timestamptz NOT NULL
);
COMMENT ON TABLE ledger.rates_form IS 'Whether aggregators write ledger.rate_ranges, and from when on they may: a day after an upgrade.';
GRANT SELECT ON ledger.rates_form TO replyrate_aggregator;
INSERT INTO ledger.rates_form (in_ranges, in_ranges_from)
SELECT NOT used, statement_timestamp() + CASE WHEN used THEN interval '1 day' ELSE interval '0' END
FROM (SELECT EXISTS (SELECT FROM ledger.companies) AS used) installation;

CREATE FUNCTION ledger.keep_rates() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
BEGIN
    UPDATE ledger.rates_form SET in_ranges = true WHERE NOT in_ranges AND in_ranges_from <= statement_timestamp();
    IF NOT EXISTS (SELECT FROM ledger.rates_form form WHERE form.in_ranges) THEN
        RETURN false;
    END IF;
    UPDATE replyrate.migrations migration SET additive = false WHERE migration.name = 'rates_in_ranges' AND additive;
    IF has_table_privilege('replyrate_aggregator', 'ledger.rates', 'INSERT') THEN
        REVOKE INSERT, UPDATE, DELETE ON ledger.rates FROM replyrate_aggregator;
    END IF;
    IF pg_relation_size('ledger.rates') > 0 AND NOT EXISTS (SELECT FROM ledger.rates) THEN
        BEGIN
            -- A judgement that began with the earlier form may still have written some.
            LOCK TABLE ledger.rates IN ACCESS EXCLUSIVE MODE;
            IF NOT EXISTS (SELECT FROM ledger.rates) THEN
                TRUNCATE ledger.rates; -- everything was moved: its space, and that of its indexes, goes back to the disk
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            NULL; -- Somebody reads it for long, such as a dump. The next call does it.
        END;
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION ledger.keep_rates() IS
    'Begins the form of ledger.rate_ranges when its time has come, and frees ledger.rates when it is empty. Returns whether it has begun.';
REVOKE EXECUTE ON FUNCTION ledger.keep_rates() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.keep_rates() TO replyrate_aggregator;

-- migrate:down
INSERT INTO ledger.rates (rule_set, rule_version, level, company_id, account_id, as_of, window_start, window_end, inquiries, excluded,
    counted, timely, late, unanswered, unmeasured, pending, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds, rate_shown,
    coverage, state, computed_at, valid_from, valid_to, buckets)
SELECT rule_set, rule_version, level, company_id, account_id, as_of, window_start, window_end, inquiries, excluded, counted, timely, late,
    unanswered, unmeasured, pending, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds, rate_shown, coverage, state,
    computed_at, valid_from, valid_to, buckets
FROM ledger.rate_rows ON CONFLICT DO NOTHING;
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.rates TO replyrate_aggregator;
DROP FUNCTION ledger.keep_rates();
DROP TABLE ledger.rates_form;
DROP VIEW ledger.rate_days;
CREATE OR REPLACE VIEW report_v1.reply_rate AS
SELECT rule_set, rule_version, level, company_id, nullif(account_id, '') AS account_id, as_of, window_start, window_end,
    inquiries, excluded, counted, timely, late, unanswered, unmeasured, pending, rate, mean_seconds, median_seconds,
    p90_seconds, p95_seconds, rate_shown, coverage, state, computed_at
FROM ledger.rates WHERE valid_to IS NULL;
CREATE OR REPLACE VIEW report_v1.reply_rate_history AS
SELECT rule_set, rule_version, level, company_id, nullif(account_id, '') AS account_id, as_of, window_start, window_end,
    inquiries, excluded, counted, timely, late, unanswered, unmeasured, pending, rate, mean_seconds, median_seconds,
    p90_seconds, p95_seconds, rate_shown, coverage, state, computed_at, valid_from, valid_to
FROM ledger.rates;
CREATE OR REPLACE VIEW report_v1.reply_rate_latest AS
SELECT DISTINCT ON (rule_set, level, company_id, account_id) *
FROM report_v1.reply_rate ORDER BY rule_set, level, company_id, account_id, as_of DESC;
CREATE OR REPLACE VIEW report_v1.reply_time_histogram AS
SELECT r.rule_set, r.level, r.company_id, nullif(r.account_id, '') COLLATE "C" AS account_id, r.as_of, b.bucket::integer AS bucket,
    CASE WHEN b.bucket = 25 THEN 'later' ELSE (b.bucket - 1) || '-' || b.bucket || ' h' END AS label,
    b.answered::bigint AS answered
FROM ledger.rates r CROSS JOIN LATERAL unnest(r.buckets) WITH ORDINALITY b (answered, bucket)
WHERE r.valid_to IS NULL;
DROP VIEW shadow.rate_ends, ledger.rate_ends, ledger.rate_last_days, ledger.rate_rows;
DROP TABLE ledger.rate_ranges;
