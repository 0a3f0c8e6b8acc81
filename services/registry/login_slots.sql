-- name: take
-- Takes pairs of a login slot and a session slot at several providers, for each as many as are wanted and both kinds have free.
-- Slots that another transaction is taking are skipped. By provider: the numbers of the slots, and of which kind more were free.
WITH wanted AS MATERIALIZED (
    SELECT provider, logins, sessions, pairs
    FROM unnest(%(providers)s::text[], %(logins)s::integer[], %(sessions)s::integer[], %(pairs)s::integer[])
        wanted (provider, logins, sessions, pairs)
),
free_login AS MATERIALIZED (
    SELECT wanted.provider, slot.number, row_number() OVER (PARTITION BY wanted.provider ORDER BY slot.number) AS place
    FROM wanted CROSS JOIN LATERAL (
        SELECT number FROM registry.login_slots stored
        WHERE stored.provider = wanted.provider AND kind = 'login' AND number <= wanted.logins AND free_at <= statement_timestamp()
        ORDER BY free_at, number LIMIT wanted.pairs FOR UPDATE SKIP LOCKED
    ) slot
),
free_session AS MATERIALIZED (
    SELECT wanted.provider, slot.number, row_number() OVER (PARTITION BY wanted.provider ORDER BY slot.number) AS place
    FROM (
        SELECT wanted.provider, wanted.sessions, count(free_login.number) AS pairs
        FROM wanted JOIN free_login USING (provider) GROUP BY wanted.provider, wanted.sessions
    ) wanted CROSS JOIN LATERAL (
        SELECT number FROM registry.login_slots stored
        WHERE stored.provider = wanted.provider AND kind = 'session' AND number <= wanted.sessions AND free_at <= statement_timestamp()
        ORDER BY free_at, number LIMIT wanted.pairs FOR UPDATE SKIP LOCKED
    ) slot
),
pair AS MATERIALIZED (
    SELECT provider, free_login.number AS login, free_session.number AS session
    FROM free_login JOIN free_session USING (provider, place)
),
taken_slot AS (
    UPDATE registry.login_slots slot
    SET holder = %(holder)s, free_at = statement_timestamp() + make_interval(
        secs => CASE slot.kind WHEN 'login' THEN %(login_seconds)s::float8 ELSE %(session_seconds)s::float8 END)
    FROM (
        SELECT provider, 'login' AS kind, login AS number FROM pair UNION ALL SELECT provider, 'session', session FROM pair
    ) free
    WHERE slot.provider = free.provider AND slot.kind = free.kind AND slot.number = free.number
    RETURNING slot.provider
)
SELECT wanted.provider, (SELECT array_agg(login ORDER BY login) FROM pair WHERE pair.provider = wanted.provider) AS logins,
    (SELECT array_agg(session ORDER BY login) FROM pair WHERE pair.provider = wanted.provider) AS sessions,
    CASE WHEN (SELECT count(*) FROM free_login WHERE free_login.provider = wanted.provider) < wanted.pairs
        THEN 'login' ELSE 'session' END AS short
FROM wanted WHERE (SELECT count(*) FROM taken_slot) >= 0

-- name: create_slots
-- Creates slots of a kind until there are twice as many, up to the limit; how many were created, and how many existed before.
-- Slots are numbered without holes. None is created when another transaction has just created the same ones.
WITH existing_slots AS MATERIALIZED (
    SELECT coalesce(max(number), 0) AS slots FROM registry.login_slots
    WHERE provider = %(provider)s AND kind = %(kind)s AND number <= %(most)s
),
created_slot AS (
    INSERT INTO registry.login_slots (provider, kind, number)
    SELECT %(provider)s, %(kind)s, new.number
    FROM existing_slots, generate_series(
        existing_slots.slots + 1, least(%(most)s::bigint, greatest(8, existing_slots.slots + %(wanted)s::bigint, 2 * existing_slots.slots))::integer
    ) new (number)
    ON CONFLICT DO NOTHING
    RETURNING number
)
SELECT (SELECT count(*) FROM created_slot) AS created, existing_slots.slots AS existing FROM existing_slots

-- name: free_again
-- In how many seconds a login slot is free again; null: none is taken.
SELECT extract(epoch FROM min(free_at) - statement_timestamp())::float8 AS seconds FROM registry.login_slots
WHERE provider = %(provider)s AND kind = 'login' AND number <= %(most)s AND free_at > '-infinity'

-- name: release
-- Releases slots of a holder: of a session that ended, or of a login that was not made. A slot that expired before may have been
-- taken by another session and stays.
UPDATE registry.login_slots slot SET free_at = statement_timestamp(), holder = NULL
FROM unnest(%(providers)s::text[], %(kinds)s::text[], %(numbers)s::integer[], %(holders)s::text[])
    released (provider, kind, number, holder)
WHERE slot.provider = released.provider AND slot.kind = released.kind AND slot.number = released.number
    AND slot.holder = released.holder AND slot.free_at > statement_timestamp()

-- name: postpone
-- Ends the leases of mailboxes of one provider that may not be logged in to yet, and no failure is counted: each is due when a slot
-- will be free behind those that wait already. Each slot is free again for the next one in turn once it was taken for its time.
WITH waiting AS MATERIALIZED (
    SELECT count(*) AS mailboxes FROM registry.mailboxes
    WHERE waits_for = %(provider)s AND next_poll_at > statement_timestamp()
),
mailbox AS MATERIALIZED (
    SELECT company_id, mailbox_id, epoch, jitter, waiting.mailboxes + place - 1 AS place
    FROM waiting, unnest(%(company_ids)s::text[], %(mailbox_ids)s::text[], %(epochs)s::bigint[], %(jitters)s::float8[])
        WITH ORDINALITY postponed (company_id, mailbox_id, epoch, jitter, place)
),
slot AS MATERIALIZED (
    SELECT seconds, row_number() OVER () - 1 AS place
    FROM (
        SELECT extract(epoch FROM free_at - statement_timestamp())::float8 AS seconds FROM registry.login_slots
        WHERE provider = %(provider)s AND kind = 'login' AND number <= %(most)s AND free_at > statement_timestamp()
            AND %(short)s = 'login'
        ORDER BY free_at, number LIMIT (SELECT max(place) + 1 FROM mailbox)
    ) soonest
),
slots AS MATERIALIZED (SELECT count(*) AS taken FROM slot),
turn AS MATERIALIZED (
    SELECT mailbox.company_id, mailbox.mailbox_id, mailbox.epoch, %(jitter_seconds)s::float8 * jitter + greatest(1, CASE
        WHEN %(short)s = 'session' THEN %(again_seconds)s::float8 + %(session_spacing)s::float8 * (mailbox.place / %(most)s)
        ELSE coalesce(slot.seconds + %(login_seconds)s::float8 * (mailbox.place / nullif(slots.taken, 0)), %(again_seconds)s::float8)
        END) AS seconds
    FROM mailbox CROSS JOIN slots LEFT JOIN slot ON slot.place = mailbox.place %% nullif(slots.taken, 0)
)
UPDATE registry.mailboxes stored
SET lease_owner = NULL, lease_until = NULL, waits_for = %(provider)s,
    next_poll_at = clock_timestamp() + make_interval(secs => turn.seconds)
FROM turn
WHERE stored.company_id = turn.company_id AND stored.mailbox_id = turn.mailbox_id AND stored.lease_epoch = turn.epoch
RETURNING stored.company_id, stored.mailbox_id, turn.seconds
