-- by hand: a person searches.

-- name: accounts
-- Accounts of any company whose id begins with a text.
SELECT company_id, account_id, kind FROM registry.accounts
WHERE account_id >= %(first)s COLLATE "C" AND account_id <= %(last)s COLLATE "C"
    AND (account_id, company_id) > (%(after)s, %(after_company)s)
ORDER BY account_id, company_id LIMIT %(limit)s

-- name: mailboxes
-- Mailboxes of any company whose id begins with a text.
SELECT company_id, mailbox_id, account_id, state, address_masked FROM registry.mailboxes
WHERE mailbox_id >= %(first)s COLLATE "C" AND mailbox_id <= %(last)s COLLATE "C"
    AND (mailbox_id, company_id) > (%(after)s, %(after_company)s)
ORDER BY mailbox_id, company_id LIMIT %(limit)s

-- name: inquiries
-- Inquiries of any company whose id begins with a text.
SELECT company_id, inquiry_id, account_id, received_at FROM ledger.inquiries
WHERE inquiry_id >= %(first)s COLLATE "C" AND inquiry_id <= %(last)s COLLATE "C"
    AND (inquiry_id, company_id) > (%(after)s, %(after_company)s)
ORDER BY inquiry_id, company_id LIMIT %(limit)s

-- name: links
-- Which other companies a mailbox of a company is shared with, or whose mailbox it reads.
SELECT company_id, other_company_id, linked_by, linked_at FROM registry.mailbox_links
WHERE company_id = %(company_id)s AND other_company_id > %(after)s ORDER BY other_company_id LIMIT %(limit)s

-- name: sessions
-- Links for sellers of a company behind one of them ('': from the newest), the newest first, and what became of them.
SELECT session_id, account_id, purpose, created_by, created_at, opened_at, expires_at, ended_at FROM registry.portal_sessions
WHERE company_id = %(company_id)s AND (%(after)s = '' OR (created_at, session_id) < (
    SELECT created_at, session_id FROM registry.portal_sessions WHERE company_id = %(company_id)s AND session_id = %(after)s))
ORDER BY created_at DESC, session_id DESC LIMIT %(limit)s

-- name: health
-- How a mailbox is read.
SELECT sent_folders, messages_seen FROM report_token_v1.mailbox_health
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: kinds
-- Mailboxes by state, server and reason.
SELECT state, host, state_reason, count(*) AS mailboxes FROM registry.mailboxes GROUP BY state, host, state_reason
