-- migrate:up
-- additive: yes

-- Up to when everything that was published has been counted. A matcher that stands still must not turn answers that lie in
-- Kafka into "unanswered": coverage that became known later, and deadlines that passed later, wait for it.

CREATE TABLE ledger.pipeline (
    partition integer PRIMARY KEY,
    passed_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON TABLE ledger.pipeline IS 'Progress of each partition of the topics, written by the aggregators every few seconds.';
COMMENT ON COLUMN ledger.pipeline.passed_at IS 'Everything that was published before this instant has been counted.';
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.pipeline TO replyrate_aggregator;

ALTER TABLE ledger.companies ADD COLUMN partition integer;
COMMENT ON COLUMN ledger.companies.partition IS 'Where its inquiries lie; null until it is judged next.';

-- Every poll that ends well adds a line of coverage, and few of them change anything: a judgement says which could.
ALTER TABLE ledger.companies ADD COLUMN coverage_wanted timestamptz NOT NULL DEFAULT '-infinity';
COMMENT ON COLUMN ledger.companies.coverage_wanted IS 'Coverage that does not reach this instant changes no number; a mailbox that comes or goes always may.';
CREATE INDEX coverage_comes ON registry.coverage (company_id, coverage_id)
    WHERE from_at IS NULL OR removed_at IS NOT NULL OR mailbox_id IS NULL;

-- Without any row (a database that no aggregator looks after, as in a replay) everything has been counted.
CREATE VIEW ledger.passed AS
SELECT c.company_id, coalesce(p.passed_at, slowest.passed_at, 'infinity') AS passed_at
FROM ledger.companies c
LEFT JOIN ledger.pipeline p ON p.partition = c.partition
CROSS JOIN (SELECT min(passed_at) AS passed_at FROM ledger.pipeline) slowest;
COMMENT ON VIEW ledger.passed IS 'Up to when what was published of a company has been counted; where its partition is not known, of the slowest one.';
GRANT SELECT ON ledger.passed TO replyrate_aggregator;

CREATE OR REPLACE VIEW report_v1.zero_rate_diagnosis AS
WITH late AS (
    SELECT c.company_id, w.since FROM ledger.companies c JOIN ledger.passed p USING (company_id)
    CROSS JOIN LATERAL (SELECT least(
        (SELECT min(d.since) FROM ledger.dirty d WHERE d.company_id = c.company_id), c.due_at, p.passed_at) AS since) w
    WHERE w.since < clock_timestamp() - interval '15 minutes'
)
SELECT d.rule_set, d.company_id, nullif(d.account_id, '') COLLATE "C" AS account_id, d.as_of, d.cause,
    CASE WHEN l.company_id IS NOT NULL AND d.confidence = 'high' THEN 'medium' ELSE d.confidence END AS confidence, d.facts,
    d.advice_en, d.advice_zh, d.computed_at
FROM ledger.diagnoses d JOIN ledger.rule_sets s ON s.name = d.rule_set AND s.active LEFT JOIN late l USING (company_id)
UNION ALL
SELECT d.rule_set, d.company_id, nullif(d.account_id, '') COLLATE "C", d.as_of, a.code, 'high',
    jsonb_build_object('waiting_seconds', floor(extract(epoch FROM clock_timestamp() - l.since))::bigint),
    a.advice_en, a.advice_zh, max(d.computed_at)
FROM ledger.diagnoses d JOIN ledger.rule_sets s ON s.name = d.rule_set AND s.active
JOIN late l USING (company_id) JOIN ledger.advice a ON a.code = 'pipeline-behind'
GROUP BY d.rule_set, d.company_id, d.account_id, d.as_of, a.code, l.since, a.advice_en, a.advice_zh;
CALL access.repeat_views();

-- migrate:down
CREATE OR REPLACE VIEW report_v1.zero_rate_diagnosis AS
WITH late AS (
    SELECT c.company_id, w.since FROM ledger.companies c
    CROSS JOIN LATERAL (SELECT least(
        (SELECT min(d.since) FROM ledger.dirty d WHERE d.company_id = c.company_id), c.due_at) AS since) w
    WHERE w.since < clock_timestamp() - interval '15 minutes'
)
SELECT d.rule_set, d.company_id, nullif(d.account_id, '') COLLATE "C" AS account_id, d.as_of, d.cause,
    CASE WHEN l.company_id IS NOT NULL AND d.confidence = 'high' THEN 'medium' ELSE d.confidence END AS confidence, d.facts,
    d.advice_en, d.advice_zh, d.computed_at
FROM ledger.diagnoses d JOIN ledger.rule_sets s ON s.name = d.rule_set AND s.active LEFT JOIN late l USING (company_id)
UNION ALL
SELECT d.rule_set, d.company_id, nullif(d.account_id, '') COLLATE "C", d.as_of, a.code, 'high',
    jsonb_build_object('waiting_seconds', floor(extract(epoch FROM clock_timestamp() - l.since))::bigint),
    a.advice_en, a.advice_zh, max(d.computed_at)
FROM ledger.diagnoses d JOIN ledger.rule_sets s ON s.name = d.rule_set AND s.active
JOIN late l USING (company_id) JOIN ledger.advice a ON a.code = 'pipeline-behind'
GROUP BY d.rule_set, d.company_id, d.account_id, d.as_of, a.code, l.since, a.advice_en, a.advice_zh;
DROP VIEW ledger.passed;
DROP INDEX registry.coverage_comes;
ALTER TABLE ledger.companies DROP COLUMN partition, DROP COLUMN coverage_wanted;
DROP TABLE ledger.pipeline;
