-- migrate:up
-- additive: yes

-- What the web process may do in the registry. Every row that it sees or changes belongs to the token of its transaction
-- (0018); services see all rows as before. The owner of the tables, which the command line uses, is not limited by policies.

CREATE FUNCTION registry.session(
    OUT session_id text, OUT company_id text, OUT account_id text, OUT role text, OUT mailbox_id text,
    OUT expected_address_hash text, OUT language text, OUT return_url text, OUT created_by text, OUT expires_at timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.session_id, s.company_id, s.account_id, s.role, s.mailbox_id, s.expected_address_hash, s.language, s.return_url,
        s.created_by, s.expires_at
    FROM registry.portal_sessions s WHERE s.token_hash = registry.token_hash()
        AND s.opened_at IS NOT NULL AND s.ended_at IS NULL AND s.expires_at > clock_timestamp()
$$;
COMMENT ON FUNCTION registry.session() IS 'The session that the token of this transaction belongs to; nulls when there is none.';

-- The link is used up by the statement that opens it, so of two requests at the same moment only one gets the session.
CREATE FUNCTION registry.open_session(link_hash bytea, session_hash bytea, minutes integer) RETURNS text
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE registry.portal_sessions s SET token_hash = session_hash, opened_at = clock_timestamp(),
        expires_at = clock_timestamp() + make_interval(mins => minutes)
    WHERE s.token_hash = link_hash AND s.opened_at IS NULL AND s.ended_at IS NULL AND s.expires_at > clock_timestamp()
    RETURNING s.session_id
$$;
COMMENT ON FUNCTION registry.open_session(bytea, bytea, integer) IS 'Turns a link that was not used before into a session; null when the link is unknown, used or expired.';

CREATE FUNCTION registry.end_session() RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE registry.portal_sessions s SET ended_at = clock_timestamp()
    WHERE s.token_hash = registry.token_hash() AND s.ended_at IS NULL
$$;

-- Notes the day on which a key was last used, once a day, so that a request costs no write.
CREATE FUNCTION registry.own_key(OUT key_id text, OUT name text, OUT scopes text[], OUT company_prefix text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE used_on date;
BEGIN
    SELECT k.key_id, k.name, k.scopes, k.company_prefix, k.last_used_on INTO key_id, name, scopes, company_prefix, used_on
    FROM registry.api_keys k WHERE k.secret_hash = registry.token_hash()
        AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp());
    IF key_id IS NOT NULL AND used_on IS DISTINCT FROM current_date THEN
        UPDATE registry.api_keys k SET last_used_on = current_date WHERE k.key_id = own_key.key_id;
    END IF;
END $$;
COMMENT ON FUNCTION registry.own_key() IS 'The API key that the token of this transaction is; nulls when it is none.';

REVOKE EXECUTE ON FUNCTION registry.session(), registry.open_session(bytea, bytea, integer), registry.end_session(), registry.own_key()
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.session(), registry.open_session(bytea, bytea, integer), registry.end_session(), registry.own_key()
    TO replyrate_portal;

DO $$
DECLARE table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['companies', 'accounts', 'mailboxes', 'mailbox_history', 'consents', 'connection_tests'] LOOP
        EXECUTE format('ALTER TABLE registry.%I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('CREATE POLICY services ON registry.%I TO replyrate_fetcher, replyrate_aggregator USING (true)', table_name);
        EXECUTE format(
            'CREATE POLICY key ON registry.%I TO replyrate_portal USING (starts_with(company_id, (SELECT registry.key_prefix())))', table_name);
    END LOOP;
END $$;
CREATE POLICY session ON registry.companies FOR SELECT TO replyrate_portal
    USING (company_id = (SELECT session.company_id FROM registry.session_account() session));
CREATE POLICY session ON registry.accounts FOR SELECT TO replyrate_portal
    USING ((company_id, account_id) = (SELECT session.company_id, session.account_id FROM registry.session_account() session));
CREATE POLICY session ON registry.mailboxes TO replyrate_portal
    USING ((company_id, account_id) = (SELECT session.company_id, session.account_id FROM registry.session_account() session));
-- The mailboxes inside are those that the token may see.
CREATE POLICY session ON registry.mailbox_history TO replyrate_portal USING (EXISTS (
    SELECT FROM registry.mailboxes m WHERE m.company_id = mailbox_history.company_id AND m.mailbox_id = mailbox_history.mailbox_id));
CREATE POLICY session ON registry.consents TO replyrate_portal USING (EXISTS (
    SELECT FROM registry.mailboxes m WHERE m.company_id = consents.company_id AND m.mailbox_id = consents.mailbox_id));
ALTER TABLE registry.portal_sessions ENABLE ROW LEVEL SECURITY;
CREATE POLICY services ON registry.portal_sessions TO replyrate_fetcher USING (true);
CREATE POLICY key ON registry.portal_sessions TO replyrate_portal USING (starts_with(company_id, (SELECT registry.key_prefix())));

GRANT USAGE ON SCHEMA replyrate TO replyrate_portal;
GRANT SELECT ON replyrate.migrations TO replyrate_portal;
GRANT SELECT, INSERT ON registry.companies TO replyrate_portal;
GRANT SELECT, INSERT, UPDATE ON registry.accounts TO replyrate_portal;
GRANT SELECT ON registry.consents, registry.mailbox_history, registry.mailbox_moves TO replyrate_portal;
-- Everything but what is sealed and what only a fetcher uses.
GRANT SELECT (company_id, mailbox_id, account_id, role, state, state_reason, state_changed_at, address_masked, address_hash, host, port,
    consent_by, consent_at, consent_text_version, connected_at, reconnected_at, removed_at, expected_from, linked, next_poll_at, failures,
    last_success_at, last_attempt_at, complete_through, complete_from) ON registry.mailboxes TO replyrate_portal;
GRANT SELECT (session_id, company_id, account_id, role, mailbox_id, language, created_by, created_at, opened_at, expires_at, ended_at),
    INSERT (session_id, token_hash, company_id, account_id, role, mailbox_id, expected_address_hash, language, return_url, created_by, expires_at),
    UPDATE (ended_at) ON registry.portal_sessions TO replyrate_portal;

-- migrate:down
REVOKE ALL ON ALL TABLES IN SCHEMA registry, replyrate FROM replyrate_portal;
DROP FUNCTION registry.session(), registry.open_session(bytea, bytea, integer), registry.end_session(), registry.own_key();
