-- migrate:up
-- additive: yes

-- What the web process reads of the numbers. Figures come from the views of report_v1, repeated with one condition more: the
-- token of the transaction may see the row (0018). An explanation is made by the statement that judges (services/aggregator/explain.py),
-- which reads facts: their tables get policies, and only the key of a platform sees them.

CREATE SCHEMA report_token_v1;
COMMENT ON SCHEMA report_token_v1 IS 'The views of report_v1 for the web process: the rows that the token of the transaction may see.';
REVOKE ALL ON SCHEMA report_token_v1 FROM PUBLIC;
GRANT USAGE ON SCHEMA report_token_v1 TO replyrate_portal;

-- As in 0007, for both schemas.
CREATE OR REPLACE PROCEDURE access.repeat_views() LANGUAGE plpgsql AS $$
DECLARE
    source record;
    repeated record;
BEGIN
    FOR source IN
        SELECT c.relname AS name, obj_description(c.oid) AS comment,
            EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'account_id') AS has_account
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'report_v1' AND c.relkind = 'v'
            AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'company_id')
        ORDER BY 1
    LOOP
        FOR repeated IN
            SELECT 'report_company_v1' AS schema, 'replyrate_company' AS reader,
                'v.company_id IN (SELECT a.company_id FROM access.dashboards a WHERE a.role_name = current_user)' AS condition
            UNION ALL
            SELECT 'report_token_v1', 'replyrate_portal',
                'starts_with(v.company_id, (SELECT registry.key_prefix()))'
                || CASE WHEN source.has_account THEN ' OR (v.company_id, v.account_id) = '
                '(SELECT session.company_id, session.account_id FROM registry.session_account() session)' ELSE '' END
        LOOP
            EXECUTE format('CREATE OR REPLACE VIEW %1$I.%2$I WITH (security_barrier) AS SELECT v.* FROM report_v1.%2$I v WHERE %3$s',
                repeated.schema, source.name, repeated.condition);
            EXECUTE format('COMMENT ON VIEW %I.%I IS %L', repeated.schema, source.name, source.comment);
            EXECUTE format('GRANT SELECT ON %I.%I TO %I', repeated.schema, source.name, repeated.reader);
        END LOOP;
    END LOOP;
END $$;

-- The watermark of a company with the rights of its reader, so that it lists no company that the reader does not see. Views
-- for dashboards, whose readers see no table, read the watermarks themselves.
CREATE OR REPLACE VIEW report_v1.zero_rate_diagnosis AS
WITH late AS (
    SELECT c.company_id, w.since FROM ledger.companies c
    LEFT JOIN ledger.pipeline p ON p.partition = c.partition
    CROSS JOIN (SELECT min(passed_at) AS passed_at FROM ledger.pipeline) slowest
    CROSS JOIN LATERAL (SELECT least(
        (SELECT min(d.since) FROM ledger.dirty d WHERE d.company_id = c.company_id), c.due_at,
        coalesce(p.passed_at, slowest.passed_at, 'infinity')) AS since) w
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
ALTER VIEW ledger.passed SET (security_invoker = true);
CALL access.repeat_views();

DO $$
DECLARE table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY[
        'registry.coverage', 'registry.published', 'ledger.companies', 'ledger.dirty', 'ledger.inquiries', 'ledger.statuses',
        'ledger.replies', 'ledger.outcomes', 'ledger.outcome_history', 'ledger.rates', 'ledger.settled'
    ] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('CREATE POLICY services ON %s TO replyrate_fetcher, replyrate_aggregator USING (true)', table_name);
        EXECUTE format(
            'CREATE POLICY key ON %s FOR SELECT TO replyrate_portal USING (starts_with(company_id, (SELECT registry.key_prefix())))', table_name);
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA ledger TO replyrate_portal;
GRANT SELECT ON ledger.rule_sets, ledger.pipeline, ledger.passed, ledger.inquiries, ledger.statuses, ledger.replies, ledger.outcomes,
    ledger.outcome_history, ledger.rates, ledger.settled, registry.coverage TO replyrate_portal;
GRANT SELECT (company_id, partition, judged_at) ON ledger.companies TO replyrate_portal;
GRANT SELECT (company_id) ON ledger.dirty TO replyrate_portal;
GRANT SELECT (company_id, mailbox_id, message_id, record) ON registry.published TO replyrate_portal;

-- migrate:down
REVOKE ALL ON ALL TABLES IN SCHEMA ledger FROM replyrate_portal;
REVOKE ALL ON SCHEMA ledger FROM replyrate_portal;
DROP SCHEMA report_token_v1 CASCADE;
