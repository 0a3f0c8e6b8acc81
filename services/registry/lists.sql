-- by hand: lists for people and for platforms.

-- name: company_page
-- Companies in the order of their ids.
SELECT company_id, created_at FROM registry.companies
WHERE company_id > %(after)s AND company_id >= %(first)s COLLATE "C" AND company_id <= %(last)s COLLATE "C"
ORDER BY company_id LIMIT %(limit)s

-- name: account_page
-- Accounts of a company in the order of their ids.
SELECT company_id, account_id, kind, synced_by_platform_from, created_at FROM registry.accounts
WHERE company_id = %(company_id)s AND account_id > %(after)s
ORDER BY account_id LIMIT %(limit)s

-- name: addresses
-- The addresses of an account, as a platform may see them.
SELECT role, address_masked, changed_at FROM registry.addresses
WHERE company_id = %(company_id)s AND account_id = %(account_id)s ORDER BY role DESC

-- name: mailbox_page
-- Mailboxes in the order of company and id, as a platform may see them.
SELECT company_id, mailbox_id, account_id, role, state, state_reason, state_changed_at, address_masked, host, port, connected_at,
    reconnected_at, removed_at, last_success_at, last_attempt_at, next_poll_at, expected_from, complete_from, complete_through
FROM registry.mailboxes
WHERE (company_id, mailbox_id) > (%(after_company)s, %(after_mailbox)s)
    AND company_id >= %(first)s COLLATE "C" AND company_id <= %(last)s COLLATE "C"
    AND (%(company_id)s::text IS NULL OR company_id = %(company_id)s)
    AND (%(account_id)s::text IS NULL OR account_id = %(account_id)s)
    AND (%(states)s::text[] IS NULL OR state = ANY (%(states)s))
    AND (%(reason)s::text IS NULL OR state_reason = %(reason)s)
    AND (%(hosts)s::text[] IS NULL OR host = ANY (%(hosts)s))
ORDER BY company_id, mailbox_id LIMIT %(limit)s

-- name: mailbox
-- One mailbox with the columns of a page.
SELECT company_id, mailbox_id, account_id, role, state, state_reason, state_changed_at, address_masked, host, port, connected_at,
    reconnected_at, removed_at, last_success_at, last_attempt_at, next_poll_at, expected_from, complete_from, complete_through
FROM registry.mailboxes WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: mailbox_history
-- Every change of a mailbox's state, oldest first.
SELECT from_state, to_state, reason, changed_at, changed_by FROM registry.mailbox_history
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s ORDER BY change_id

-- name: mailbox_consents
-- Who consented to which text, oldest first.
SELECT consented_by, consented_at, text_version, language, withdrawn_by, withdrawn_at FROM registry.consents
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s ORDER BY consent_id

-- name: session
-- What became of a link for a seller.
SELECT session_id, company_id, account_id, role, mailbox_id, language, created_by, created_at, opened_at, expires_at, ended_at
FROM registry.portal_sessions WHERE session_id = %(session_id)s
