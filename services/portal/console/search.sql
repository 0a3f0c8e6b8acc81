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
-- Inquiries of any company whose id begins with a text, also archived ones: a late record of an archived one is in both tables. The index of
-- archived inquiries begins with the company, so each company is looked up in it.
WITH RECURSIVE archived_company AS (
    (SELECT company_id FROM ledger.archived_inquiries ORDER BY company_id LIMIT 1)
    UNION ALL
    SELECT (SELECT following.company_id FROM ledger.archived_inquiries following
        WHERE following.company_id > previous.company_id ORDER BY following.company_id LIMIT 1)
    FROM archived_company previous WHERE previous.company_id IS NOT NULL
)
SELECT DISTINCT ON (inquiry_id, company_id) company_id, inquiry_id, account_id, received_at FROM (
    (SELECT company_id, inquiry_id, account_id, received_at, false AS is_archived FROM ledger.inquiries
    WHERE inquiry_id >= %(first)s COLLATE "C" AND inquiry_id <= %(last)s COLLATE "C"
        AND (inquiry_id, company_id) > (%(after)s, %(after_company)s)
    ORDER BY inquiry_id, company_id LIMIT %(limit)s)
    UNION ALL
    SELECT archived.company_id, archived.inquiry_id, archived.account_id, archived.received_at, true FROM archived_company company
    CROSS JOIN LATERAL (
        SELECT company_id, inquiry_id, account_id, received_at FROM ledger.archived_inquiries
        WHERE company_id = company.company_id AND inquiry_id >= %(first)s COLLATE "C" AND inquiry_id <= %(last)s COLLATE "C"
            AND (inquiry_id, company_id) > (%(after)s, %(after_company)s)
        ORDER BY inquiry_id LIMIT %(limit)s
    ) archived
) named
ORDER BY inquiry_id, company_id, is_archived DESC LIMIT %(limit)s

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

-- name: has_zero_rate
-- Whether any newest rate of a company and its accounts is 0 or missing; null without a rate.
SELECT bool_or(coalesce(rate, 0) = 0) AS has_zero_rate FROM report_token_v1.reply_rate_latest
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s

-- name: kinds
-- Mailboxes by state, server and reason.
SELECT state, host, state_reason, count(*) AS mailboxes FROM registry.mailboxes GROUP BY state, host, state_reason
