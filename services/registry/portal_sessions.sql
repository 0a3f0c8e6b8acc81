-- name: insert_link
-- A link that waits to be opened.
INSERT INTO registry.portal_sessions (session_id, token_hash, company_id, account_id, role, mailbox_id, expected_address_hash,
    language, return_url, created_by, purpose, expires_at)
VALUES (%(session_id)s, %(token_hash)s, %(company_id)s, %(account_id)s, %(role)s, %(mailbox_id)s, %(expected_address_hash)s,
    %(language)s, %(return_url)s, %(created_by)s, %(purpose)s, clock_timestamp() + make_interval(mins => %(minutes)s))
RETURNING expires_at

-- name: mailbox_of_link
-- The account, role and state of a mailbox that a link is made for.
SELECT account_id, role, state FROM registry.mailboxes
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: open_link
-- Turns a link into a session; null when it is unknown, used or expired.
SELECT registry.open_session(%(link_hash)s, %(session_hash)s, %(minutes)s) AS session_id

-- name: own_session
-- The session that the token of this transaction belongs to; nulls when there is none.
SELECT session_id, company_id, account_id, role, mailbox_id, expected_address_hash, language, return_url, created_by,
    expires_at, consent_by, consent_at, consent_text_version, consent_language, purpose
FROM registry.session()

-- name: give_consent
-- Notes the consent in the session that the token of this transaction belongs to.
SELECT registry.give_consent(%(consent_by)s, %(text_version)s, %(language)s)

-- name: end_session
-- Ends the session that the token of this transaction belongs to.
SELECT registry.end_session()

-- name: own_mailboxes
-- Mailboxes of the session's account and, unless it is one of the panel, of the role of its link that are not removed, or the one that
-- its link was made for.
SELECT m.mailbox_id, m.role, m.state, m.state_reason, m.address_masked, m.host, m.port, m.connected_at, m.expected_from,
    m.complete_from, m.complete_through, m.last_success_at
FROM registry.session() s
JOIN registry.mailboxes m ON m.company_id = s.company_id AND m.account_id = s.account_id
WHERE m.state <> 'removed'
    AND CASE WHEN s.mailbox_id IS NOT NULL THEN m.mailbox_id = s.mailbox_id ELSE s.purpose = 'panel' OR m.role = s.role END
ORDER BY m.connected_at, m.mailbox_id
