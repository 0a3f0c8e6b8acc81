-- migrate:up transaction:false
-- additive: yes

-- What staff search for without its company, and the table of mailboxes by state, server and reason.
DROP INDEX CONCURRENTLY IF EXISTS registry.accounts_account;
CREATE INDEX CONCURRENTLY accounts_account ON registry.accounts (account_id, company_id);
DROP INDEX CONCURRENTLY IF EXISTS registry.mailboxes_mailbox;
CREATE INDEX CONCURRENTLY mailboxes_mailbox ON registry.mailboxes (mailbox_id, company_id);
DROP INDEX CONCURRENTLY IF EXISTS registry.mailboxes_state;
CREATE INDEX CONCURRENTLY mailboxes_state ON registry.mailboxes (state, host, state_reason, company_id);
DROP INDEX CONCURRENTLY IF EXISTS ledger.inquiries_inquiry;
CREATE INDEX CONCURRENTLY inquiries_inquiry ON ledger.inquiries (inquiry_id, company_id);

-- Views of a later release that repeat report_v1 for tokens are for staff, too.
ALTER DEFAULT PRIVILEGES IN SCHEMA report_token_v1 GRANT SELECT ON TABLES TO replyrate_console;

-- migrate:down
DROP INDEX registry.accounts_account, registry.mailboxes_mailbox, registry.mailboxes_state, ledger.inquiries_inquiry;
