-- migrate:up
-- additive: yes

-- A consent that is given on a web page is noted in its session first, since it is given before anything is connected. With the
-- mailbox it is stored as before, and names the session and the exact text.

ALTER TABLE registry.portal_sessions
    ADD COLUMN consent_by text,
    ADD COLUMN consent_at timestamptz,
    ADD COLUMN consent_text_version text,
    ADD COLUMN consent_language text;
ALTER TABLE registry.consents
    ADD COLUMN text_sha256 text,
    ADD COLUMN session_id text;
COMMENT ON COLUMN registry.consents.text_sha256 IS 'Of the text in all its languages, as services/connect/consent.toml pins it.';
COMMENT ON COLUMN registry.consents.session_id IS 'Of registry.portal_sessions; null when the consent was not given on a web page.';

DROP FUNCTION registry.session();
CREATE FUNCTION registry.session(
    OUT session_id text, OUT company_id text, OUT account_id text, OUT role text, OUT mailbox_id text,
    OUT expected_address_hash text, OUT language text, OUT return_url text, OUT created_by text, OUT expires_at timestamptz,
    OUT consent_by text, OUT consent_at timestamptz, OUT consent_text_version text, OUT consent_language text
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.session_id, s.company_id, s.account_id, s.role, s.mailbox_id, s.expected_address_hash, s.language, s.return_url,
        s.created_by, s.expires_at, s.consent_by, s.consent_at, s.consent_text_version, s.consent_language
    FROM registry.portal_sessions s WHERE s.token_hash = registry.token_hash()
        AND s.opened_at IS NOT NULL AND s.ended_at IS NULL AND s.expires_at > clock_timestamp()
$$;
COMMENT ON FUNCTION registry.session() IS 'The session that the token of this transaction belongs to; nulls when there is none.';

CREATE FUNCTION registry.give_consent(given_by text, given_version text, given_language text) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE registry.portal_sessions s SET consent_by = given_by, consent_at = clock_timestamp(),
        consent_text_version = given_version, consent_language = given_language
    WHERE s.token_hash = registry.token_hash() AND s.opened_at IS NOT NULL AND s.ended_at IS NULL
        AND s.expires_at > clock_timestamp()
$$;
COMMENT ON FUNCTION registry.give_consent(text, text, text) IS 'Notes a consent in the session that the token of this transaction belongs to.';

REVOKE EXECUTE ON FUNCTION registry.session(), registry.give_consent(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.session(), registry.give_consent(text, text, text) TO replyrate_portal;

-- Withdrawing a consent deletes secrets, which only a fetcher may do.
ALTER TABLE registry.connect_requests DROP CONSTRAINT connect_requests_purpose_check;
ALTER TABLE registry.connect_requests ADD CONSTRAINT connect_requests_purpose_check
    CHECK (purpose IN ('look-up', 'test', 'connect', 'reconnect', 'withdraw'));

-- migrate:down
DROP FUNCTION registry.give_consent(text, text, text);
ALTER TABLE registry.consents DROP COLUMN text_sha256, DROP COLUMN session_id;
