-- name: sum_up
-- Sums up the changes of the number of mailboxes in each state.
WITH summed AS (
    DELETE FROM registry.mailbox_counts WHERE count_id IN (SELECT count_id FROM registry.mailbox_counts FOR UPDATE SKIP LOCKED)
    RETURNING state, change
)
INSERT INTO registry.mailbox_counts (state, change) SELECT state, sum(change) FROM summed GROUP BY state HAVING sum(change) <> 0
