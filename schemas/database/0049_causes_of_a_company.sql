-- migrate:up
-- additive: yes

-- The causes of a company have sums of what is known about the mailboxes of all accounts, and advice that names them. Its main account
-- is shown the counts of inquiries and units alone (services/portal/api/seller_diagnosis.py). Until now the page left out the rest;
-- the view did not, so that a person who controls the web process could read it with the token of a main account.
CREATE FUNCTION ledger.facts_of_company(facts jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_object_agg(fact.key, fact.value), '{}') FROM jsonb_each(facts) fact WHERE fact.key = ANY (ARRAY[
        'units', 'inquiries', 'later_inquiries', 'last_inquiry_on', 'excluded', 'excluded_by', 'pending', 'timely', 'late', 'unanswered',
        'unmeasured', 'waiting_seconds', 'silent_units', 'automatic_units', 'suspect_units', 'units_before', 'units_changed',
        'units_blind', 'units_invisible'])
$$;
COMMENT ON FUNCTION ledger.facts_of_company(jsonb) IS 'The facts of a cause that say nothing of mailboxes.';
REVOKE EXECUTE ON FUNCTION ledger.facts_of_company(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.facts_of_company(jsonb) TO replyrate_portal, replyrate_console;

-- A diagnosis that was made while a company waited has the cause pipeline-behind, which the view adds as of now: it was shown twice then,
-- and until the next diagnosis when nothing waited any more.
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
WHERE d.cause <> 'pipeline-behind'
UNION ALL
SELECT d.rule_set, d.company_id, nullif(d.account_id, '') COLLATE "C", d.as_of, a.code, 'high',
    jsonb_build_object('waiting_seconds', floor(extract(epoch FROM clock_timestamp() - l.since))::bigint),
    a.advice_en, a.advice_zh, max(d.computed_at)
FROM ledger.diagnoses d JOIN ledger.rule_sets s ON s.name = d.rule_set AND s.active
JOIN late l USING (company_id) JOIN ledger.advice a ON a.code = 'pipeline-behind'
GROUP BY d.rule_set, d.company_id, d.account_id, d.as_of, a.code, l.since, a.advice_en, a.advice_zh;
-- As in 0039, with what a main account sees of the causes of its company.
CREATE OR REPLACE PROCEDURE access.repeat_views() LANGUAGE plpgsql AS $$
DECLARE
    source record;
    repeated record;
    is_own CONSTANT text := 'starts_with(v.company_id, (SELECT registry.key_prefix())) OR (v.company_id, v.account_id) = '
        '(SELECT session.company_id, session.account_id FROM registry.session_account() session)';
BEGIN
    FOR source IN
        SELECT c.relname AS name, obj_description(c.oid) AS comment,
            EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'company_id') AS has_company,
            EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'account_id') AS has_account,
            (SELECT string_agg(format('v.%I', a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
            c.relname IN ('reply_rate', 'reply_rate_latest', 'reply_rate_history', 'corrections', 'reply_time_histogram', 'reply_daily',
                'inquiry_outcomes', 'due_soon') AS has_company_figures
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'report_v1' AND c.relkind = 'v'
        ORDER BY 1
    LOOP
        FOR repeated IN
            SELECT 'report_company_v1' AS schema, 'replyrate_company' AS reader, source.columns AS columns,
                'v.company_id = ANY (ARRAY(SELECT a.company_id FROM access.dashboards a WHERE a.role_name = current_user))' AS condition
            UNION ALL
            SELECT 'report_token_v1', 'replyrate_portal',
                CASE WHEN source.has_company_figures
                    THEN replace(source.columns, 'v.mailbox_id', 'CASE WHEN ' || is_own || ' THEN v.mailbox_id END AS mailbox_id')
                    WHEN source.name = 'zero_rate_diagnosis' THEN replace(replace(replace(source.columns,
                    'v.facts', 'CASE WHEN ' || is_own || ' THEN v.facts ELSE ledger.facts_of_company(v.facts) END AS facts'),
                    'v.advice_en', 'CASE WHEN ' || is_own || ' THEN v.advice_en END AS advice_en'),
                    'v.advice_zh', 'CASE WHEN ' || is_own || ' THEN v.advice_zh END AS advice_zh')
                    ELSE source.columns END,
                'starts_with(v.company_id, (SELECT registry.key_prefix()))'
                || CASE WHEN source.has_account THEN ' OR (v.company_id, v.account_id) = '
                '(SELECT session.company_id, session.account_id FROM registry.session_account() session)' ELSE '' END
                || CASE WHEN source.has_company_figures THEN ' OR v.company_id = (SELECT registry.panel_main_company())'
                    WHEN source.name = 'zero_rate_diagnosis'
                    THEN ' OR v.company_id = (SELECT registry.panel_main_company()) AND v.account_id IS NULL' ELSE '' END
        LOOP
            EXECUTE format('CREATE OR REPLACE VIEW %1$I.%2$I WITH (security_barrier) AS SELECT %4$s FROM report_v1.%2$I v WHERE %3$s',
                repeated.schema, source.name, CASE WHEN source.has_company THEN repeated.condition ELSE 'true' END, repeated.columns);
            EXECUTE format('COMMENT ON VIEW %I.%I IS %L', repeated.schema, source.name, source.comment);
            EXECUTE format('GRANT SELECT ON %I.%I TO %I', repeated.schema, source.name, repeated.reader);
        END LOOP;
    END LOOP;
END $$;
CALL access.repeat_views();

-- migrate:down
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
CREATE OR REPLACE PROCEDURE access.repeat_views() LANGUAGE plpgsql AS $$
DECLARE
    source record;
    repeated record;
BEGIN
    FOR source IN
        SELECT c.relname AS name, obj_description(c.oid) AS comment,
            EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'company_id') AS has_company,
            EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'account_id') AS has_account,
            (SELECT string_agg(format('v.%I', a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
            c.relname IN ('reply_rate', 'reply_rate_latest', 'reply_rate_history', 'corrections', 'reply_time_histogram', 'reply_daily',
                'inquiry_outcomes', 'due_soon') AS has_company_figures
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'report_v1' AND c.relkind = 'v'
        ORDER BY 1
    LOOP
        FOR repeated IN
            SELECT 'report_company_v1' AS schema, 'replyrate_company' AS reader, source.columns AS columns,
                'v.company_id = ANY (ARRAY(SELECT a.company_id FROM access.dashboards a WHERE a.role_name = current_user))' AS condition
            UNION ALL
            SELECT 'report_token_v1', 'replyrate_portal',
                CASE WHEN source.has_company_figures THEN replace(source.columns, 'v.mailbox_id',
                    'CASE WHEN starts_with(v.company_id, (SELECT registry.key_prefix())) OR (v.company_id, v.account_id) = '
                    '(SELECT session.company_id, session.account_id FROM registry.session_account() session) '
                    'THEN v.mailbox_id END AS mailbox_id') ELSE source.columns END,
                'starts_with(v.company_id, (SELECT registry.key_prefix()))'
                || CASE WHEN source.has_account THEN ' OR (v.company_id, v.account_id) = '
                '(SELECT session.company_id, session.account_id FROM registry.session_account() session)' ELSE '' END
                || CASE WHEN source.has_company_figures THEN ' OR v.company_id = (SELECT registry.panel_main_company())'
                    WHEN source.name = 'zero_rate_diagnosis'
                    THEN ' OR v.company_id = (SELECT registry.panel_main_company()) AND v.account_id IS NULL' ELSE '' END
        LOOP
            EXECUTE format('CREATE OR REPLACE VIEW %1$I.%2$I WITH (security_barrier) AS SELECT %4$s FROM report_v1.%2$I v WHERE %3$s',
                repeated.schema, source.name, CASE WHEN source.has_company THEN repeated.condition ELSE 'true' END, repeated.columns);
            EXECUTE format('COMMENT ON VIEW %I.%I IS %L', repeated.schema, source.name, source.comment);
            EXECUTE format('GRANT SELECT ON %I.%I TO %I', repeated.schema, source.name, repeated.reader);
        END LOOP;
    END LOOP;
END $$;
CALL access.repeat_views();
DROP FUNCTION ledger.facts_of_company(jsonb);
