-- name: company
-- Whether the company has an account or facts, and up to when what it published has been counted (NULL: no watermark is kept).
SELECT EXISTS (SELECT FROM registry.accounts WHERE company_id = %(company_id)s)
        OR EXISTS (SELECT FROM ledger.companies WHERE company_id = %(company_id)s) AS known,
    (SELECT nullif(passed_at, 'infinity') FROM ledger.passed WHERE company_id = %(company_id)s) AS counted_until

-- name: publications
-- The mailboxes that published the message, as long as the registry remembers it, with what it has stored.
SELECT mailbox.mailbox_id, mailbox.account_id, mailbox.state AS mailbox_state, publication.first_seen AS published_at,
    publication.sent_at, publication.record
FROM registry.mailboxes mailbox
CROSS JOIN LATERAL registry.stored_message(mailbox.company_id, mailbox.mailbox_id, %(message)s) publication
WHERE mailbox.company_id = %(company_id)s
ORDER BY publication.first_seen, mailbox.mailbox_id

-- name: matches
-- The inquiries to which the message is attached: one row per inquiry and mailbox, by its strongest evidence first.
SELECT reply.inquiry_id, reply.account_id, nullif(reply.mailbox_id, '') AS mailbox_id, reply.replied_at,
    nullif(reply.evidence, '') AS evidence,
    reply.kind, nullif(min(reply.kind_reason) FILTER (WHERE reply.kind_reason <> 'from-buyer'), '') AS kind_reason,
    array_agg(DISTINCT reply.matched_by ORDER BY reply.matched_by) AS matched_by
FROM ledger.replies reply
WHERE reply.company_id = %(company_id)s AND reply.source = 'mail' AND reply.reply_id = %(message)s
GROUP BY reply.inquiry_id, reply.account_id, reply.mailbox_id, reply.replied_at, reply.evidence, reply.kind
ORDER BY reply.replied_at, reply.inquiry_id, reply.mailbox_id

-- name: sharing_inquiries
-- Inquiries that share an id or an address with the message and to which it is not attached. Sent more than 5 minutes
-- before the inquiry was received a message is no reply to it (services/matcher/state.py, GRACE).
SELECT inquiry.inquiry_id, inquiry.account_id, inquiry.received_at,
    inquiry.received_at > %(sent_at)s::timestamptz + interval '300 seconds' AS received_later
FROM ledger.inquiries inquiry
WHERE inquiry.company_id = %(company_id)s
    AND (inquiry.message_ids && %(ids)s::text[] OR inquiry.reply_addresses && %(addresses)s::text[]
        OR inquiry.buyer_addresses && %(addresses)s::text[])
    AND NOT EXISTS (
        SELECT FROM ledger.replies reply
        WHERE reply.company_id = inquiry.company_id AND reply.inquiry_id = inquiry.inquiry_id AND reply.source = 'mail'
            AND reply.reply_id = %(message)s
    )
ORDER BY inquiry.received_at DESC NULLS LAST, inquiry.inquiry_id LIMIT %(limit)s

-- name: mailboxes
-- Every mailbox of the company: from when and through when it was read completely, and the messages in folders for sent mail
-- that are not read.
SELECT mailbox.mailbox_id, mailbox.account_id, mailbox.role, mailbox.state, mailbox.state_reason, mailbox.connected_at,
    mailbox.removed_at, mailbox.complete_from,
    mailbox.complete_through, mailbox.last_success_at,
    (SELECT count(*) FROM registry.other_folders folder
        WHERE folder.company_id = mailbox.company_id AND folder.mailbox_id = mailbox.mailbox_id) AS unread_folders,
    (SELECT coalesce(sum(folder.messages), 0)::bigint FROM registry.other_folders folder
        WHERE folder.company_id = mailbox.company_id AND folder.mailbox_id = mailbox.mailbox_id) AS unread_messages
FROM registry.mailboxes mailbox
WHERE mailbox.company_id = %(company_id)s
ORDER BY mailbox.state = 'removed', mailbox.account_id, mailbox.mailbox_id
