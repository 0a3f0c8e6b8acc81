-- name: begin
-- The mailboxes of a company (or of one account) before the test mail, and the database's now.
SELECT m.mailbox_id, m.account_id, m.state, m.last_success_at, clock_timestamp() AS now,
    coalesce(f.passed, 0) - coalesce(f.found, 0) AS gone
FROM registry.mailboxes m
LEFT JOIN LATERAL (
    SELECT sum(f.uids_passed) AS passed, sum(f.uids_found) AS found FROM registry.folders f
    WHERE f.company_id = m.company_id AND f.mailbox_id = m.mailbox_id
) f ON true
WHERE m.company_id = %(company_id)s AND (%(account_id)s::text IS NULL OR m.account_id = %(account_id)s)
    AND m.state <> 'removed'
ORDER BY m.mailbox_id

-- name: read
-- The state of the mailboxes, the hashes of the sender's own addresses, and how many messages were deleted before they could be read.
SELECT m.company_id, m.account_id, m.mailbox_id, m.state, m.state_reason, m.failures, m.host, m.last_attempt_at, m.next_poll_at,
    m.complete_through,
    ARRAY(
        SELECT m.address_hash UNION SELECT a.address_hash FROM registry.addresses a
        WHERE a.company_id = m.company_id AND a.account_id = m.account_id
    ) AS own_hashes,
    coalesce((SELECT sum(f.uids_passed - f.uids_found) FROM registry.folders f
        WHERE f.company_id = m.company_id AND f.mailbox_id = m.mailbox_id), 0) AS gone
FROM registry.mailboxes m
WHERE m.company_id = %(company_id)s AND m.mailbox_id = ANY (%(mailboxes)s)
ORDER BY m.mailbox_id
