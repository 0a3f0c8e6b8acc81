-- migrate:up transaction:false
-- additive: yes

-- A reply is the same if all of its columns are. Its key had all eleven of them; this one has their hash.
DROP INDEX CONCURRENTLY IF EXISTS ledger.replies_facts;
CREATE UNIQUE INDEX CONCURRENTLY replies_facts ON ledger.replies (company_id, inquiry_id, hash_record_extended(
    ROW (reply_id, source, account_id, mailbox_id, replied_at, evidence, kind, kind_reason, matched_by), 0
));
-- The versions of an inquiry's outcomes share one entry.
DROP INDEX CONCURRENTLY IF EXISTS ledger.outcome_history_inquiry;
CREATE INDEX CONCURRENTLY outcome_history_inquiry ON ledger.outcome_history (company_id, inquiry_id);

-- migrate:down transaction:false
DROP INDEX CONCURRENTLY IF EXISTS ledger.outcome_history_inquiry;
DROP INDEX CONCURRENTLY IF EXISTS ledger.replies_facts;
