-- by hand
-- name: rates
-- The newest rates of every company and account.
SELECT * FROM report_v1.reply_rate_latest

-- name: outcomes
-- What became of each inquiry.
SELECT * FROM report_v1.inquiry_outcomes

-- name: coverage
-- The coverage history of a company, in the order in which it was recorded.
SELECT account_id, mailbox_id, connected_at, recorded_at, removed_at, from_at, through_at
FROM registry.coverage WHERE company_id = %(company_id)s ORDER BY recorded_at, coverage_id

-- name: inquiry
-- A company's inquiries in the ledger.
SELECT inquiry_id, account_id, received_at FROM ledger.inquiries WHERE company_id = %(company_id)s

-- name: status
-- The statuses of a company's inquiries in the ledger.
SELECT inquiry_id, status, at, account_id FROM ledger.statuses WHERE company_id = %(company_id)s

-- name: reply
-- The replies to a company's inquiries in the ledger.
SELECT inquiry_id, source, reply_id, account_id, replied_at, kind, matched_by
FROM ledger.replies WHERE company_id = %(company_id)s
