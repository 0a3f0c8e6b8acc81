-- name: add_company
-- A company, if it is new.
INSERT INTO registry.companies (company_id) VALUES (%(company_id)s) ON CONFLICT DO NOTHING RETURNING company_id

-- name: add_account
-- An account, if it is new; the company must exist.
INSERT INTO registry.accounts (company_id, account_id, kind, synced_by_platform_from)
VALUES (%(company_id)s, %(account_id)s, %(kind)s, %(synced_from)s)
ON CONFLICT DO NOTHING RETURNING account_id

-- name: account
-- One account.
SELECT kind, synced_by_platform_from FROM registry.accounts
WHERE company_id = %(company_id)s AND account_id = %(account_id)s

-- name: company
-- Whether a company exists.
SELECT company_id FROM registry.companies WHERE company_id = %(company_id)s

-- name: set_address
-- The registered or backup address of an account, as it is now.
INSERT INTO registry.addresses AS held (company_id, account_id, role, address_sealed, address_masked, address_hash)
VALUES (%(company_id)s, %(account_id)s, %(role)s, %(sealed)s, %(masked)s, %(hash)s)
ON CONFLICT (company_id, account_id, role) DO UPDATE
SET address_sealed = excluded.address_sealed, address_masked = excluded.address_masked,
    address_hash = excluded.address_hash, changed_at = clock_timestamp()
WHERE held.address_hash <> excluded.address_hash
RETURNING role

-- name: address_changed
-- Mailboxes that were connected for the address an account had in this role: they must be connected again.
UPDATE registry.mailboxes
SET state = 'needs_reconnect', state_reason = 'address-changed', state_changed_at = clock_timestamp(),
    lease_owner = NULL, lease_until = NULL, lease_epoch = lease_epoch + 1
WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND role = %(role)s
    AND address_hash <> %(hash)s AND state NOT IN ('removed', 'needs_reconnect')
RETURNING mailbox_id

-- name: platform_coverage
-- The account answers through the platform from this instant on.
INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at)
VALUES (%(company_id)s, %(account_id)s, NULL, %(from_at)s, %(from_at)s)

-- name: login_taken
-- Where a login is connected already.
SELECT company_id, mailbox_id FROM registry.mailboxes WHERE login_hash = %(login_hash)s AND state <> 'removed'

-- name: add_mailbox
-- A mailbox whose connection test has passed.
INSERT INTO registry.mailboxes (
    company_id, mailbox_id, account_id, role, state, address_sealed, address_masked, address_hash, host, port,
    user_sealed, login_hash, sent_override, consent_by, consent_at, consent_text_version
) VALUES (
    %(company_id)s, %(mailbox_id)s, %(account_id)s, %(role)s, 'active', %(address_sealed)s, %(address_masked)s,
    %(address_hash)s, %(host)s, %(port)s, %(user_sealed)s, %(login_hash)s, %(sent_override)s,
    %(consent_by)s, clock_timestamp(), %(consent_text_version)s
)
RETURNING connected_at

-- name: add_secret
-- The sealed password of a mailbox.
INSERT INTO registry.secrets (company_id, mailbox_id, sealed, key_id)
VALUES (%(company_id)s, %(mailbox_id)s, %(sealed)s, %(key_id)s)

-- name: connected_coverage
-- Says that a mailbox is connected, before it was complete for any span.
INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at)
VALUES (%(company_id)s, %(account_id)s, %(mailbox_id)s, %(connected_at)s)

-- name: mailboxes
-- Mailboxes with what is known about them, of one company or of all.
SELECT m.company_id, m.mailbox_id, m.account_id, m.role, m.state, m.state_reason, m.address_masked, m.host, m.port,
    m.connected_at, m.last_success_at, m.last_attempt_at, m.next_poll_at, m.complete_from, m.complete_through,
    m.failures,
    coalesce((SELECT sum(c.messages) FROM registry.message_counts c
        WHERE c.company_id = m.company_id AND c.mailbox_id = m.mailbox_id), 0)::bigint AS messages_seen,
    coalesce((SELECT sum(c.suspect) FROM registry.message_counts c
        WHERE c.company_id = m.company_id AND c.mailbox_id = m.mailbox_id), 0)::bigint AS messages_suspect
FROM registry.mailboxes m
WHERE (%(company_id)s::text IS NULL OR m.company_id = %(company_id)s)
    AND (%(mailbox_id)s::text IS NULL OR m.mailbox_id = %(mailbox_id)s)
ORDER BY m.company_id, m.mailbox_id

-- name: folders
-- The Sent folders of a mailbox that are being read.
SELECT folder, uidvalidity, high_uid, scan_down_to_uid, scan_done, messages
FROM registry.folders WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND current ORDER BY folder

-- name: kinds
-- Messages of a mailbox by kind.
SELECT kind, sum(messages)::bigint, sum(suspect)::bigint FROM registry.message_counts
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s GROUP BY kind ORDER BY kind

-- name: set_state
-- Another state for a mailbox that is in one of the given states; a poll under way loses its lease.
UPDATE registry.mailboxes
SET state = %(state)s, state_reason = %(reason)s, state_changed_at = clock_timestamp(), failures = 0,
    login_refusals = 0, next_poll_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL, lease_epoch = lease_epoch + 1
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND state = ANY (%(states)s)
RETURNING state

-- name: rescan
-- Everything within the horizon is read and published again, unchanged where it is known.
UPDATE registry.mailboxes
SET reconcile_after = clock_timestamp(), next_poll_at = clock_timestamp()
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND state <> 'removed'
RETURNING state

-- name: remove
-- A mailbox is not read any more; its secret, address and user name go, what it was complete for stays.
UPDATE registry.mailboxes
SET state = 'removed', state_reason = NULL, state_changed_at = clock_timestamp(), removed_at = clock_timestamp(),
    address_sealed = NULL, user_sealed = NULL, lease_owner = NULL, lease_until = NULL, lease_epoch = lease_epoch + 1
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND state <> 'removed'
RETURNING account_id, connected_at, removed_at, complete_through

-- name: remove_secret
-- The password of a removed mailbox.
DELETE FROM registry.secrets WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: removed_coverage
-- Says that a mailbox was removed.
INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, removed_at, from_at, through_at)
VALUES (%(company_id)s, %(account_id)s, %(mailbox_id)s, %(connected_at)s, %(removed_at)s, %(through)s, %(through)s)

-- name: credentials
-- What a mailbox is logged in with, sealed.
SELECT m.host, m.port, m.address_sealed, m.user_sealed, m.sent_override, s.sealed AS secret
FROM registry.mailboxes m LEFT JOIN registry.secrets s USING (company_id, mailbox_id)
WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s

-- name: lock_tests
-- One test after the other is counted for a company and for a login, so that no two see the same count.
SELECT pg_advisory_xact_lock(hashtextextended('connection-test ' || key, 0))
FROM unnest(ARRAY[%(company_id)s::text, %(login_hash)s::text]) key ORDER BY key

-- name: tries
-- Tests of the last hour that did not pass, of a login and of a company, and when the next one may be made.
SELECT count(*) FILTER (WHERE login_hash = %(login_hash)s) AS of_login,
    min(tested_at) FILTER (WHERE login_hash = %(login_hash)s) + interval '1 hour' AS login_again_at,
    count(*) FILTER (WHERE company_id = %(company_id)s) AS of_company,
    min(tested_at) FILTER (WHERE company_id = %(company_id)s) + interval '1 hour' AS company_again_at
FROM registry.connection_tests
WHERE tested_at > clock_timestamp() - interval '1 hour' AND code <> 'passed'
    AND (login_hash = %(login_hash)s OR company_id = %(company_id)s)

-- name: begin_test
-- A test that begins; old ones of the company go.
WITH gone AS (
    DELETE FROM registry.connection_tests
    WHERE company_id = %(company_id)s AND tested_at < clock_timestamp() - interval '30 days'
)
INSERT INTO registry.connection_tests (company_id, login_hash) VALUES (%(company_id)s, %(login_hash)s)
RETURNING test_id, tested_at

-- name: end_test
-- How a test ended.
UPDATE registry.connection_tests SET stage = %(stage)s, code = %(code)s, detail = %(detail)s WHERE test_id = %(test_id)s
