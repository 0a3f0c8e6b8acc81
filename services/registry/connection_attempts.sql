-- name: lock_account
-- Attempts of an account are stored one after the other, so that each sees the one before.
SELECT FROM registry.accounts WHERE company_id = %(company_id)s AND account_id = %(account_id)s FOR NO KEY UPDATE

-- name: attempt
-- The mailbox of an account and role that was never connected, and whether its login is being tested; its row is locked.
SELECT mailbox_id, state_reason IS NULL AND state_changed_at > clock_timestamp() - make_interval(secs => %(test_seconds)s) AS is_tested
FROM registry.mailboxes
WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND role = %(role)s AND state = ANY (%(states)s)
FOR UPDATE

-- name: insert_attempt
-- A mailbox whose owner consented and that is not tested yet. It has no password.
INSERT INTO registry.mailboxes (
    company_id, mailbox_id, account_id, role, state, address_sealed, address_masked, address_hash, host, port,
    tls, user_sealed, login_hash, sent_override, consent_by, consent_at, consent_text_version
) VALUES (
    %(company_id)s, %(mailbox_id)s, %(account_id)s, %(role)s, %(to)s, %(address_sealed)s, %(address_masked)s,
    %(address_hash)s, %(host)s, %(port)s, %(tls)s, %(user_sealed)s, %(login_hash)s, %(sent_override)s,
    %(consent_by)s, clock_timestamp(), %(text_version)s
)

-- name: update_attempt
-- The same attempt again, with the login that was typed now.
UPDATE registry.mailboxes
SET state = %(to)s, state_reason = NULL, state_changed_at = clock_timestamp(), address_sealed = %(address_sealed)s,
    address_masked = %(address_masked)s, address_hash = %(address_hash)s, host = %(host)s, port = %(port)s, tls = %(tls)s,
    user_sealed = %(user_sealed)s, login_hash = %(login_hash)s, sent_override = %(sent_override)s,
    consent_by = %(consent_by)s, consent_at = clock_timestamp(), consent_text_version = %(text_version)s
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: insert_consent
-- A consent to read a mailbox; one that was given on a web page has the time at which it was given there.
INSERT INTO registry.consents (company_id, mailbox_id, consented_by, consented_at, text_version, text_sha256, language, session_id)
VALUES (%(company_id)s, %(mailbox_id)s, %(consent_by)s,
    coalesce((SELECT s.consent_at FROM registry.portal_sessions s WHERE s.session_id = %(session_id)s::text
        AND s.company_id = %(company_id)s AND s.consent_text_version = %(text_version)s), clock_timestamp()),
    %(text_version)s, %(text_sha256)s::text, %(language)s, %(session_id)s::text)

-- name: store_login
-- The login whose test passed.
UPDATE registry.mailboxes
SET address_sealed = %(address_sealed)s, address_masked = %(address_masked)s, address_hash = %(address_hash)s,
    host = %(host)s, port = %(port)s, tls = %(tls)s, user_sealed = %(user_sealed)s, login_hash = %(login_hash)s,
    sent_override = %(sent_override)s, expected_from = %(expected_from)s, linked = %(linked)s
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: connect
-- An attempt whose test passed.
UPDATE registry.mailboxes SET connected_at = clock_timestamp()
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s
RETURNING connected_at, account_id

-- name: choose_folders
-- Other Sent folders of the same login.
UPDATE registry.mailboxes SET sent_override = %(sent_override)s, expected_from = %(expected_from)s
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: start_over
-- Another mailbox under the same id: it is read from the start. Messages and coverage of the previous one stay.
WITH folders AS (
    DELETE FROM registry.folders WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s
), other_folders AS (
    DELETE FROM registry.other_folders WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s
)
UPDATE registry.mailboxes
SET connected_at = clock_timestamp(), complete_from = NULL, complete_through = NULL, reconcile_after = NULL,
    last_success_at = NULL
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s
RETURNING connected_at, account_id

-- name: connected_coverage
-- Coverage of a mailbox that is connected but not complete for any span of time yet.
INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at)
VALUES (%(company_id)s, %(account_id)s, %(mailbox_id)s, %(connected_at)s)
