-- migrate:up
-- additive: yes

-- Leaving an account's mailboxes to the platform deletes their secrets, which only a fetcher may do.
ALTER TABLE registry.connect_requests DROP CONSTRAINT connect_requests_purpose_check;
ALTER TABLE registry.connect_requests ADD CONSTRAINT connect_requests_purpose_check
    CHECK (purpose IN ('look-up', 'test', 'connect', 'reconnect', 'withdraw', 'platform-sync-on', 'platform-sync-off'));

COMMENT ON COLUMN registry.api_answers.name_hash IS 'Keyed hash of the Idempotency-Key; the key follows from the secret of the API key, as that of request_hash.';

-- migrate:down
ALTER TABLE registry.connect_requests DROP CONSTRAINT connect_requests_purpose_check;
ALTER TABLE registry.connect_requests ADD CONSTRAINT connect_requests_purpose_check
    CHECK (purpose IN ('look-up', 'test', 'connect', 'reconnect', 'withdraw'));
