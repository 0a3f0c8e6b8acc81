-- name: mailboxes
-- by hand: a list for a person.
-- Mailboxes of one company or of all, as people may see them.
SELECT m.company_id, m.mailbox_id, m.account_id, m.role, m.state, m.state_reason, m.state_changed_at, m.address_masked,
    m.host, m.port, m.tls, m.connected_at, m.reconnected_at, m.removed_at, m.last_success_at, m.last_attempt_at, m.next_poll_at,
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
-- The Sent folders of a mailbox that are read. `waiting`: messages that the server has not shown yet.
SELECT folder, uidvalidity, high_uid, scan_down_to_uid, scan_done, messages,
    (SELECT count(*) FROM jsonb_object_keys(refused)) AS waiting
FROM registry.folders WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND current ORDER BY folder

-- name: kinds
-- Messages of a mailbox by kind, and how many of them have a time in doubt.
SELECT kind, sum(messages)::bigint AS sum, sum(suspect)::bigint AS suspect FROM registry.message_counts
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s GROUP BY kind ORDER BY kind

-- name: consents
-- Who consented to which text, oldest first.
SELECT consented_by, consented_at, text_version, text_sha256, language, session_id, withdrawn_by, withdrawn_at
FROM registry.consents
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s ORDER BY consent_id

-- name: history
-- Every change of a mailbox's state, oldest first.
SELECT from_state, to_state, reason, changed_at, changed_by FROM registry.mailbox_history
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s ORDER BY change_id

-- name: rescan
-- Reads and publishes everything within the horizon again; messages that were published before are published unchanged.
UPDATE registry.mailboxes
SET reconcile_after = clock_timestamp(), next_poll_at = clock_timestamp()
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND state <> 'removed'
RETURNING state

-- name: lock_of_account
-- Mailboxes of an account in given states; their rows are locked.
SELECT mailbox_id FROM registry.mailboxes
WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND state = ANY (%(states)s)
ORDER BY mailbox_id FOR UPDATE

-- name: delete_secret
-- The password or refresh token of a mailbox that is no longer logged in to.
DELETE FROM registry.secrets WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: withdraw_consents
-- Withdraws every consent to read a mailbox.
UPDATE registry.consents SET withdrawn_by = %(by)s, withdrawn_at = clock_timestamp()
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND withdrawn_at IS NULL

-- name: remove
-- Deletes whatever identifies the owner of a mailbox and whatever is only needed to go on reading it; for which time it was
-- complete stays.
WITH folders AS (
    DELETE FROM registry.folders WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s
), other_folders AS (
    DELETE FROM registry.other_folders WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s
), published_messages AS (
    DELETE FROM registry.published_messages WHERE message_key BETWEEN registry.message_key(%(company_id)s, %(mailbox_id)s, repeat('0', 32))
        AND registry.message_key(%(company_id)s, %(mailbox_id)s, repeat('f', 32))
), published_records AS (
    DELETE FROM registry.published_records WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s
)
UPDATE registry.mailboxes
SET removed_at = clock_timestamp(), address_sealed = NULL, address_masked = '', address_hash = '', user_sealed = NULL,
    login_hash = '', sent_override = NULL, reconcile_after = NULL
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s
RETURNING account_id, connected_at, removed_at, complete_through

-- name: removed_coverage
-- Coverage of a mailbox that was removed.
INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, removed_at, from_at, through_at)
VALUES (%(company_id)s, %(account_id)s, %(mailbox_id)s, %(connected_at)s, %(removed_at)s, %(through)s, %(through)s)
