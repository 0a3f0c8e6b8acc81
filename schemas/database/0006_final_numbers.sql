-- migrate:up

-- A number that was final changes only with a correction beside it; every row carries its histogram; a recompute is
-- judged in the schema `shadow` and shown in one transaction.

ALTER TABLE ledger.rates ADD COLUMN buckets integer[];
COMMENT ON COLUMN ledger.rates.buckets IS 'Answered units by hours until the answer: 24 of an hour and one for later; null in rows of older releases.';

ALTER TABLE ledger.dirty ADD COLUMN cause text COLLATE "C" NOT NULL DEFAULT 'late-fact' CHECK (cause IN ('late-fact', 'erase'));
COMMENT ON COLUMN ledger.dirty.cause IS 'What a final number that changes now is corrected for.';

CREATE TABLE ledger.corrections (
    correction_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule_set text COLLATE "C" NOT NULL,
    rule_version text COLLATE "C" NOT NULL,
    level text COLLATE "C" NOT NULL,
    company_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    as_of date NOT NULL,
    column_name text COLLATE "C" NOT NULL,
    old_value text COLLATE "C",
    new_value text COLLATE "C",
    cause text COLLATE "C" NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE INDEX corrections_company ON ledger.corrections (company_id, rule_set, as_of);

-- Through which local day a company's numbers are settled; it never goes back while the rule set stays the same.
CREATE TABLE ledger.settled (
    rule_set text COLLATE "C" NOT NULL,
    company_id text COLLATE "C" NOT NULL,
    rule_version text COLLATE "C" NOT NULL,
    through date NOT NULL,
    PRIMARY KEY (rule_set, company_id)
);

-- What an outcome was before it changed.
CREATE TABLE ledger.outcome_history (
    rule_set text COLLATE "C" NOT NULL,
    company_id text COLLATE "C" NOT NULL,
    inquiry_id text COLLATE "C" NOT NULL,
    revision integer NOT NULL,
    rule_version text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    outcome text COLLATE "C" NOT NULL,
    reason text COLLATE "C",
    first_reply_at timestamptz,
    state text COLLATE "C" NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (rule_set, company_id, inquiry_id, revision)
);

-- A rule set whose numbers are computed anew, beside those that are shown; and the companies that have been.
CREATE TABLE ledger.recomputes (
    rule_set text COLLATE "C" PRIMARY KEY,
    identity text COLLATE "C" NOT NULL,
    parameters jsonb NOT NULL,
    from_day date,
    to_day date,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN ledger.recomputes.from_day IS 'First as_of day that is computed anew; null: as far back as rows are kept current.';
COMMENT ON COLUMN ledger.recomputes.to_day IS 'Last such day; null: today.';
CREATE TABLE ledger.recomputed (
    rule_set text COLLATE "C" NOT NULL REFERENCES ledger.recomputes ON DELETE CASCADE,
    company_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (rule_set, company_id)
);

-- Tables of the same names and shapes: judge.sql names them without a schema, and the search path says which are meant.
CREATE SCHEMA shadow;
COMMENT ON SCHEMA shadow IS 'Numbers of a recompute under way, with the shapes of the ledger. Private.';
CREATE TABLE shadow.rates (LIKE ledger.rates INCLUDING ALL);
CREATE TABLE shadow.outcomes (LIKE ledger.outcomes INCLUDING ALL);
CREATE TABLE shadow.corrections (LIKE ledger.corrections INCLUDING ALL);
CREATE TABLE shadow.settled (LIKE ledger.settled INCLUDING ALL);
CREATE TABLE shadow.outcome_history (LIKE ledger.outcome_history INCLUDING ALL);

REVOKE ALL ON SCHEMA shadow FROM PUBLIC;
GRANT USAGE ON SCHEMA shadow TO replyrate_aggregator;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ledger, shadow TO replyrate_aggregator;

CREATE OR REPLACE VIEW report_v1.reply_time_histogram AS
SELECT r.rule_set, r.level, r.company_id, nullif(r.account_id, '') COLLATE "C" AS account_id, r.as_of, b.bucket::integer AS bucket,
    CASE WHEN b.bucket = 25 THEN 'later' ELSE (b.bucket - 1) || '-' || b.bucket || ' h' END AS label,
    b.answered::bigint AS answered
FROM ledger.rates r CROSS JOIN LATERAL unnest(r.buckets) WITH ORDINALITY b (answered, bucket)
WHERE r.valid_to IS NULL;
COMMENT ON VIEW report_v1.reply_time_histogram IS 'Answered units of each row of reply_rate by hours until the answer: 24 buckets of an hour and one for later.';

CREATE VIEW report_v1.corrections AS
SELECT rule_set, rule_version, level, company_id, nullif(account_id, '') AS account_id, as_of, column_name, old_value,
    new_value, cause, changed_at
FROM ledger.corrections;
COMMENT ON VIEW report_v1.corrections IS 'Each change of a number that was final, by column of reply_rate.';
COMMENT ON COLUMN report_v1.corrections.rule_set IS 'Name of the rule set.';
COMMENT ON COLUMN report_v1.corrections.rule_version IS 'Number and content hash of the rule set that made the new value.';
COMMENT ON COLUMN report_v1.corrections.level IS 'company or account.';
COMMENT ON COLUMN report_v1.corrections.company_id IS 'The seller.';
COMMENT ON COLUMN report_v1.corrections.account_id IS 'The (sub-)account it counts for; null at company level.';
COMMENT ON COLUMN report_v1.corrections.as_of IS 'The row''s day.';
COMMENT ON COLUMN report_v1.corrections.column_name IS 'Column of reply_rate that changed; * when the whole row went.';
COMMENT ON COLUMN report_v1.corrections.old_value IS 'What was shown, as text; null where it was empty, and after an erase.';
COMMENT ON COLUMN report_v1.corrections.new_value IS 'What is shown now, as text; null where it is empty.';
COMMENT ON COLUMN report_v1.corrections.cause IS 'late-fact: something became known after the row was final; recompute: computed anew; rule-version: the rule set changed; erase: the company was erased.';
COMMENT ON COLUMN report_v1.corrections.changed_at IS 'When it changed.';

CREATE VIEW report_v1.due_soon AS
SELECT rule_set, company_id, account_id, inquiry_id, due_at FROM ledger.outcomes WHERE outcome = 'pending';
CREATE INDEX outcomes_open ON ledger.outcomes (due_at) WHERE outcome = 'pending';
COMMENT ON VIEW report_v1.due_soon IS 'Units that are not answered and whose time has not passed.';
COMMENT ON COLUMN report_v1.due_soon.rule_set IS 'Name of the rule set.';
COMMENT ON COLUMN report_v1.due_soon.company_id IS 'The seller.';
COMMENT ON COLUMN report_v1.due_soon.account_id IS 'The account that should answer.';
COMMENT ON COLUMN report_v1.due_soon.inquiry_id IS 'First inquiry of the unit.';
COMMENT ON COLUMN report_v1.due_soon.due_at IS 'Until when an answer is in time.';

GRANT SELECT ON ALL TABLES IN SCHEMA report_v1 TO replyrate_dashboard;
-- The fetcher polls sooner where a deadline is near.
GRANT USAGE ON SCHEMA report_v1 TO replyrate_fetcher;
GRANT SELECT ON report_v1.due_soon TO replyrate_fetcher;

-- Rows of before have no histogram: every company is judged again.
INSERT INTO ledger.dirty (company_id) SELECT company_id FROM ledger.companies;

-- migrate:down
DROP VIEW report_v1.corrections, report_v1.due_soon;
CREATE OR REPLACE VIEW report_v1.reply_time_histogram AS
SELECT l.rule_set, l.level, l.company_id, l.account_id, l.as_of, b.bucket,
    CASE WHEN b.bucket = 25 THEN 'later' ELSE (b.bucket - 1) || '-' || b.bucket || ' h' END AS label,
    count(o.inquiry_id) AS answered
FROM report_v1.reply_rate_latest l
CROSS JOIN generate_series(1, 25) b (bucket)
LEFT JOIN ledger.outcomes o ON o.rule_set = l.rule_set AND o.company_id = l.company_id
    AND (l.account_id IS NULL OR o.account_id = l.account_id)
    AND o.unit_day BETWEEN l.window_start AND l.window_end
    AND o.reply_seconds IS NOT NULL AND o.outcome IN ('timely', 'late')
    AND b.bucket = CASE WHEN o.reply_seconds > 86400 THEN 25 ELSE greatest(1, ceil(o.reply_seconds / 3600)) END
GROUP BY l.rule_set, l.level, l.company_id, l.account_id, l.as_of, b.bucket;
REVOKE USAGE ON SCHEMA report_v1 FROM replyrate_fetcher;
DROP INDEX ledger.outcomes_open;
DROP SCHEMA shadow CASCADE;
DROP TABLE ledger.recomputed, ledger.recomputes, ledger.outcome_history, ledger.settled, ledger.corrections;
ALTER TABLE ledger.dirty DROP COLUMN cause;
ALTER TABLE ledger.rates DROP COLUMN buckets;
