-- name: published
-- What was published from behind the horizon, also of mailboxes that nobody polls any more.
DELETE FROM registry.published WHERE ctid IN (
    SELECT ctid FROM registry.published WHERE sent_at < clock_timestamp() - make_interval(days => %(horizon_days)s)
    LIMIT %(most)s
)

-- name: message_counts
-- Counts of days behind the horizon: no rate and no diagnosis looks there.
DELETE FROM registry.message_counts WHERE ctid IN (
    SELECT ctid FROM registry.message_counts WHERE day < (clock_timestamp() - make_interval(days => %(horizon_days)s))::date
    LIMIT %(most)s
)

-- name: connection_tests
-- Tries of the connection test after thirty days.
DELETE FROM registry.connection_tests WHERE ctid IN (
    SELECT ctid FROM registry.connection_tests WHERE tested_at < clock_timestamp() - interval '30 days'
    LIMIT %(most)s
)

-- name: login_slots
-- Slots of logins and sessions that nobody took for a day; they are made again when they are needed.
DELETE FROM registry.login_slots WHERE ctid IN (
    SELECT ctid FROM registry.login_slots WHERE free_at < clock_timestamp() - interval '1 day'
    LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
