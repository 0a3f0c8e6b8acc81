-- name: company
-- Whether the company has an account or facts, and up to when what it published has been counted (NULL: no watermark is kept).
SELECT EXISTS (SELECT FROM registry.accounts WHERE company_id = %(company_id)s)
        OR EXISTS (SELECT FROM ledger.companies WHERE company_id = %(company_id)s) AS known,
    (SELECT nullif(passed_at, 'infinity') FROM ledger.passed WHERE company_id = %(company_id)s) AS counted_until

-- name: publications
-- The mailboxes that published the message, as long as the registry remembers it, with the record as it was published.
SELECT p.mailbox_id, m.account_id, m.state AS mailbox_state, p.published_at, p.sent_at, p.record
FROM registry.published p JOIN registry.mailboxes m USING (company_id, mailbox_id)
WHERE p.company_id = %(company_id)s AND p.message_id = %(message)s
ORDER BY p.published_at, p.mailbox_id

-- name: matches
-- The inquiries to which the message is attached: one row per inquiry and mailbox, by its strongest evidence first.
SELECT r.inquiry_id, r.account_id, nullif(r.mailbox_id, '') AS mailbox_id, r.replied_at, nullif(r.evidence, '') AS evidence,
    r.kind, nullif(r.kind_reason, '') AS kind_reason,
    array_agg(DISTINCT r.matched_by ORDER BY r.matched_by) AS matched_by
FROM ledger.replies r
WHERE r.company_id = %(company_id)s AND r.source = 'mail' AND r.reply_id = %(message)s
GROUP BY r.inquiry_id, r.account_id, r.mailbox_id, r.replied_at, r.evidence, r.kind, r.kind_reason
ORDER BY r.replied_at, r.inquiry_id, r.mailbox_id

-- name: sharing_inquiries
-- Inquiries that share an id or an address with the message and to which it is not attached. Sent more than 5 minutes
-- before the inquiry was received a message is no reply to it (services/matcher/state.py, GRACE).
SELECT i.inquiry_id, i.account_id, i.received_at, i.received_at > %(sent_at)s::timestamptz + interval '300 seconds' AS received_later
FROM ledger.inquiries i
WHERE i.company_id = %(company_id)s
    AND (i.message_ids && %(ids)s::text[] OR i.reply_addresses && %(addresses)s::text[] OR i.buyer_addresses && %(addresses)s::text[])
    AND NOT EXISTS (
        SELECT FROM ledger.replies r
        WHERE r.company_id = i.company_id AND r.inquiry_id = i.inquiry_id AND r.source = 'mail' AND r.reply_id = %(message)s
    )
ORDER BY i.received_at DESC NULLS LAST, i.inquiry_id LIMIT %(limit)s

-- name: mailboxes
-- Every mailbox of the company: from when and through when it was read completely, and what lies in folders for sent mail
-- that are not read.
SELECT m.mailbox_id, m.account_id, m.role, m.state, m.state_reason, m.connected_at, m.removed_at, m.complete_from,
    m.complete_through, m.last_success_at,
    (SELECT count(*) FROM registry.other_folders o
        WHERE o.company_id = m.company_id AND o.mailbox_id = m.mailbox_id) AS unread_folders,
    (SELECT coalesce(sum(o.messages), 0)::bigint FROM registry.other_folders o
        WHERE o.company_id = m.company_id AND o.mailbox_id = m.mailbox_id) AS unread_messages
FROM registry.mailboxes m
WHERE m.company_id = %(company_id)s
ORDER BY m.state = 'removed', m.account_id, m.mailbox_id
