-- name: begin
-- The mailboxes of a company (or of one account) before the test mail, and the database's now.
SELECT m.mailbox_id, m.account_id, m.state, m.last_success_at, clock_timestamp() AS now, facts.gone
FROM registry.mailboxes m CROSS JOIN LATERAL registry.sent_mail_facts(m.company_id, m.mailbox_id) facts
WHERE m.company_id = %(company_id)s AND (%(account_id)s::text IS NULL OR m.account_id = %(account_id)s)
    AND m.state <> 'removed'
ORDER BY m.mailbox_id

-- name: read
-- The state of the mailboxes, the hashes of the sender's own addresses, and how many messages were deleted before they could be read.
SELECT m.company_id, m.account_id, m.mailbox_id, m.state, m.state_reason, m.failures, m.host, m.last_attempt_at, m.next_poll_at,
    m.complete_through, facts.own_hashes, facts.gone
FROM registry.mailboxes m CROSS JOIN LATERAL registry.sent_mail_facts(m.company_id, m.mailbox_id) facts
WHERE m.company_id = %(company_id)s AND m.mailbox_id = ANY (%(mailboxes)s)
ORDER BY m.mailbox_id
