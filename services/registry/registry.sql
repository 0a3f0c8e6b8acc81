-- name: acting
-- Who does what comes next in this transaction, and why: the history of states writes it down.
SELECT set_config('replyrate.actor', %(actor)s, true), set_config('replyrate.reason', %(reason)s, true)

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

-- name: address
-- The address of an account in a role, as a person may see it, and its hash.
SELECT address_masked, address_hash, changed_at FROM registry.addresses
WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND role = %(role)s

-- name: address_changed
-- Mailboxes that used the address which an account had in this role: they must be connected again. Where none was known
-- (`before` null), those of any address but the new one.
UPDATE registry.mailboxes
SET state = %(to)s, state_reason = %(reason)s, state_changed_at = clock_timestamp(),
    lease_owner = NULL, lease_until = NULL, lease_epoch = lease_epoch + 1
WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND role = %(role)s
    AND CASE WHEN %(before)s::text IS NULL THEN address_hash <> %(hash)s ELSE address_hash = %(before)s END
    AND state = ANY (%(froms)s)
RETURNING mailbox_id

-- name: platform_coverage
-- The account answers through the platform from this instant on.
INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at)
VALUES (%(company_id)s, %(account_id)s, NULL, %(from_at)s, %(from_at)s)

-- name: platform_ended
-- Says that the platform does not sync an account any more: what it was synced for stands.
INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, removed_at, from_at)
VALUES (%(company_id)s, %(account_id)s, NULL, %(from_at)s, %(removed_at)s, %(from_at)s)

-- name: set_synced
-- Since when an account answers through the platform's own mail; null: it does not any more.
UPDATE registry.accounts SET synced_by_platform_from = %(synced_from)s
WHERE company_id = %(company_id)s AND account_id = %(account_id)s
    AND (synced_by_platform_from IS NULL) <> (%(synced_from)s::timestamptz IS NULL)
RETURNING clock_timestamp() AS now

-- name: of_account
-- Mailboxes of an account in given states, locked.
SELECT mailbox_id, state FROM registry.mailboxes
WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND state = ANY (%(states)s)
ORDER BY mailbox_id FOR UPDATE

-- name: holders
-- Mailboxes that hold a login, and whether an operator lets this company read it beside theirs.
SELECT m.company_id, m.mailbox_id, EXISTS (
        SELECT FROM registry.mailbox_links l WHERE l.login_hash = m.login_hash
            AND l.company_id = least(m.company_id, %(company_id)s COLLATE "C")
            AND l.other_company_id = greatest(m.company_id, %(company_id)s COLLATE "C")
    ) AS linked
FROM registry.mailboxes m
WHERE m.login_hash = %(login_hash)s AND m.state = ANY (%(holding)s)
    AND (m.company_id, m.mailbox_id) <> (%(company_id)s, %(mailbox_id)s)
ORDER BY m.company_id <> %(company_id)s, m.company_id, m.mailbox_id

-- name: attempt
-- The mailbox of an account and role that somebody began to connect.
SELECT mailbox_id FROM registry.mailboxes
WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND role = %(role)s AND state = ANY (%(states)s)
FOR UPDATE

-- name: begin_mailbox
-- A mailbox that somebody consented to and that is not tested yet. It has no password.
INSERT INTO registry.mailboxes (
    company_id, mailbox_id, account_id, role, state, address_sealed, address_masked, address_hash, host, port,
    user_sealed, login_hash, sent_override, consent_by, consent_at, consent_text_version
) VALUES (
    %(company_id)s, %(mailbox_id)s, %(account_id)s, %(role)s, %(to)s, %(address_sealed)s, %(address_masked)s,
    %(address_hash)s, %(host)s, %(port)s, %(user_sealed)s, %(login_hash)s, %(sent_override)s,
    %(consent_by)s, clock_timestamp(), %(text_version)s
)

-- name: begin_again
-- The same attempt once more, with what was typed now.
UPDATE registry.mailboxes
SET state = %(to)s, state_reason = NULL, state_changed_at = clock_timestamp(), address_sealed = %(address_sealed)s,
    address_masked = %(address_masked)s, address_hash = %(address_hash)s, host = %(host)s, port = %(port)s,
    user_sealed = %(user_sealed)s, login_hash = %(login_hash)s, sent_override = %(sent_override)s,
    consent_by = %(consent_by)s, consent_at = clock_timestamp(), consent_text_version = %(text_version)s
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: consent
-- Somebody consents.
INSERT INTO registry.consents (company_id, mailbox_id, consented_by, text_version, language)
VALUES (%(company_id)s, %(mailbox_id)s, %(consent_by)s, %(text_version)s, %(language)s)

-- name: withdraw_consents
-- Somebody withdraws what was consented to.
UPDATE registry.consents SET withdrawn_by = %(by)s, withdrawn_at = clock_timestamp()
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND withdrawn_at IS NULL

-- name: consents
-- Who consented to what, oldest first.
SELECT consented_by, consented_at, text_version, language, withdrawn_by, withdrawn_at FROM registry.consents
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s ORDER BY consent_id

-- name: history
-- Every change of a mailbox's state, oldest first.
SELECT from_state, to_state, reason, changed_at, changed_by FROM registry.mailbox_history
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s ORDER BY change_id

-- name: lock
-- A mailbox's row for what comes next in this transaction.
SELECT account_id, role, state, state_reason, login_hash, address_hash, host, port FROM registry.mailboxes
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s FOR UPDATE

-- name: move
-- Another state for a mailbox that is in one of those that the event may come in; a poll under way loses its lease.
UPDATE registry.mailboxes
SET state = %(to)s, state_reason = %(reason)s, state_changed_at = clock_timestamp(), failures = 0,
    login_refusals = 0, next_poll_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL, lease_epoch = lease_epoch + 1,
    reconnected_at = CASE WHEN %(reconnected)s THEN clock_timestamp() ELSE reconnected_at END
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND state = ANY (%(froms)s)
RETURNING state

-- name: connect
-- An attempt whose test has passed.
UPDATE registry.mailboxes
SET connected_at = clock_timestamp(), expected_from = %(expected_from)s, linked = %(linked)s
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s
RETURNING connected_at, account_id

-- name: reconnect
-- Other credentials that passed the test.
UPDATE registry.mailboxes
SET address_sealed = %(address_sealed)s, address_masked = %(address_masked)s, address_hash = %(address_hash)s,
    host = %(host)s, port = %(port)s, user_sealed = %(user_sealed)s, login_hash = %(login_hash)s,
    sent_override = %(sent_override)s, expected_from = %(expected_from)s, linked = %(linked)s
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: begin_anew
-- Another mailbox behind the same id: it is read from the start. What was known of the one before stands.
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

-- name: set_secret
-- The sealed password or refresh token of a mailbox.
INSERT INTO registry.secrets (company_id, mailbox_id, sealed, key_id, kind)
VALUES (%(company_id)s, %(mailbox_id)s, %(sealed)s, %(key_id)s, %(kind)s)
ON CONFLICT (company_id, mailbox_id) DO UPDATE
SET sealed = excluded.sealed, key_id = excluded.key_id, kind = excluded.kind, changed_at = clock_timestamp()

-- name: shred_secret
-- The password of a mailbox that is not logged in to any more.
DELETE FROM registry.secrets WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: shred_links
-- Links of a mailbox that holds its login go with it.
DELETE FROM registry.mailbox_links l USING registry.mailboxes m
WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s AND m.state = ANY (%(holding)s)
    AND l.login_hash = m.login_hash AND m.company_id IN (l.company_id, l.other_company_id)

-- name: shred
-- All that tells whose mailbox it was, and what was only kept to read on; what it was complete for stays.
WITH folders AS (
    DELETE FROM registry.folders WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s
), other_folders AS (
    DELETE FROM registry.other_folders WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s
), published AS (
    DELETE FROM registry.published WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s
)
UPDATE registry.mailboxes
SET removed_at = clock_timestamp(), address_sealed = NULL, address_masked = '', address_hash = '', user_sealed = NULL,
    login_hash = '', sent_override = NULL, reconcile_after = NULL
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s
RETURNING account_id, connected_at, removed_at, complete_through

-- name: connected_coverage
-- Says that a mailbox is connected, before it was complete for any span.
INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at)
VALUES (%(company_id)s, %(account_id)s, %(mailbox_id)s, %(connected_at)s)

-- name: removed_coverage
-- Says that a mailbox was removed.
INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, removed_at, from_at, through_at)
VALUES (%(company_id)s, %(account_id)s, %(mailbox_id)s, %(connected_at)s, %(removed_at)s, %(through)s, %(through)s)

-- name: rescan
-- Everything within the horizon is read and published again, unchanged where it is known.
UPDATE registry.mailboxes
SET reconcile_after = clock_timestamp(), next_poll_at = clock_timestamp()
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND state <> 'removed'
RETURNING state

-- name: link
-- An operator lets another company read the login of a mailbox too.
INSERT INTO registry.mailbox_links (login_hash, company_id, other_company_id, linked_by)
SELECT m.login_hash, least(m.company_id, %(other_id)s COLLATE "C"), greatest(m.company_id, %(other_id)s COLLATE "C"), %(by)s
FROM registry.mailboxes m
WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s AND m.state = ANY (%(holding)s)
ON CONFLICT DO NOTHING
RETURNING linked_at

-- name: unlink
-- An operator takes that back.
DELETE FROM registry.mailbox_links l USING registry.mailboxes m
WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s AND l.login_hash = m.login_hash
    AND l.company_id = least(m.company_id, %(other_id)s COLLATE "C")
    AND l.other_company_id = greatest(m.company_id, %(other_id)s COLLATE "C")
RETURNING l.linked_at

-- name: links
-- Companies that may read the login of a mailbox beside its own, and as which mailbox they do.
SELECT CASE WHEN l.company_id = m.company_id THEN l.other_company_id ELSE l.company_id END AS company_id, l.linked_by,
    l.linked_at, o.mailbox_id
FROM registry.mailboxes m
JOIN registry.mailbox_links l ON l.login_hash = m.login_hash AND m.company_id IN (l.company_id, l.other_company_id)
LEFT JOIN registry.mailboxes o ON o.login_hash = m.login_hash AND o.state = ANY (%(holding)s)
    AND o.company_id IN (l.company_id, l.other_company_id) AND o.company_id <> m.company_id
WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s
ORDER BY 1

-- name: mailboxes
-- Mailboxes with what is known about them, of one company or of all.
SELECT m.company_id, m.mailbox_id, m.account_id, m.role, m.state, m.state_reason, m.state_changed_at, m.address_masked,
    m.host, m.port, m.connected_at, m.reconnected_at, m.removed_at, m.last_success_at, m.last_attempt_at, m.next_poll_at,
    m.expected_from, m.complete_from, m.complete_through, m.failures,
    (SELECT s.kind FROM registry.secrets s WHERE s.company_id = m.company_id AND s.mailbox_id = m.mailbox_id) AS login_kind,
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

-- name: credentials
-- What a mailbox is logged in with, sealed.
SELECT m.host, m.port, m.address_sealed, m.user_sealed, m.sent_override, s.sealed AS secret, s.kind
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
WHERE tested_at > clock_timestamp() - interval '1 hour' AND code NOT IN ('passed', 'provider-busy')
    AND (login_hash = %(login_hash)s OR company_id = %(company_id)s)

-- name: begin_test
-- A test that begins.
INSERT INTO registry.connection_tests (company_id, login_hash) VALUES (%(company_id)s, %(login_hash)s)
RETURNING test_id, tested_at

-- name: end_test
-- How a test ended.
UPDATE registry.connection_tests SET stage = %(stage)s, code = %(code)s, detail = %(detail)s WHERE test_id = %(test_id)s
