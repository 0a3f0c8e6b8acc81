-- migrate:up
-- additive: yes

-- Two views read every company, whichever was asked for: conditions do not pass GROUPING SETS, nor a volatile WITH query that is
-- used twice. Columns and rows stay as they are.

CREATE VIEW ledger.outcome_days AS
SELECT rule_set, company_id, coalesce(owner, account_id) AS account_id, coalesce(own_day, unit_day) AS day, 1 AS inquiries,
    (outcome = 'excluded')::integer AS excluded, NULL AS outcome, state
FROM ledger.outcomes
UNION ALL
SELECT rule_set, company_id, account_id, unit_day, 0, 0, outcome, state FROM ledger.outcomes WHERE inquiry_id = unit_inquiry_id;
COMMENT ON VIEW ledger.outcome_days IS 'Inquiries by their own day and account, and units by theirs, for report_v1.reply_daily.';

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
FROM ledger.outcome_days GROUP BY rule_set, company_id, day
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
FROM ledger.outcome_days GROUP BY rule_set, company_id, account_id, day;

CREATE OR REPLACE VIEW report_v1.zero_rate_diagnosis AS
WITH late AS NOT MATERIALIZED (
    SELECT c.company_id, w.since FROM ledger.companies c
    LEFT JOIN ledger.pipeline p ON p.partition = c.partition
    CROSS JOIN (SELECT min(passed_at) AS passed_at FROM ledger.pipeline) slowest
    CROSS JOIN LATERAL (SELECT least(
        (SELECT min(d.since) FROM ledger.dirty d WHERE d.company_id = c.company_id), c.due_at,
        coalesce(p.passed_at, slowest.passed_at, 'infinity')) AS since) w
    WHERE w.since < statement_timestamp() - interval '15 minutes'
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
CREATE OR REPLACE VIEW report_v1.reply_daily AS
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
FROM ledger.outcome_days
GROUP BY GROUPING SETS ((rule_set, company_id, day), (rule_set, company_id, account_id, day));
