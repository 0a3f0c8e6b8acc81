-- by hand: pages of operators.

-- name: extend_timeouts
-- To judge the companies of a comparison takes longer than a page may, until the end of the transaction.
SELECT set_config('statement_timeout', '120s', true), set_config('idle_in_transaction_session_timeout', '120s', true)

-- name: budgets
-- Slots of logins and sessions at each provider: how many exist, and how many are taken now.
SELECT provider, kind, count(*) AS slots, count(*) FILTER (WHERE free_at > statement_timestamp()) AS taken
FROM registry.login_slots GROUP BY provider, kind ORDER BY provider, kind

-- name: postponed
-- Mailboxes that wait for a login at their provider.
SELECT waits_for AS provider, count(*) AS mailboxes FROM registry.mailboxes
WHERE waits_for IS NOT NULL AND next_poll_at > statement_timestamp() GROUP BY waits_for ORDER BY mailboxes DESC, provider
LIMIT 20

-- name: partitions
-- The partitions whose watermark is the furthest behind.
SELECT partition, passed_at, extract(epoch FROM clock_timestamp() - passed_at)::float8 AS seconds
FROM ledger.pipeline ORDER BY passed_at, partition LIMIT 5
