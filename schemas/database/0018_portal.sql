-- migrate:up
-- additive: yes

-- What the web process may do. It takes what sellers type, seals it for the fetchers, and shows what came of it; it can open
-- nothing, and it sees the rows of a company only while it has a token that is valid for that company. The token itself goes
-- into every transaction (`replyrate.token`), and the policies below look it up: the login of the web process sees no company at all
-- without a token of a seller or of a platform.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'replyrate_portal') THEN
        CREATE ROLE replyrate_portal NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- made at the same moment by the migration of another database
END $$;

CREATE TABLE registry.sealing_keys (
    key_id text COLLATE "C" PRIMARY KEY CHECK (key_id ~ '^[0-9a-f]{16}$'),
    public_key bytea NOT NULL CHECK (length(public_key) = 32),
    published_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE registry.sealing_keys IS 'Public keys of the fetchers; what a seller types is sealed with the newest.';

CREATE TABLE registry.api_keys (
    key_id text COLLATE "C" PRIMARY KEY CHECK (key_id ~ '^k-[0-9a-f]{12}$'),
    secret_hash bytea NOT NULL UNIQUE CHECK (length(secret_hash) = 32),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    scopes text[] NOT NULL,
    company_prefix text COLLATE "C" NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_on date
);
COMMENT ON TABLE registry.api_keys IS 'Keys of platforms for the HTTP API: by scope and by the first characters of the company.';
COMMENT ON COLUMN registry.api_keys.secret_hash IS 'SHA-256 of the key; the key has 256 random bits.';

CREATE TABLE registry.portal_sessions (
    session_id text COLLATE "C" PRIMARY KEY CHECK (session_id ~ '^s-[0-9a-f]{12}$'),
    token_hash bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    company_id text COLLATE "C" NOT NULL REFERENCES registry.companies ON DELETE CASCADE,
    account_id text COLLATE "C" NOT NULL,
    role text COLLATE "C" NOT NULL CHECK (role IN ('registered', 'backup')),
    mailbox_id text COLLATE "C",
    expected_address_hash text COLLATE "C",
    language text COLLATE "C" NOT NULL,
    return_url text,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    opened_at timestamptz,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    FOREIGN KEY (company_id, account_id) REFERENCES registry.accounts ON DELETE CASCADE
);
CREATE INDEX portal_sessions_company ON registry.portal_sessions (company_id);
CREATE INDEX portal_sessions_expires ON registry.portal_sessions (expires_at);
COMMENT ON TABLE registry.portal_sessions IS 'Links that a platform handed to a seller, and the sessions that they were opened to.';
COMMENT ON COLUMN registry.portal_sessions.token_hash IS 'SHA-256 of the link''s token until it is opened, then of the session''s.';

CREATE TABLE registry.connect_requests (
    request_id text COLLATE "C" PRIMARY KEY CHECK (request_id ~ '^r-[0-9a-f]{32}$'),
    company_id text COLLATE "C" NOT NULL REFERENCES registry.companies ON DELETE CASCADE,
    account_id text COLLATE "C" NOT NULL,
    mailbox_id text COLLATE "C" NOT NULL,
    purpose text COLLATE "C" NOT NULL CHECK (purpose IN ('look-up', 'test', 'connect', 'reconnect')),
    key_id text COLLATE "C" NOT NULL,
    sealed bytea CHECK (length(sealed) <= 32768),
    state text COLLATE "C" NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'passed', 'failed', 'expired')),
    stage text COLLATE "C",
    code text COLLATE "C",
    report jsonb,
    runner text COLLATE "C",
    tries integer NOT NULL DEFAULT 0,
    claimable_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL DEFAULT clock_timestamp() + interval '10 minutes',
    finished_at timestamptz,
    CHECK (sealed IS NULL OR state IN ('waiting', 'running'))
);
CREATE INDEX connect_requests_open ON registry.connect_requests (claimable_at) WHERE sealed IS NOT NULL;
CREATE INDEX connect_requests_company ON registry.connect_requests (company_id);
CREATE INDEX connect_requests_created ON registry.connect_requests (created_at);
COMMENT ON TABLE registry.connect_requests IS 'What sellers typed, sealed for the fetchers for at most ten minutes, and the result of the connection test.';
COMMENT ON COLUMN registry.connect_requests.sealed IS 'HPKE to the fetchers'' key, bound to request and company; null as soon as the request is finished or its life is over.';
COMMENT ON COLUMN registry.connect_requests.claimable_at IS 'From when on a fetcher may take the request: at once, or after the fetcher that has it fell silent.';

-- Whom the token of this transaction belongs to. Each is evaluated once per statement, as (SELECT …).
CREATE FUNCTION registry.token_hash() RETURNS bytea LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS
    $$ SELECT sha256(convert_to(nullif(current_setting('replyrate.token', true), ''), 'UTF8')) $$;
CREATE FUNCTION registry.session_account(OUT company_id text, OUT account_id text) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.company_id, s.account_id FROM registry.portal_sessions s WHERE s.token_hash = registry.token_hash()
        AND s.opened_at IS NOT NULL AND s.ended_at IS NULL AND s.expires_at > clock_timestamp()
$$;
CREATE FUNCTION registry.key_prefix() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.company_prefix FROM registry.api_keys k WHERE k.secret_hash = registry.token_hash()
        AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
$$;
REVOKE EXECUTE ON FUNCTION registry.token_hash(), registry.session_account(), registry.key_prefix() FROM PUBLIC;

ALTER TABLE registry.connect_requests ENABLE ROW LEVEL SECURITY;
CREATE POLICY fetchers ON registry.connect_requests TO replyrate_fetcher USING (true);
CREATE POLICY token ON registry.connect_requests TO replyrate_portal USING (
    (company_id, account_id) = (SELECT session.company_id, session.account_id FROM registry.session_account() session)
    OR starts_with(company_id, (SELECT registry.key_prefix()))
);

GRANT USAGE ON SCHEMA registry TO replyrate_portal;
GRANT EXECUTE ON FUNCTION registry.token_hash(), registry.session_account(), registry.key_prefix()
    TO replyrate_portal;
GRANT SELECT, INSERT, UPDATE, DELETE ON registry.sealing_keys TO replyrate_fetcher;
GRANT SELECT ON registry.sealing_keys TO replyrate_portal;
GRANT SELECT, UPDATE, DELETE ON registry.connect_requests TO replyrate_fetcher;
GRANT SELECT (request_id, company_id, account_id, mailbox_id, purpose, state, stage, code, report, created_at, expires_at, finished_at)
    ON registry.connect_requests TO replyrate_portal;
GRANT INSERT (request_id, company_id, account_id, mailbox_id, purpose, key_id, sealed) ON registry.connect_requests
    TO replyrate_portal;
GRANT SELECT, DELETE ON registry.portal_sessions, registry.api_keys TO replyrate_fetcher;

-- migrate:down
REVOKE ALL ON SCHEMA registry FROM replyrate_portal;
DROP TABLE registry.connect_requests, registry.portal_sessions, registry.api_keys, registry.sealing_keys;
DROP FUNCTION registry.session_account(), registry.key_prefix(), registry.token_hash();
