-- migrate:up
-- additive: yes

-- What the HTTP API keeps: which key changed what, and the answers to requests that may be sent again. And what the key of a
-- platform may change in the registry: states of mailboxes, by the same statements as at the command line. Whatever deletes a
-- secret is carried out by a fetcher.

CREATE TABLE registry.api_changes (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    key_id text COLLATE "C" NOT NULL,
    key_name text NOT NULL,
    company_id text COLLATE "C" NOT NULL REFERENCES registry.companies ON DELETE CASCADE,
    action text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL
);
CREATE INDEX api_changes_company ON registry.api_changes (company_id, change_id);
COMMENT ON TABLE registry.api_changes IS 'What the keys of platforms changed through the HTTP API.';
COMMENT ON COLUMN registry.api_changes.subject IS 'Id of the account, mailbox, session or request; empty for the company itself.';

CREATE TABLE registry.api_answers (
    key_id text COLLATE "C" NOT NULL REFERENCES registry.api_keys ON DELETE CASCADE,
    name_hash bytea NOT NULL CHECK (length(name_hash) = 32),
    request_hash bytea NOT NULL CHECK (length(request_hash) = 32),
    answer_sealed bytea CHECK (length(answer_sealed) <= 262144),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (key_id, name_hash)
);
CREATE INDEX api_answers_created ON registry.api_answers (created_at);
COMMENT ON TABLE registry.api_answers IS 'Answers to requests with an Idempotency-Key, for a day.';
COMMENT ON COLUMN registry.api_answers.name_hash IS 'SHA-256 of the Idempotency-Key.';
COMMENT ON COLUMN registry.api_answers.answer_sealed IS 'AES-256-GCM with a key that follows from the secret of the API key, which is stored nowhere.';

CREATE FUNCTION registry.own_key_id() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.key_id FROM registry.api_keys k WHERE k.secret_hash = registry.token_hash()
        AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
$$;
REVOKE EXECUTE ON FUNCTION registry.own_key_id() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.own_key_id() TO replyrate_portal;

ALTER TABLE registry.api_answers ENABLE ROW LEVEL SECURITY;
CREATE POLICY services ON registry.api_answers TO replyrate_fetcher USING (true);
CREATE POLICY key ON registry.api_answers TO replyrate_portal USING (key_id = (SELECT registry.own_key_id()));
GRANT SELECT, DELETE ON registry.api_answers TO replyrate_fetcher;
GRANT SELECT, INSERT, DELETE, UPDATE (answer_sealed) ON registry.api_answers TO replyrate_portal;

ALTER TABLE registry.api_changes ENABLE ROW LEVEL SECURITY;
CREATE POLICY key ON registry.api_changes FOR SELECT TO replyrate_portal
    USING (starts_with(company_id, (SELECT registry.key_prefix())));
CREATE POLICY own ON registry.api_changes FOR INSERT TO replyrate_portal
    WITH CHECK (key_id = (SELECT registry.own_key_id()) AND starts_with(company_id, (SELECT registry.key_prefix())));
GRANT SELECT, INSERT ON registry.api_changes TO replyrate_portal;

-- An account that is registered as synced by the platform is covered from then on.
CREATE POLICY key_added ON registry.coverage FOR INSERT TO replyrate_portal
    WITH CHECK (mailbox_id IS NULL AND starts_with(company_id, (SELECT registry.key_prefix())));
GRANT INSERT (company_id, account_id, mailbox_id, connected_at, from_at) ON registry.coverage TO replyrate_portal;

-- Pause, resume and rescan. The trigger on mailboxes refuses changes of state that registry.mailbox_moves does not have.
GRANT SELECT (lease_epoch),
    UPDATE (state, state_reason, state_changed_at, failures, login_refusals, next_poll_at, lease_owner, lease_until, lease_epoch,
        reconnected_at, reconcile_after) ON registry.mailboxes TO replyrate_portal;
GRANT INSERT ON registry.mailbox_history TO replyrate_portal;

-- migrate:down
DROP TABLE registry.api_answers, registry.api_changes;
DROP FUNCTION registry.own_key_id();
DROP POLICY key_added ON registry.coverage;
REVOKE INSERT (company_id, account_id, mailbox_id, connected_at, from_at) ON registry.coverage FROM replyrate_portal;
REVOKE SELECT (lease_epoch),
    UPDATE (state, state_reason, state_changed_at, failures, login_refusals, next_poll_at, lease_owner, lease_until, lease_epoch,
        reconnected_at, reconcile_after) ON registry.mailboxes FROM replyrate_portal;
REVOKE INSERT ON registry.mailbox_history FROM replyrate_portal;
