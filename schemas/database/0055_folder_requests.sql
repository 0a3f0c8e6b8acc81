-- migrate:up
-- additive: yes

-- A seller chooses the Sent folders of a connected mailbox without the password (docs/decisions/0101): a fetcher lists the folders with the
-- stored secret, and another request brings the choice. Only a session of the account that has the mailbox asks for it.
ALTER TABLE registry.connect_requests DROP CONSTRAINT connect_requests_purpose_check;
ALTER TABLE registry.connect_requests ADD CONSTRAINT connect_requests_purpose_check
    CHECK (purpose IN ('look-up', 'test', 'connect', 'reconnect', 'folders', 'folder-choice', 'withdraw', 'platform-sync-on',
        'platform-sync-off', 'address-change', 'address-removal'));

ALTER POLICY token ON registry.connect_requests WITH CHECK (
    (company_id, account_id) = (SELECT acting.company_id, acting.account_id FROM registry.acting_account() acting)
        AND purpose IN ('look-up', 'connect', 'reconnect', 'folders', 'folder-choice', 'withdraw')
    OR starts_with(company_id, (SELECT registry.key_prefix())) AND CASE
        WHEN purpose IN ('test', 'connect') THEN 'connect:write' = ANY ((SELECT registry.key_scopes())::text[])
        WHEN purpose IN ('withdraw', 'platform-sync-on', 'platform-sync-off', 'address-change', 'address-removal')
            THEN 'registry:write' = ANY ((SELECT registry.key_scopes())::text[])
        ELSE false
    END
);

-- migrate:down
ALTER POLICY token ON registry.connect_requests WITH CHECK (
    (company_id, account_id) = (SELECT acting.company_id, acting.account_id FROM registry.acting_account() acting)
        AND purpose IN ('look-up', 'connect', 'reconnect', 'withdraw')
    OR starts_with(company_id, (SELECT registry.key_prefix())) AND CASE
        WHEN purpose IN ('test', 'connect') THEN 'connect:write' = ANY ((SELECT registry.key_scopes())::text[])
        WHEN purpose IN ('withdraw', 'platform-sync-on', 'platform-sync-off', 'address-change', 'address-removal')
            THEN 'registry:write' = ANY ((SELECT registry.key_scopes())::text[])
        ELSE false
    END
);
DELETE FROM registry.connect_requests WHERE purpose IN ('folders', 'folder-choice');
ALTER TABLE registry.connect_requests DROP CONSTRAINT connect_requests_purpose_check;
ALTER TABLE registry.connect_requests ADD CONSTRAINT connect_requests_purpose_check
    CHECK (purpose IN ('look-up', 'test', 'connect', 'reconnect', 'withdraw', 'platform-sync-on', 'platform-sync-off',
        'address-change', 'address-removal'));
