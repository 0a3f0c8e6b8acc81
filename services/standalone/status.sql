-- by hand
-- name: mailboxes
-- Every mailbox, as a dashboard shows it.
SELECT company_id, account_id, mailbox_id, role, state, state_reason, advice_en, messages_seen, last_success_at,
    complete_through, next_poll_at FROM report_v1.mailbox_health ORDER BY company_id, account_id, mailbox_id

-- name: progress
-- How far the aggregator has come: companies that are waiting, inquiries, the last judgement, the next offset of each partition.
SELECT (SELECT count(DISTINCT company_id) FROM ledger.dirty) AS waiting, (SELECT count(*) FROM ledger.inquiries) AS inquiries,
    (SELECT max(judged_at) FROM ledger.companies) AS judged_at,
    (SELECT json_agg(json_build_array(partition, next_offset)) FROM ledger.offsets WHERE topic = %(topic)s) AS merged
