-- name: take
-- One login and one session at a provider, or neither: with free slots of both kinds, they are taken. A slot that another
-- one is just taking is passed over. Else what is short, and in how many seconds a slot of it is free (null: none is there).
WITH now AS MATERIALIZED (SELECT statement_timestamp() AS at),
login AS MATERIALIZED (
    SELECT kind, number FROM registry.login_slots
    WHERE provider = %(provider)s AND kind = 'login' AND number <= %(logins)s AND free_at <= statement_timestamp()
    ORDER BY free_at, number LIMIT 1 FOR UPDATE SKIP LOCKED
),
session AS MATERIALIZED (
    SELECT kind, number FROM registry.login_slots
    WHERE provider = %(provider)s AND kind = 'session' AND number <= %(sessions)s AND free_at <= statement_timestamp()
        AND EXISTS (SELECT FROM login)
    ORDER BY free_at, number LIMIT 1 FOR UPDATE SKIP LOCKED
),
taken AS (
    UPDATE registry.login_slots slot
    SET holder = %(holder)s, free_at = now.at + make_interval(
        secs => CASE slot.kind WHEN 'login' THEN %(login_seconds)s::float8 ELSE %(session_seconds)s::float8 END)
    FROM now, (SELECT * FROM login UNION ALL SELECT * FROM session) free
    WHERE slot.provider = %(provider)s AND slot.kind = free.kind AND slot.number = free.number
        AND EXISTS (SELECT FROM session)
    RETURNING slot.kind
)
SELECT (SELECT count(*) FROM taken) = 2 AS taken,
    CASE WHEN EXISTS (SELECT FROM login) THEN 'session' ELSE 'login' END AS short,
    (SELECT extract(epoch FROM min(free_at) - statement_timestamp())::float8 FROM registry.login_slots
        WHERE provider = %(provider)s AND kind = 'login' AND number <= %(logins)s AND free_at > '-infinity') AS login_seconds

-- name: grow
-- More slots of a kind, twice as many as there are, as far as the limit goes; how many were made, and were there before.
-- None is made when another one has just made the same.
WITH there AS MATERIALIZED (
    SELECT count(*) AS slots FROM registry.login_slots WHERE provider = %(provider)s AND kind = %(kind)s AND number <= %(most)s
),
made AS (
    INSERT INTO registry.login_slots (provider, kind, number)
    SELECT %(provider)s, %(kind)s, made.number
    FROM there, generate_series(1, least(%(most)s::bigint, greatest(8, 2 * there.slots))::integer) made (number)
    WHERE there.slots < %(most)s
    ON CONFLICT DO NOTHING
    RETURNING number
)
SELECT (SELECT count(*) FROM made) AS made, there.slots AS there FROM there

-- name: give_back
-- A session that ended; one that had expired may be another's by now and is left alone.
UPDATE registry.login_slots SET free_at = statement_timestamp(), holder = NULL
WHERE provider = %(provider)s AND kind = 'session' AND holder = %(holder)s AND free_at > statement_timestamp()

-- name: postpone
-- A mailbox that may not be logged in to yet: it is due later, nothing is held against it, and its lease ends.
UPDATE registry.mailboxes
SET lease_owner = NULL, lease_until = NULL, next_poll_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND lease_epoch = %(epoch)s
