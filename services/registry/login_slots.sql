-- name: take
-- Takes one login slot and one session slot at a provider, or neither. Slots that another transaction is taking are skipped.
-- When neither is taken: which kind is short, and in how many seconds a login slot is free (null: none exists).
WITH now AS MATERIALIZED (SELECT statement_timestamp() AS at),
free_login AS MATERIALIZED (
    SELECT kind, number FROM registry.login_slots
    WHERE provider = %(provider)s AND kind = 'login' AND number <= %(logins)s AND free_at <= statement_timestamp()
    ORDER BY free_at, number LIMIT 1 FOR UPDATE SKIP LOCKED
),
free_session AS MATERIALIZED (
    SELECT kind, number FROM registry.login_slots
    WHERE provider = %(provider)s AND kind = 'session' AND number <= %(sessions)s AND free_at <= statement_timestamp()
        AND EXISTS (SELECT FROM free_login)
    ORDER BY free_at, number LIMIT 1 FOR UPDATE SKIP LOCKED
),
taken_slot AS (
    UPDATE registry.login_slots slot
    SET holder = %(holder)s, free_at = now.at + make_interval(
        secs => CASE slot.kind WHEN 'login' THEN %(login_seconds)s::float8 ELSE %(session_seconds)s::float8 END)
    FROM now, (SELECT * FROM free_login UNION ALL SELECT * FROM free_session) free
    WHERE slot.provider = %(provider)s AND slot.kind = free.kind AND slot.number = free.number
        AND EXISTS (SELECT FROM free_session)
    RETURNING slot.kind
)
SELECT (SELECT count(*) FROM taken_slot) = 2 AS taken,
    CASE WHEN EXISTS (SELECT FROM free_login) THEN 'session' ELSE 'login' END AS short,
    (SELECT extract(epoch FROM min(free_at) - statement_timestamp())::float8 FROM registry.login_slots
        WHERE provider = %(provider)s AND kind = 'login' AND number <= %(logins)s AND free_at > '-infinity') AS login_seconds

-- name: create_slots
-- Creates slots of a kind until there are twice as many, up to the limit; how many were created, and how many existed before.
-- None is created when another transaction has just created the same ones.
WITH existing_slots AS MATERIALIZED (
    SELECT count(*) AS slots FROM registry.login_slots WHERE provider = %(provider)s AND kind = %(kind)s AND number <= %(most)s
),
created_slot AS (
    INSERT INTO registry.login_slots (provider, kind, number)
    SELECT %(provider)s, %(kind)s, new.number
    FROM existing_slots, generate_series(1, least(%(most)s::bigint, greatest(8, 2 * existing_slots.slots))::integer) new (number)
    WHERE existing_slots.slots < %(most)s
    ON CONFLICT DO NOTHING
    RETURNING number
)
SELECT (SELECT count(*) FROM created_slot) AS created, existing_slots.slots AS existing FROM existing_slots

-- name: release
-- Releases the slot of a session that ended. A slot that expired before may have been taken by another session and stays.
UPDATE registry.login_slots SET free_at = statement_timestamp(), holder = NULL
WHERE provider = %(provider)s AND kind = 'session' AND holder = %(holder)s AND free_at > statement_timestamp()

-- name: postpone
-- Ends the lease of a mailbox that may not be logged in to yet, and no failure is counted: it is due when a slot will be free
-- behind those that wait already. Each slot is free again for the next one in turn once it has been taken for its time.
WITH waiting AS MATERIALIZED (
    SELECT count(*) AS mailboxes FROM registry.mailboxes
    WHERE waits_for = %(provider)s AND next_poll_at > statement_timestamp()
),
slot AS MATERIALIZED (
    SELECT extract(epoch FROM free_at - clock_timestamp())::float8 AS seconds,
        row_number() OVER (ORDER BY free_at, number) - 1 AS place, count(*) OVER () AS slots
    FROM registry.login_slots
    WHERE provider = %(provider)s AND kind = 'login' AND number <= %(most)s AND free_at > statement_timestamp()
),
turn AS (
    SELECT CASE WHEN %(short)s = 'session'
        THEN %(again_seconds)s::float8 + %(session_spacing)s::float8 * (waiting.mailboxes / %(most)s)
        ELSE coalesce(
            (SELECT slot.seconds + %(login_seconds)s::float8 * (waiting.mailboxes / slot.slots) FROM slot
                WHERE slot.place = waiting.mailboxes %% slot.slots),
            %(again_seconds)s::float8)
        END AS seconds
    FROM waiting
)
UPDATE registry.mailboxes
SET lease_owner = NULL, lease_until = NULL, waits_for = %(provider)s,
    next_poll_at = clock_timestamp() + make_interval(secs => greatest(turn.seconds, 1) + %(jitter)s::float8)
FROM turn
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND lease_epoch = %(epoch)s
RETURNING greatest(turn.seconds, 1) + %(jitter)s::float8 AS seconds
