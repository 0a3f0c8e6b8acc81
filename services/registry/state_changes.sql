-- name: actor
-- Who makes the changes of this transaction, and by which event; a trigger writes both into the history of states.
SELECT set_config('replyrate.actor', %(actor)s, true), set_config('replyrate.reason', %(reason)s, true)

-- name: lock
-- The state of a mailbox; its row is locked.
SELECT state FROM registry.mailboxes
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s FOR UPDATE

-- name: move
-- Another state for a mailbox whose present state the event allows; a poll in progress loses its lease.
UPDATE registry.mailboxes
SET state = %(to)s, state_reason = %(reason)s, state_changed_at = clock_timestamp(), failures = 0,
    login_refusals = 0, next_poll_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL, lease_epoch = lease_epoch + 1,
    reconnected_at = CASE WHEN %(reconnected)s THEN clock_timestamp() ELSE reconnected_at END
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND state = ANY (%(froms)s)
RETURNING state
