-- migrate:up
-- additive: yes

-- A reply may leave from the mailbox of another account of the company. The outcome of an inquiry showed the id of this mailbox to the account
-- that the inquiry belongs to; now only the account that has the mailbox, and the platform, read it. Otherwise as in 0049.
CREATE OR REPLACE PROCEDURE access.repeat_views() LANGUAGE plpgsql AS $$
DECLARE
    source record;
    repeated record;
    is_own CONSTANT text := 'starts_with(v.company_id, (SELECT registry.key_prefix())) OR (v.company_id, v.account_id) = '
        '(SELECT session.company_id, session.account_id FROM registry.session_account() session)';
    is_own_mailbox CONSTANT text := 'starts_with(v.company_id, (SELECT registry.key_prefix())) OR (v.company_id, v.mailbox_id) IN '
        '(SELECT m.company_id, m.mailbox_id FROM registry.mailboxes m '
        'JOIN registry.session_account() session ON m.company_id = session.company_id AND m.account_id = session.account_id)';
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
                    THEN replace(source.columns, 'v.mailbox_id', 'CASE WHEN ' || is_own_mailbox || ' THEN v.mailbox_id END AS mailbox_id')
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
