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

-- name: lease
-- The active mailbox that is longest due and that nobody holds; the epoch fences whoever held it before.
UPDATE registry.mailboxes m
SET lease_owner = %(owner)s, lease_epoch = m.lease_epoch + 1, last_attempt_at = clock_timestamp(),
    lease_until = clock_timestamp() + make_interval(secs => %(seconds)s)
FROM (
    SELECT company_id, mailbox_id FROM registry.mailboxes
    WHERE state = 'active' AND next_poll_at <= clock_timestamp()
        AND (lease_until IS NULL OR lease_until < clock_timestamp())
    ORDER BY next_poll_at, company_id, mailbox_id
    LIMIT 1 FOR UPDATE SKIP LOCKED
) due
WHERE m.company_id = due.company_id AND m.mailbox_id = due.mailbox_id
RETURNING m.company_id, m.mailbox_id, m.account_id, m.host, m.port, m.user_sealed, m.sent_override, m.lease_epoch,
    m.connected_at, m.complete_from, m.complete_through, m.reconcile_after, m.failures, m.login_refusals,
    clock_timestamp() AS now,
    (SELECT sealed FROM registry.secrets s WHERE s.company_id = m.company_id AND s.mailbox_id = m.mailbox_id) AS secret

-- name: held
-- Locks a mailbox's row for a write, if the lease of this epoch still stands.
SELECT 1 FROM registry.mailboxes
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND lease_epoch = %(epoch)s
    AND lease_until > clock_timestamp() FOR UPDATE

-- name: marks
-- How far a folder is published.
SELECT uidvalidity, high_uid, scan_down_to_uid, uidnext, recent_uids, lower_bound_at, scan_began_at FROM registry.folders
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND folder = %(folder)s AND current

-- name: retire_marks
-- A folder's marks under another UIDVALIDITY are history.
UPDATE registry.folders SET current = false
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND folder = %(folder)s
    AND uidvalidity <> %(uidvalidity)s AND current

-- name: save_marks
-- The marks of a folder.
INSERT INTO registry.folders AS held (
    company_id, mailbox_id, folder, uidvalidity, high_uid, scan_down_to_uid, uidnext, recent_uids, messages,
    lower_bound_at, scan_done, uids_passed, uids_found
) VALUES (
    %(company_id)s, %(mailbox_id)s, %(folder)s, %(uidvalidity)s, %(high)s, %(scan_down_to)s, %(uidnext)s, %(recent)s,
    %(messages)s, %(lower_bound_at)s, %(read)s, %(passed)s, %(found)s
)
ON CONFLICT (company_id, mailbox_id, folder, uidvalidity) DO UPDATE
SET current = true, high_uid = excluded.high_uid, scan_down_to_uid = excluded.scan_down_to_uid,
    uidnext = excluded.uidnext, recent_uids = excluded.recent_uids, messages = excluded.messages,
    lower_bound_at = excluded.lower_bound_at,
    uids_passed = held.uids_passed + excluded.uids_passed, uids_found = held.uids_found + excluded.uids_found,
    scan_done = CASE WHEN %(restarted)s THEN 0 ELSE held.scan_done END + excluded.scan_done,
    scan_began_at = CASE WHEN %(restarted)s THEN clock_timestamp() ELSE held.scan_began_at END

-- name: unwatched
-- Folders that are no Sent folders any more.
UPDATE registry.folders SET current = false
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND current AND NOT folder = ANY (%(folders)s)

-- name: others
-- Folders named like Sent that are not read, with as many messages as the server says; those that went are forgotten.
WITH gone AS (
    DELETE FROM registry.other_folders
    WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND NOT folder = ANY (%(folders)s)
)
INSERT INTO registry.other_folders AS held (company_id, mailbox_id, folder, messages, first_messages)
SELECT %(company_id)s, %(mailbox_id)s, new.folder, new.messages, new.messages
FROM unnest(%(folders)s::bytea[], %(counts)s::bigint[]) new (folder, messages)
ON CONFLICT (company_id, mailbox_id, folder) DO UPDATE
SET messages = excluded.messages, first_messages = least(held.first_messages, excluded.messages), seen_at = clock_timestamp()

-- name: known
-- Records that were published for these messages.
SELECT message_id, sent_at, record FROM registry.published
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND message_id = ANY (%(message_ids)s)

-- name: remember
-- What was published, with the times given to it; the first stays.
INSERT INTO registry.published (company_id, mailbox_id, message_id, sent_at, record)
SELECT %(company_id)s, %(mailbox_id)s, new.message_id, new.sent_at, new.record
FROM unnest(%(message_ids)b::text[], %(sent_ats)b::timestamptz[], %(records)b::bytea[]) new (message_id, sent_at, record)
ON CONFLICT DO NOTHING

-- name: count
-- Messages seen for the first time, by day and kind.
INSERT INTO registry.message_counts AS held (company_id, mailbox_id, folder, day, kind, messages, suspect)
SELECT %(company_id)s, %(mailbox_id)s, %(folder)s, new.day, new.kind, count(*), count(*) FILTER (WHERE new.suspect)
FROM unnest(%(days)s::date[], %(kinds)s::text[], %(suspects)s::boolean[]) new (day, kind, suspect)
GROUP BY new.day, new.kind
ON CONFLICT (company_id, mailbox_id, folder, day, kind) DO UPDATE
SET messages = held.messages + excluded.messages, suspect = held.suspect + excluded.suspect

-- name: forget
-- Published messages behind the horizon.
DELETE FROM registry.published
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND sent_at < %(earliest)s

-- name: polled
-- A poll ended well and the lease with it. With `complete` every watched folder is complete through its start. A rescan
-- that was asked for while the poll ran (`due` is not what the lease saw) stands, and is due at once.
UPDATE registry.mailboxes
SET lease_owner = NULL, lease_until = NULL, failures = 0, login_refusals = 0, state_reason = NULL, last_success_at = clock_timestamp(),
    next_poll_at = CASE WHEN reconcile_after IS DISTINCT FROM %(due)s THEN clock_timestamp()
        ELSE clock_timestamp() + make_interval(secs => %(next_seconds)s) END,
    reconcile_after = CASE WHEN reconcile_after IS NULL OR (%(reconciled)s AND reconcile_after = %(due)s)
        THEN clock_timestamp() + interval '1 day' ELSE reconcile_after END,
    complete_from = CASE WHEN %(complete)s THEN least(complete_from, %(complete_from)s) ELSE complete_from END,
    complete_through = CASE WHEN %(complete)s THEN greatest(complete_through, %(through)s) ELSE complete_through END
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND lease_epoch = %(epoch)s
RETURNING complete_from, complete_through

-- name: covered
-- The span for which a mailbox is known to be complete after a good poll.
INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at, through_at)
VALUES (%(company_id)s, %(account_id)s, %(mailbox_id)s, %(connected_at)s, %(from_at)s, %(through_at)s)

-- name: failed
-- A poll failed: why, when next, and perhaps another state. The lease ends with it.
UPDATE registry.mailboxes
SET lease_owner = NULL, lease_until = NULL, failures = failures + %(counts)s, state_reason = %(reason)s,
    login_refusals = login_refusals + %(refused)s,
    state = CASE WHEN %(state)s::text IS NULL THEN state ELSE %(state)s END,
    state_changed_at = CASE WHEN %(state)s::text IS NULL THEN state_changed_at ELSE clock_timestamp() END,
    next_poll_at = clock_timestamp() + make_interval(secs => %(next_seconds)s)
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND lease_epoch = %(epoch)s
RETURNING state

-- name: waiting
-- Mailboxes by state; of the active ones how long the most overdue waits, and how long ago the last good poll of the
-- one that waits longest was, or its connection. Seconds.
SELECT state, count(*) AS mailboxes,
    greatest(0, extract(epoch FROM max(clock_timestamp() - next_poll_at)
        FILTER (WHERE state = 'active' AND (lease_until IS NULL OR lease_until < clock_timestamp()))))::float8 AS delay,
    greatest(0, extract(epoch FROM max(clock_timestamp() - coalesce(last_success_at, connected_at))
        FILTER (WHERE state = 'active')))::float8 AS age
FROM registry.mailboxes GROUP BY state

-- name: unreadable
-- The sealed values of a mailbox do not belong to it: it must be connected again.
UPDATE registry.mailboxes
SET state = 'needs_reconnect', state_reason = 'secret-unreadable', state_changed_at = clock_timestamp(),
    lease_owner = NULL, lease_until = NULL
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND lease_epoch = %(epoch)s

-- name: sealed
-- How many mailboxes and addresses hold sealed values.
SELECT (SELECT count(*) FROM registry.mailboxes WHERE user_sealed IS NOT NULL)
    + (SELECT count(*) FROM registry.addresses)

-- name: sealed_mailboxes
-- Sealed values of the next mailboxes behind one, locked until they are written again.
SELECT m.company_id, m.mailbox_id, m.host, m.port, m.address_sealed, m.user_sealed, s.sealed AS secret
FROM registry.mailboxes m LEFT JOIN registry.secrets s USING (company_id, mailbox_id)
WHERE (m.company_id, m.mailbox_id) > (%(company_id)s, %(mailbox_id)s) AND m.user_sealed IS NOT NULL
ORDER BY m.company_id, m.mailbox_id LIMIT %(count)s FOR UPDATE OF m

-- name: sealed_addresses
-- Sealed addresses of the next accounts behind one, locked until they are written again.
SELECT company_id, account_id, role, address_sealed FROM registry.addresses
WHERE (company_id, account_id, role) > (%(company_id)s, %(account_id)s, %(role)s)
ORDER BY company_id, account_id, role LIMIT %(count)s FOR UPDATE

-- name: seal_mailbox
-- The same values under another key.
UPDATE registry.mailboxes SET address_sealed = %(address)s, user_sealed = %(user)s
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: seal_secret
-- The same password under another key.
UPDATE registry.secrets SET sealed = %(sealed)s, key_id = %(key_id)s
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: seal_address
-- The same address under another key.
UPDATE registry.addresses SET address_sealed = %(sealed)s
WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND role = %(role)s

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
