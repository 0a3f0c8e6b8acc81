-- migrate:up
-- additive: yes

-- What the key of a platform sees and changes besides 0029: the addresses of accounts, masked, whose changes a fetcher carries out, since
-- they are stored sealed; and the links of mailboxes between two companies that both belong to the key.
ALTER TABLE registry.connect_requests DROP CONSTRAINT connect_requests_purpose_check;
ALTER TABLE registry.connect_requests ADD CONSTRAINT connect_requests_purpose_check
    CHECK (purpose IN ('look-up', 'test', 'connect', 'reconnect', 'withdraw', 'platform-sync-on', 'platform-sync-off',
        'address-change', 'address-removal'));

ALTER TABLE registry.addresses ENABLE ROW LEVEL SECURITY;
CREATE POLICY services ON registry.addresses TO replyrate_fetcher, replyrate_aggregator USING (true);
CREATE POLICY key ON registry.addresses FOR SELECT TO replyrate_portal
    USING (starts_with(company_id, (SELECT registry.key_prefix())));
GRANT SELECT (company_id, account_id, role, address_masked, changed_at) ON registry.addresses TO replyrate_portal;

ALTER TABLE registry.mailbox_links ENABLE ROW LEVEL SECURITY;
CREATE POLICY services ON registry.mailbox_links TO replyrate_fetcher USING (true);
CREATE POLICY key ON registry.mailbox_links TO replyrate_portal
    USING (starts_with(company_id, (SELECT registry.key_prefix())) AND starts_with(other_company_id, (SELECT registry.key_prefix())));
GRANT SELECT, INSERT (login_hash, company_id, other_company_id, linked_by), DELETE ON registry.mailbox_links TO replyrate_portal;
-- A link is for a login; the hash says which of the mailboxes that a token sees share one.
GRANT SELECT (login_hash) ON registry.mailboxes TO replyrate_portal;

-- migrate:down
REVOKE SELECT (login_hash) ON registry.mailboxes FROM replyrate_portal;
REVOKE ALL ON registry.addresses, registry.mailbox_links FROM replyrate_portal;
DROP POLICY key ON registry.mailbox_links;
DROP POLICY services ON registry.mailbox_links;
DROP POLICY key ON registry.addresses;
DROP POLICY services ON registry.addresses;
ALTER TABLE registry.mailbox_links DISABLE ROW LEVEL SECURITY;
ALTER TABLE registry.addresses DISABLE ROW LEVEL SECURITY;
ALTER TABLE registry.connect_requests DROP CONSTRAINT connect_requests_purpose_check;
ALTER TABLE registry.connect_requests ADD CONSTRAINT connect_requests_purpose_check
    CHECK (purpose IN ('look-up', 'test', 'connect', 'reconnect', 'withdraw', 'platform-sync-on', 'platform-sync-off'));
