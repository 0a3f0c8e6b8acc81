-- migrate:up
-- additive: yes

-- The staff console is a process of its own with a login of its own (docs/decisions/0091). It sees no row of a company by itself: the
-- token of a session of a member of the staff goes into each transaction (`replyrate.token`), as those of sellers and platforms do (0018), and
-- stands for the prefix '' of companies, which is all of them. Only this login can begin such a session. It may read what the web process
-- for sellers may read, by column, and change nothing of a company.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'replyrate_console') THEN
        CREATE ROLE replyrate_console NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- made at the same moment by the migration of another database
END $$;

CREATE TABLE registry.staff_sessions (
    session_id text COLLATE "C" PRIMARY KEY CHECK (session_id ~ '^w-[0-9a-f]{12}$'),
    token_hash bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    method text COLLATE "C" NOT NULL CHECK (method IN ('oidc', 'link')),
    subject text NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
    display_name text NOT NULL CHECK (length(display_name) BETWEEN 1 AND 200),
    role text COLLATE "C" NOT NULL CHECK (role IN ('support', 'operator')),
    idle_minutes integer CHECK (idle_minutes > 0),
    audit_days integer CHECK (audit_days > 0),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    opened_at timestamptz,
    used_at timestamptz,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    CHECK (opened_at IS NULL OR (idle_minutes IS NOT NULL AND audit_days IS NOT NULL AND used_at IS NOT NULL))
);
CREATE INDEX staff_sessions_expires ON registry.staff_sessions (expires_at);
COMMENT ON TABLE registry.staff_sessions IS 'Sessions of staff in the console, and links of the command line that begin one.';
COMMENT ON COLUMN registry.staff_sessions.token_hash IS 'SHA-256 of the link''s token until it is opened, else of the session''s.';
COMMENT ON COLUMN registry.staff_sessions.subject IS 'The subject of the id token; the id of the session when it began with a link.';
COMMENT ON COLUMN registry.staff_sessions.used_at IS 'When the session was last used, to the minute; it ends idle_minutes later.';
COMMENT ON COLUMN registry.staff_sessions.audit_days IS 'How long what is done in this session stays in staff_actions.';

CREATE TABLE registry.staff_actions (
    action_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    done_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    session_id text COLLATE "C" NOT NULL,
    subject text NOT NULL,
    display_name text NOT NULL,
    role text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL CHECK (action ~ '^[a-z][a-z-]{0,39}$'),
    company_id text COLLATE "C",
    account_id text COLLATE "C",
    mailbox_id text COLLATE "C",
    inquiry_id text COLLATE "C",
    detail jsonb NOT NULL DEFAULT '{}' CHECK (length(detail::text) <= 4096),
    expires_at timestamptz NOT NULL
);
CREATE INDEX staff_actions_company ON registry.staff_actions (company_id, action_id) WHERE company_id IS NOT NULL;
CREATE INDEX staff_actions_subject ON registry.staff_actions (subject, action_id);
CREATE INDEX staff_actions_name ON registry.staff_actions (display_name, action_id);
CREATE INDEX staff_actions_action ON registry.staff_actions (action, action_id);
CREATE INDEX staff_actions_done ON registry.staff_actions (done_at);
CREATE INDEX staff_actions_expires ON registry.staff_actions (expires_at);
COMMENT ON TABLE registry.staff_actions IS 'What staff read about people and changed in the console: who, what, about whom, when.';
COMMENT ON COLUMN registry.staff_actions.detail IS 'Numbers, codes and ids of the action; no text that somebody typed about a person.';

-- Each is evaluated once per statement, as (SELECT …).
CREATE FUNCTION registry.staff_session(
    OUT session_id text, OUT method text, OUT subject text, OUT display_name text, OUT role text, OUT expires_at timestamptz,
    OUT audit_days integer
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.session_id, s.method, s.subject, s.display_name, s.role, s.expires_at, s.audit_days
    FROM registry.staff_sessions s WHERE s.token_hash = registry.token_hash()
        AND s.opened_at IS NOT NULL AND s.ended_at IS NULL AND s.expires_at > clock_timestamp()
        AND s.used_at + make_interval(mins => s.idle_minutes) > clock_timestamp()
$$;
COMMENT ON FUNCTION registry.staff_session() IS 'The session of the staff that the token of this transaction belongs to; nulls when there is none.';
CREATE FUNCTION registry.staff_role() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
    $$ SELECT s.role FROM registry.staff_session() s $$;
COMMENT ON FUNCTION registry.staff_role() IS 'support or operator: what the session of this transaction may do; null when there is none.';

CREATE FUNCTION registry.begin_staff_session(
    new_id text, new_token_hash bytea, given_subject text, given_name text, given_role text, minutes integer, idle integer, audit integer
) RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO registry.staff_sessions (session_id, token_hash, method, subject, display_name, role, idle_minutes, audit_days, opened_at,
        used_at, expires_at)
    VALUES (new_id, new_token_hash, 'oidc', given_subject, given_name, given_role, idle, audit, clock_timestamp(), clock_timestamp(),
        clock_timestamp() + make_interval(mins => minutes))
$$;
COMMENT ON FUNCTION registry.begin_staff_session(text, bytea, text, text, text, integer, integer, integer) IS
    'Begins the session of somebody whom the OpenID provider named.';

-- The link is used up by the statement that opens it, so of two requests at the same moment only one gets the session.
CREATE FUNCTION registry.open_staff_link(link_hash bytea, session_hash bytea, minutes integer, idle integer, audit integer) RETURNS text
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE registry.staff_sessions s SET token_hash = session_hash, opened_at = clock_timestamp(), used_at = clock_timestamp(),
        idle_minutes = idle, audit_days = audit, expires_at = clock_timestamp() + make_interval(mins => minutes)
    WHERE s.token_hash = link_hash AND s.opened_at IS NULL AND s.ended_at IS NULL AND s.expires_at > clock_timestamp()
    RETURNING s.session_id
$$;
COMMENT ON FUNCTION registry.open_staff_link(bytea, bytea, integer, integer, integer) IS
    'Turns a link of the command line that was not used before into a session; null when the link is unknown, used or expired.';

-- Notes the use once a minute, so that most requests cost no write.
CREATE FUNCTION registry.use_staff_session() RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    UPDATE registry.staff_sessions s SET used_at = clock_timestamp()
    WHERE s.session_id = (SELECT own.session_id FROM registry.staff_session() own)
        AND s.used_at < clock_timestamp() - interval '1 minute'
$$;
CREATE FUNCTION registry.end_staff_session() RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    UPDATE registry.staff_sessions s SET ended_at = clock_timestamp() WHERE s.token_hash = registry.token_hash() AND s.ended_at IS NULL
$$;

-- Who did it follows from the session, so nobody writes an action of somebody else.
CREATE FUNCTION registry.note_staff_action(
    done text, of_company text, of_account text, of_mailbox text, of_inquiry text, details jsonb
) RETURNS boolean LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH noted AS (
        INSERT INTO registry.staff_actions (session_id, subject, display_name, role, action, company_id, account_id, mailbox_id,
            inquiry_id, detail, expires_at)
        SELECT s.session_id, s.subject, s.display_name, s.role, done, of_company, of_account, of_mailbox, of_inquiry, details,
            clock_timestamp() + make_interval(days => s.audit_days)
        FROM registry.staff_session() s WHERE s.session_id IS NOT NULL RETURNING 1
    )
    SELECT EXISTS (SELECT FROM noted)
$$;
COMMENT ON FUNCTION registry.note_staff_action(text, text, text, text, text, jsonb) IS
    'Notes what the session of this transaction reads or changes; false when there is no session.';
-- What was begun in a session may end after it (a replay in Kafka). Its end is recorded all the same, and nothing else is.
CREATE FUNCTION registry.note_staff_outcome(done text, details jsonb) RETURNS boolean LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    WITH noted AS (
        INSERT INTO registry.staff_actions (session_id, subject, display_name, role, action, detail, expires_at)
        SELECT s.session_id, s.subject, s.display_name, s.role, done, details, clock_timestamp() + make_interval(days => s.audit_days)
        FROM registry.staff_sessions s
        WHERE s.token_hash = registry.token_hash() AND s.opened_at IS NOT NULL AND done ~ '-(done|failed)$' RETURNING 1
    )
    SELECT EXISTS (SELECT FROM noted)
$$;
COMMENT ON FUNCTION registry.note_staff_outcome(text, jsonb) IS
    'Notes how something ended that the session of this transaction began, also after its end; false when there was no session.';

REVOKE EXECUTE ON FUNCTION registry.staff_session(), registry.staff_role(),
    registry.begin_staff_session(text, bytea, text, text, text, integer, integer, integer),
    registry.open_staff_link(bytea, bytea, integer, integer, integer), registry.use_staff_session(), registry.end_staff_session(),
    registry.note_staff_action(text, text, text, text, text, jsonb), registry.note_staff_outcome(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.staff_session(), registry.staff_role(),
    registry.begin_staff_session(text, bytea, text, text, text, integer, integer, integer),
    registry.open_staff_link(bytea, bytea, integer, integer, integer), registry.use_staff_session(), registry.end_staff_session(),
    registry.note_staff_action(text, text, text, text, text, jsonb), registry.note_staff_outcome(text, jsonb) TO replyrate_console;

-- The prefix of companies that the token of a transaction opens. A session of the staff counts for the login of the console alone:
-- the web process for sellers can do nothing with the token of such a session.
CREATE OR REPLACE FUNCTION registry.key_prefix() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN pg_has_role(session_user, 'replyrate_console', 'MEMBER') AND NOT pg_has_role(session_user, 'replyrate_portal', 'MEMBER')
        THEN (SELECT '' FROM registry.staff_session() s WHERE s.session_id IS NOT NULL)
        ELSE (SELECT k.company_prefix FROM registry.api_keys k WHERE k.secret_hash = registry.token_hash()
            AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())) END
$$;
CREATE OR REPLACE FUNCTION registry.is_limited_to_token() RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (pg_has_role(session_user, 'replyrate_portal', 'MEMBER') OR pg_has_role(session_user, 'replyrate_console', 'MEMBER'))
        AND NOT pg_has_role(session_user, 'replyrate_aggregator', 'MEMBER')
$$;
COMMENT ON FUNCTION registry.is_limited_to_token() IS 'Whether this login is a web process, which sees what a token allows.';

-- What the web process for sellers may read, column by column, and its functions that read.
DO $$
DECLARE granted record;
BEGIN
    FOR granted IN
        SELECT c.oid::regclass AS relation, CASE WHEN has_table_privilege('replyrate_portal', c.oid, 'SELECT') THEN NULL
            ELSE (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                    AND has_column_privilege('replyrate_portal', c.oid, a.attnum, 'SELECT')) END AS columns
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('registry', 'ledger', 'replyrate', 'report_token_v1') AND c.relkind IN ('r', 'p', 'v')
            AND has_any_column_privilege('replyrate_portal', c.oid, 'SELECT') AND c.relname NOT IN ('api_answers', 'api_changes')
    LOOP
        EXECUTE format('GRANT SELECT %s ON %s TO replyrate_console',
            CASE WHEN granted.columns IS NULL THEN '' ELSE '(' || granted.columns || ')' END, granted.relation);
    END LOOP;
    FOR granted IN
        SELECT DISTINCT p.polrelid::regclass AS relation FROM pg_policy p
        JOIN pg_attribute a ON a.attrelid = p.polrelid AND a.attname = 'company_id'
        WHERE (SELECT oid FROM pg_roles WHERE rolname = 'replyrate_portal') = ANY (p.polroles)
            AND has_any_column_privilege('replyrate_console', p.polrelid, 'SELECT')
    LOOP
        EXECUTE format('CREATE POLICY console ON %s FOR SELECT TO replyrate_console'
            ' USING (starts_with(company_id, (SELECT registry.key_prefix())))', granted.relation);
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA registry, ledger, replyrate, report_token_v1 TO replyrate_console;
GRANT EXECUTE ON FUNCTION registry.token_hash(), registry.key_prefix(), registry.session_account(), registry.panel_company(),
    registry.panel_main_company(), registry.is_limited_to_token(), registry.stored_message(text, text, text) TO replyrate_console;

ALTER TABLE registry.staff_sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE registry.staff_actions ENABLE ROW LEVEL SECURITY;
CREATE POLICY services ON registry.staff_sessions TO replyrate_fetcher USING (expires_at < statement_timestamp());
CREATE POLICY services ON registry.staff_actions TO replyrate_fetcher USING (expires_at < statement_timestamp());
CREATE POLICY operators ON registry.staff_actions FOR SELECT TO replyrate_console
    USING ((SELECT registry.staff_role()) = 'operator');
GRANT SELECT ON registry.staff_actions TO replyrate_console;
-- The fetchers delete what is too old (services/registry/retention.py).
GRANT SELECT, DELETE ON registry.staff_sessions, registry.staff_actions TO replyrate_fetcher;

-- migrate:down
REVOKE ALL ON ALL TABLES IN SCHEMA registry, ledger, replyrate, report_token_v1 FROM replyrate_console;
DROP TABLE registry.staff_sessions, registry.staff_actions;
