-- migrate:up

-- A number that was final changes only with a correction beside it; every row carries its histogram; a recompute is
-- judged in the schema `shadow` and shown in one transaction.

ALTER TABLE ledger.rates ADD COLUMN buckets integer[];
COMMENT ON COLUMN ledger.rates.buckets IS 'Answered units by hours until the answer: 24 of an hour and one for later; null in rows of older releases.';

-- An inquiry counts by its own owner and day, its unit by the unit's.
ALTER TABLE ledger.outcomes ADD COLUMN owner text COLLATE "C", ADD COLUMN own_day date;
COMMENT ON COLUMN ledger.outcomes.owner IS 'Account that the inquiry itself counts for; null in rows of older releases.';
COMMENT ON COLUMN ledger.outcomes.own_day IS 'Local day that the inquiry itself counts on.';

ALTER TABLE ledger.dirty ADD COLUMN cause text COLLATE "C" NOT NULL DEFAULT 'late-fact' CHECK (cause IN ('late-fact', 'erase'));
-- And which outcomes: only those of inquiries since the earliest that a fact came to.
ALTER TABLE ledger.dirty ADD COLUMN received_from timestamptz NOT NULL DEFAULT '-infinity';
COMMENT ON COLUMN ledger.dirty.received_from IS 'Earliest receipt of the inquiries whose facts changed; infinity: none of them is known.';
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

DROP VIEW report_v1.reply_daily;
CREATE VIEW report_v1.reply_daily AS
SELECT rule_set, (CASE WHEN GROUPING(account_id) = 1 THEN 'company' ELSE 'account' END) COLLATE "C" AS level, company_id, account_id, day,
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
) each
GROUP BY GROUPING SETS ((rule_set, company_id, day), (rule_set, company_id, account_id, day));
COMMENT ON VIEW report_v1.reply_daily IS 'Counts by local day of the rule set, also of days that are not settled yet.';
COMMENT ON COLUMN report_v1.reply_daily.rule_set IS 'Name of the rule set.';
COMMENT ON COLUMN report_v1.reply_daily.level IS 'company or account.';
COMMENT ON COLUMN report_v1.reply_daily.company_id IS 'The seller.';
COMMENT ON COLUMN report_v1.reply_daily.account_id IS 'The (sub-)account it counts for; null at company level.';
COMMENT ON COLUMN report_v1.reply_daily.day IS 'Local day of the rule set.';
COMMENT ON COLUMN report_v1.reply_daily.inquiries IS 'Inquiries of the day, excluded and merged ones too.';
COMMENT ON COLUMN report_v1.reply_daily.excluded IS 'Inquiries that the rule set excludes.';
COMMENT ON COLUMN report_v1.reply_daily.counted IS 'timely + late + unanswered.';
COMMENT ON COLUMN report_v1.reply_daily.timely IS 'Units answered within the target.';
COMMENT ON COLUMN report_v1.reply_daily.late IS 'Units answered after the target.';
COMMENT ON COLUMN report_v1.reply_daily.unanswered IS 'Units without an answer whose target has passed.';
COMMENT ON COLUMN report_v1.reply_daily.unmeasured IS 'Units without a known answer in a time that no mailbox covers.';
COMMENT ON COLUMN report_v1.reply_daily.pending IS 'Units without an answer whose target has not passed.';
COMMENT ON COLUMN report_v1.reply_daily.state IS 'final when every outcome of the day is, else provisional.';

GRANT SELECT ON ALL TABLES IN SCHEMA report_v1 TO replyrate_dashboard;
GRANT USAGE ON SCHEMA report_v1 TO replyrate_aggregator;
GRANT SELECT ON ALL TABLES IN SCHEMA report_v1 TO replyrate_aggregator;
-- The fetcher polls sooner where a deadline is near.
GRANT USAGE ON SCHEMA report_v1 TO replyrate_fetcher;
GRANT SELECT ON report_v1.due_soon TO replyrate_fetcher;

COMMENT ON COLUMN report_v1.reply_rate.rate IS 'timely / counted; null when nothing was counted, when coverage is too small, or when the rule set hides small samples.';
COMMENT ON COLUMN report_v1.reply_rate.mean_seconds IS 'Mean time to the answer, over answered units or the fastest 80 % of them, as the rule set says.';
COMMENT ON COLUMN report_v1.reply_rate.state IS 'final: it changes only with a correction; provisional: it may still change.';
COMMENT ON COLUMN report_v1.reply_rate_history.rate IS 'timely / counted; null when nothing was counted, when coverage is too small, or when the rule set hides small samples.';
COMMENT ON COLUMN report_v1.reply_rate_history.mean_seconds IS 'Mean time to the answer, over answered units or the fastest 80 % of them, as the rule set says.';
COMMENT ON COLUMN report_v1.reply_rate_history.state IS 'final: it changes only with a correction; provisional: it may still change.';
COMMENT ON COLUMN report_v1.reply_rate_latest.rate IS 'timely / counted; null when nothing was counted, when coverage is too small, or when the rule set hides small samples.';
COMMENT ON COLUMN report_v1.reply_rate_latest.mean_seconds IS 'Mean time to the answer, over answered units or the fastest 80 % of them, as the rule set says.';
COMMENT ON COLUMN report_v1.reply_rate_latest.state IS 'final: it changes only with a correction; provisional: it may still change.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.revision IS '1, and one more each time the outcome changed.';

-- What a refresh looks for in each idle turn, among the lines that every poll writes.
CREATE INDEX coverage_since ON registry.coverage (company_id, coverage_id);
-- An explanation tells which clock of a mail counted.
GRANT SELECT ON registry.published TO replyrate_aggregator;

-- Rows of before have no histogram: every company is judged again.
INSERT INTO ledger.dirty (company_id) SELECT company_id FROM ledger.companies;

-- migrate:down
DROP VIEW report_v1.corrections, report_v1.due_soon;
DROP VIEW report_v1.reply_daily;
CREATE VIEW report_v1.reply_daily AS
SELECT rule_set, CASE WHEN GROUPING(account_id) = 1 THEN 'company' ELSE 'account' END AS level, company_id, account_id,
    unit_day AS day,
    count(*) AS inquiries,
    count(*) FILTER (WHERE outcome = 'excluded') AS excluded,
    count(*) FILTER (WHERE outcome IN ('timely', 'late', 'unanswered')) AS counted,
    count(*) FILTER (WHERE outcome = 'timely') AS timely,
    count(*) FILTER (WHERE outcome = 'late') AS late,
    count(*) FILTER (WHERE outcome = 'unanswered') AS unanswered,
    count(*) FILTER (WHERE outcome = 'unmeasured') AS unmeasured,
    count(*) FILTER (WHERE outcome = 'pending') AS pending,
    CASE WHEN bool_and(state = 'final') THEN 'final' ELSE 'provisional' END AS state
FROM ledger.outcomes
GROUP BY GROUPING SETS ((rule_set, company_id, unit_day), (rule_set, company_id, account_id, unit_day));
GRANT SELECT ON report_v1.reply_daily TO replyrate_dashboard;
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
REVOKE ALL ON ALL TABLES IN SCHEMA report_v1 FROM replyrate_fetcher, replyrate_aggregator;
REVOKE USAGE ON SCHEMA report_v1 FROM replyrate_fetcher, replyrate_aggregator;
REVOKE ALL ON registry.published FROM replyrate_aggregator;
DROP INDEX ledger.outcomes_open, registry.coverage_since;
DROP SCHEMA shadow CASCADE;
DROP TABLE ledger.recomputed, ledger.recomputes, ledger.outcome_history, ledger.settled, ledger.corrections;
ALTER TABLE ledger.dirty DROP COLUMN cause, DROP COLUMN received_from;
ALTER TABLE ledger.outcomes DROP COLUMN owner, DROP COLUMN own_day;
ALTER TABLE ledger.rates DROP COLUMN buckets;
