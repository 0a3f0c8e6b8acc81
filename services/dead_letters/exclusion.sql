-- name: lock
-- The exclusion of every other replay and purge until the transaction ends; false when another one has it. The server ends the
-- session of a process that has vanished without closing it after these minutes; a batch takes a fraction of that.
SELECT pg_try_advisory_xact_lock(hashtextextended('replyrate dead letters', 0)) AS locked,
    set_config('idle_in_transaction_session_timeout', '15min', true)

-- name: check
-- Whether the session is there, which resets the time after which the server ends it.
SELECT 1
