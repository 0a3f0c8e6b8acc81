-- migrate:up
-- additive: yes

-- The panel: a session may be for reading the figures of its account (`panel`), also within a frame of the platform (`frame`), which
-- may not change anything. A main account also reads the figures of its company's other accounts, but nothing of their mailboxes.

ALTER TABLE registry.portal_sessions
    ADD COLUMN purpose text COLLATE "C" NOT NULL DEFAULT 'connect' CHECK (purpose IN ('connect', 'panel', 'frame'));
COMMENT ON COLUMN registry.portal_sessions.purpose IS
    'connect: mailboxes only; panel: figures and mailboxes; frame: figures, read only, and never opened by a link.';

-- The functions that the connect page uses know no session of a frame.
DROP FUNCTION registry.session();
CREATE FUNCTION registry.session(
    OUT session_id text, OUT company_id text, OUT account_id text, OUT role text, OUT mailbox_id text,
    OUT expected_address_hash text, OUT language text, OUT return_url text, OUT created_by text, OUT expires_at timestamptz,
    OUT consent_by text, OUT consent_at timestamptz, OUT consent_text_version text, OUT consent_language text, OUT purpose text
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.session_id, s.company_id, s.account_id, s.role, s.mailbox_id, s.expected_address_hash, s.language, s.return_url,
        s.created_by, s.expires_at, s.consent_by, s.consent_at, s.consent_text_version, s.consent_language, s.purpose
    FROM registry.portal_sessions s WHERE s.token_hash = registry.token_hash() AND s.purpose <> 'frame'
        AND s.opened_at IS NOT NULL AND s.ended_at IS NULL AND s.expires_at > clock_timestamp()
$$;
COMMENT ON FUNCTION registry.session() IS 'The session in a browser that the token of this transaction belongs to; nulls when there is none.';

CREATE OR REPLACE FUNCTION registry.give_consent(given_by text, given_version text, given_language text) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE registry.portal_sessions s SET consent_by = given_by, consent_at = clock_timestamp(),
        consent_text_version = given_version, consent_language = given_language
    WHERE s.token_hash = registry.token_hash() AND s.purpose <> 'frame' AND s.opened_at IS NOT NULL AND s.ended_at IS NULL
        AND s.expires_at > clock_timestamp()
$$;

CREATE FUNCTION registry.panel_session(
    OUT session_id text, OUT company_id text, OUT account_id text, OUT account_kind text, OUT purpose text, OUT language text,
    OUT return_url text, OUT expires_at timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.session_id, s.company_id, s.account_id, a.kind, s.purpose, s.language, s.return_url, s.expires_at
    FROM registry.portal_sessions s JOIN registry.accounts a ON a.company_id = s.company_id AND a.account_id = s.account_id
    WHERE s.token_hash = registry.token_hash() AND s.purpose <> 'connect'
        AND s.opened_at IS NOT NULL AND s.ended_at IS NULL AND s.expires_at > clock_timestamp()
$$;
COMMENT ON FUNCTION registry.panel_session() IS 'The session of a panel that the token of this transaction belongs to; nulls when there is none.';

-- Each is evaluated once per statement, as (SELECT …).
CREATE FUNCTION registry.acting_account(OUT company_id text, OUT account_id text) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.company_id, s.account_id FROM registry.session() s WHERE s.session_id IS NOT NULL
$$;
COMMENT ON FUNCTION registry.acting_account() IS 'The account that a session may change something of: not within a frame.';
CREATE FUNCTION registry.panel_company() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$ SELECT s.company_id FROM registry.panel_session() s $$;
COMMENT ON FUNCTION registry.panel_company() IS 'The company whose facts the explanations of this panel are made of.';
CREATE FUNCTION registry.panel_main_company() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$ SELECT s.company_id FROM registry.panel_session() s WHERE s.account_kind = 'main' $$;
COMMENT ON FUNCTION registry.panel_main_company() IS 'The company all of whose figures this panel shows, as it is one of a main account.';

REVOKE EXECUTE ON FUNCTION registry.session(), registry.panel_session(), registry.acting_account(), registry.panel_company(),
    registry.panel_main_company() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.session(), registry.panel_session(), registry.acting_account(), registry.panel_company(),
    registry.panel_main_company() TO replyrate_portal;

-- What a session sees stays; what it may change is limited.
ALTER POLICY token ON registry.connect_requests WITH CHECK (
    (company_id, account_id) = (SELECT acting.company_id, acting.account_id FROM registry.acting_account() acting)
    OR starts_with(company_id, (SELECT registry.key_prefix()))
);
ALTER POLICY session ON registry.mailboxes
    WITH CHECK ((company_id, account_id) = (SELECT acting.company_id, acting.account_id FROM registry.acting_account() acting));
ALTER POLICY session ON registry.mailbox_history WITH CHECK (EXISTS (
    SELECT FROM registry.mailboxes m WHERE m.company_id = mailbox_history.company_id AND m.mailbox_id = mailbox_history.mailbox_id
        AND (m.company_id, m.account_id) = (SELECT acting.company_id, acting.account_id FROM registry.acting_account() acting)));
GRANT SELECT (purpose), INSERT (purpose, opened_at) ON registry.portal_sessions TO replyrate_portal;

-- As in 0027, with what a main account sees of the other accounts of its company.
CREATE OR REPLACE PROCEDURE access.repeat_views() LANGUAGE plpgsql AS $$
DECLARE
    source record;
    repeated record;
BEGIN
    FOR source IN
        SELECT c.relname AS name, obj_description(c.oid) AS comment,
            EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'account_id') AS has_account,
            (SELECT string_agg(format('v.%I', a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
            c.relname IN ('reply_rate', 'reply_rate_latest', 'reply_rate_history', 'corrections', 'reply_time_histogram', 'reply_daily',
                'inquiry_outcomes', 'due_soon') AS has_company_figures
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'report_v1' AND c.relkind = 'v'
            AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'company_id')
        ORDER BY 1
    LOOP
        FOR repeated IN
            SELECT 'report_company_v1' AS schema, 'replyrate_company' AS reader, source.columns AS columns,
                'v.company_id IN (SELECT a.company_id FROM access.dashboards a WHERE a.role_name = current_user)' AS condition
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
                repeated.schema, source.name, repeated.condition, repeated.columns);
            EXECUTE format('COMMENT ON VIEW %I.%I IS %L', repeated.schema, source.name, source.comment);
            EXECUTE format('GRANT SELECT ON %I.%I TO %I', repeated.schema, source.name, repeated.reader);
        END LOOP;
    END LOOP;
END $$;
CALL access.repeat_views();

-- An explanation is made by the statement that judges, of all facts of the company (docs/decisions/0081): what another account
-- wrote may answer an inquiry. Facts have no address. How far mailboxes were read comes from a view without their details.
DO $$
DECLARE table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY[
        'registry.coverage', 'ledger.companies', 'ledger.dirty', 'ledger.inquiries', 'ledger.statuses', 'ledger.replies',
        'ledger.outcomes', 'ledger.outcome_history', 'ledger.rates', 'ledger.settled'
    ] LOOP
        EXECUTE format(
            'CREATE POLICY panel ON %s FOR SELECT TO replyrate_portal USING (company_id = (SELECT registry.panel_company()))', table_name);
    END LOOP;
END $$;

CREATE FUNCTION registry.is_limited_to_token() RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_has_role(session_user, 'replyrate_portal', 'MEMBER') AND NOT pg_has_role(session_user, 'replyrate_aggregator', 'MEMBER')
$$;
COMMENT ON FUNCTION registry.is_limited_to_token() IS 'Whether this login is the web process, which sees what a token allows.';
REVOKE EXECUTE ON FUNCTION registry.is_limited_to_token() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.is_limited_to_token(), registry.key_prefix(), registry.panel_company()
    TO replyrate_portal, replyrate_aggregator;
CREATE VIEW registry.mailbox_reading WITH (security_barrier) AS
SELECT m.company_id, m.mailbox_id, m.account_id, m.state, m.last_success_at, m.complete_through FROM registry.mailboxes m
WHERE NOT (SELECT registry.is_limited_to_token()) OR starts_with(m.company_id, (SELECT registry.key_prefix()))
    OR m.company_id = (SELECT registry.panel_company());
COMMENT ON VIEW registry.mailbox_reading IS
    'How far mailboxes were read, for the statement that judges; for the web process those of the companies that its token explains.';
GRANT SELECT ON registry.mailbox_reading TO replyrate_portal, replyrate_aggregator;

CREATE OR REPLACE FUNCTION registry.stored_message(of_company text, of_mailbox text, of_message text)
    RETURNS TABLE (sent_at timestamptz, first_seen timestamptz, record bytea) LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp ROWS 1 AS $$
BEGIN
    IF registry.is_limited_to_token() AND starts_with(of_company, registry.key_prefix()) IS NOT TRUE
        AND (of_company = registry.panel_company()) IS NOT TRUE THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT published.sent_at, published.published_at, published.record FROM registry.published
    WHERE published.company_id = of_company AND published.mailbox_id = of_mailbox AND published.message_id = of_message;
    IF of_message ~ '^[0-9a-f]{32}$' THEN
        RETURN QUERY SELECT message.sent_at, message.first_seen, message.record FROM registry.published_messages message
        WHERE message.message_key = registry.message_key(of_company, of_mailbox, of_message)
            AND message.message_tail = registry.message_tail(of_message);
    END IF;
END $$;

-- migrate:down
DROP VIEW registry.mailbox_reading;
ALTER TABLE registry.portal_sessions DROP COLUMN purpose;
