-- migrate:up
-- additive: yes

-- Sign-ins by redirect on their way through a provider. A state belongs to the session that started it, is used once, and expires. The
-- web process reaches the table through the functions alone; each looks up the session by the token of the transaction (0018).

CREATE TABLE registry.sign_ins (
    state_hash bytea PRIMARY KEY CHECK (length(state_hash) = 32),
    session_id text COLLATE "C" NOT NULL REFERENCES registry.portal_sessions ON DELETE CASCADE,
    client text COLLATE "C" NOT NULL CHECK (length(client) BETWEEN 1 AND 100),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL DEFAULT clock_timestamp() + interval '10 minutes',
    used_at timestamptz,
    request_id text COLLATE "C"
);
CREATE INDEX sign_ins_session ON registry.sign_ins (session_id);
CREATE INDEX sign_ins_created ON registry.sign_ins (created_at);
COMMENT ON TABLE registry.sign_ins IS 'Sign-ins by redirect that sellers started, and the connect requests that they became.';
COMMENT ON COLUMN registry.sign_ins.state_hash IS 'SHA-256 of the state; the state has 256 random bits.';

CREATE FUNCTION registry.begin_sign_in(new_state_hash bytea, client_name text) RETURNS boolean
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH started AS (
        INSERT INTO registry.sign_ins (state_hash, session_id, client)
        SELECT new_state_hash, s.session_id, client_name FROM registry.session() s WHERE s.session_id IS NOT NULL RETURNING 1
    )
    SELECT EXISTS (SELECT FROM started)
$$;
COMMENT ON FUNCTION registry.begin_sign_in(bytea, text) IS 'Stores the state of a sign-in for the session of this transaction; false when there is none.';

-- The row is locked by the update, so of two callbacks at the same moment only one uses it.
CREATE FUNCTION registry.use_sign_in(used_state_hash bytea, OUT outcome text, OUT client text, OUT request_id text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE own_session text := (SELECT s.session_id FROM registry.session() s);
BEGIN
    UPDATE registry.sign_ins i SET used_at = clock_timestamp()
    WHERE i.state_hash = used_state_hash AND i.session_id = own_session AND i.used_at IS NULL AND i.expires_at > clock_timestamp()
    RETURNING 'open', i.client INTO outcome, client;
    IF NOT FOUND THEN
        SELECT CASE WHEN i.used_at IS NULL THEN 'expired' ELSE 'used' END, i.client, i.request_id INTO outcome, client, request_id
        FROM registry.sign_ins i WHERE i.state_hash = used_state_hash AND i.session_id = own_session;
    END IF;
    outcome := coalesce(outcome, 'unknown');
END $$;
COMMENT ON FUNCTION registry.use_sign_in(bytea) IS 'Uses a state up: open, or why not: used (with its request), expired, unknown (also when it is another session''s).';

CREATE FUNCTION registry.note_sign_in_request(used_state_hash bytea, noted_request_id text) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE registry.sign_ins i SET request_id = noted_request_id FROM registry.session() s
    WHERE i.state_hash = used_state_hash AND i.session_id = s.session_id AND i.used_at IS NOT NULL AND i.request_id IS NULL
$$;
COMMENT ON FUNCTION registry.note_sign_in_request(bytea, text) IS 'Notes the connect request that a sign-in became, so that its callback leads there again.';

REVOKE EXECUTE ON FUNCTION registry.begin_sign_in(bytea, text), registry.use_sign_in(bytea), registry.note_sign_in_request(bytea, text)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.begin_sign_in(bytea, text), registry.use_sign_in(bytea), registry.note_sign_in_request(bytea, text)
    TO replyrate_portal;
ALTER TABLE registry.sign_ins ENABLE ROW LEVEL SECURITY;
CREATE POLICY services ON registry.sign_ins TO replyrate_fetcher USING (true);
GRANT SELECT, DELETE ON registry.sign_ins TO replyrate_fetcher;

-- migrate:down
DROP FUNCTION registry.begin_sign_in(bytea, text), registry.use_sign_in(bytea), registry.note_sign_in_request(bytea, text);
DROP TABLE registry.sign_ins;
