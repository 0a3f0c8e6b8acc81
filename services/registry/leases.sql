-- name: lease
-- Leases active mailboxes that are due and not leased, the most overdue ones; the new epoch fences the process that leased one
-- before. No indexed column changes.
-- statement_timestamp(): with clock_timestamp(), which is volatile, the index is read to its end when nothing is due.
-- `cursors`: of the folders that are read now (folder_records.cursors_of).
WITH due AS MATERIALIZED (
    SELECT company_id, mailbox_id FROM registry.mailboxes
    WHERE state = 'active' AND next_poll_at <= statement_timestamp()
        AND (lease_until IS NULL OR lease_until < statement_timestamp())
    ORDER BY next_poll_at, company_id, mailbox_id
    LIMIT %(most)s FOR UPDATE SKIP LOCKED
),
leased AS (
    UPDATE registry.mailboxes m
    SET lease_owner = %(owner)s, waits_for = NULL, lease_epoch = m.lease_epoch + 1, last_attempt_at = clock_timestamp(),
        lease_until = clock_timestamp() + make_interval(secs => %(seconds)s)
    FROM due
    WHERE m.company_id = due.company_id AND m.mailbox_id = due.mailbox_id
    RETURNING m.company_id, m.mailbox_id, m.account_id, m.host, m.port, m.tls, m.user_sealed, m.sent_override, m.lease_epoch,
        m.connected_at, m.complete_from, m.complete_through, m.reconcile_after, m.failures, m.login_refusals,
        greatest(m.interrupted_at, m.state_changed_at) AS interrupted_at, m.fruitless_polls, m.next_poll_at,
        clock_timestamp() AS now
)
SELECT leased.*, s.sealed AS secret, s.kind, (
    SELECT jsonb_agg(jsonb_build_object(
        'folder', encode(f.folder, 'hex'), 'uidvalidity', f.uidvalidity, 'high_uid', f.high_uid,
        'scan_down_to_uid', f.scan_down_to_uid, 'uidnext', f.uidnext, 'recent_uids', f.recent_uids,
        'lower_bound_at', f.lower_bound_at, 'scan_began_at', f.scan_began_at, 'scan_below', f.scan_below, 'refused', f.refused
    )) FROM registry.folders f
    WHERE f.company_id = leased.company_id AND f.mailbox_id = leased.mailbox_id AND f.current
) AS cursors
FROM leased LEFT JOIN registry.secrets s ON s.company_id = leased.company_id AND s.mailbox_id = leased.mailbox_id
ORDER BY leased.next_poll_at, leased.company_id, leased.mailbox_id

-- name: fence
-- Locks a mailbox's row for a write; no row when the lease of this epoch has ended.
SELECT 1 FROM registry.mailboxes
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND lease_epoch = %(epoch)s
    AND lease_until > clock_timestamp() FOR UPDATE

-- name: end_polls
-- Ends the leases of good polls that have not ended; a row for each. With `complete`, every Sent folder is complete through the
-- start of the poll. A rescan that was requested while the poll ran (`reconcile_after` is no longer what the lease read, `due`)
-- is kept and due at once.
UPDATE registry.mailboxes m
SET lease_owner = NULL, lease_until = NULL, failures = 0, login_refusals = 0, state_reason = NULL, last_success_at = clock_timestamp(),
    next_poll_at = CASE WHEN m.reconcile_after IS DISTINCT FROM poll.due THEN clock_timestamp()
        ELSE clock_timestamp() + make_interval(secs => poll.next_seconds) END,
    reconcile_after = CASE WHEN m.reconcile_after IS NULL OR (poll.reconciled AND m.reconcile_after = poll.due)
        THEN clock_timestamp() + interval '1 day' ELSE m.reconcile_after END,
    fruitless_polls = CASE WHEN poll.fruitless THEN m.fruitless_polls + 1 ELSE 0 END,
    complete_from = CASE WHEN poll.complete THEN least(m.complete_from, poll.complete_from) ELSE m.complete_from END,
    complete_through = CASE WHEN poll.complete THEN greatest(m.complete_through, poll.through) ELSE m.complete_through END
FROM unnest(
    %(company_ids)s::text[], %(mailbox_ids)s::text[], %(epochs)s::bigint[], %(complete)s::boolean[], %(reconciled)s::boolean[],
    %(dues)s::timestamptz[], %(complete_froms)s::timestamptz[], %(throughs)s::timestamptz[], %(next_seconds)s::float8[],
    %(fruitless)s::boolean[]
) poll (company_id, mailbox_id, epoch, complete, reconciled, due, complete_from, through, next_seconds, fruitless)
WHERE m.company_id = poll.company_id AND m.mailbox_id = poll.mailbox_id AND m.lease_epoch = poll.epoch
    AND m.lease_until > clock_timestamp()
RETURNING m.company_id, m.mailbox_id, m.account_id, m.connected_at, m.complete_from, m.complete_through, poll.complete

-- name: hand_back
-- Ends leases under which nothing was done: the mailboxes are due for any fetcher at once.
UPDATE registry.mailboxes m SET lease_owner = NULL, lease_until = NULL
FROM unnest(%(company_ids)s::text[], %(mailbox_ids)s::text[], %(epochs)s::bigint[]) unread (company_id, mailbox_id, epoch)
WHERE m.company_id = unread.company_id AND m.mailbox_id = unread.mailbox_id AND m.lease_epoch = unread.epoch

-- name: fail_poll
-- Ends a lease after a failed poll: the reason, when to poll next, and another state if one follows.
UPDATE registry.mailboxes
SET lease_owner = NULL, lease_until = NULL, failures = failures + %(counts)s, state_reason = %(reason)s,
    login_refusals = login_refusals + %(refused)s,
    interrupted_at = CASE WHEN %(interrupted)s THEN clock_timestamp() ELSE interrupted_at END,
    state = CASE WHEN %(state)s::text IS NULL THEN state ELSE %(state)s END,
    state_changed_at = CASE WHEN %(state)s::text IS NULL THEN state_changed_at ELSE clock_timestamp() END,
    next_poll_at = clock_timestamp() + make_interval(secs => %(next_seconds)s)
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND lease_epoch = %(epoch)s
RETURNING state

-- name: unreadable
-- Ends the lease of a mailbox whose sealed values do not belong to it: it must be connected again.
UPDATE registry.mailboxes
SET state = %(to)s, state_reason = %(reason)s, state_changed_at = clock_timestamp(),
    lease_owner = NULL, lease_until = NULL
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND lease_epoch = %(epoch)s
