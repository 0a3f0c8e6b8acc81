-- name: states
-- Mailboxes by state.
SELECT state, sum(change)::bigint AS mailboxes FROM registry.mailbox_counts GROUP BY state HAVING sum(change) > 0

-- name: waiting
-- Of the active mailboxes: how long the most overdue has been waiting, and the age of the oldest last good poll (or
-- connection, before the first poll). Seconds.
SELECT greatest(0, extract(epoch FROM clock_timestamp() - (
        SELECT next_poll_at FROM registry.mailboxes
        WHERE state = 'active' AND (lease_until IS NULL OR lease_until < statement_timestamp()) ORDER BY next_poll_at LIMIT 1
    )))::float8 AS delay,
    greatest(0, extract(epoch FROM clock_timestamp() - (
        SELECT min(coalesce(last_success_at, connected_at)) FROM registry.mailboxes WHERE state = 'active'
    )))::float8 AS age
