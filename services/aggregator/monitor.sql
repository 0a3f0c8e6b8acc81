-- name: offsets
-- How far each partition has been merged.
SELECT partition, next_offset FROM ledger.offsets WHERE topic = %(topic)s

-- name: settled
-- Seconds since any company was judged, and since when the one that waits longest is due by time alone.
SELECT extract(epoch FROM clock_timestamp() - max(judged_at))::float8 AS refresh_age,
    coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(due_at))), 0)::float8 AS settle_lag
FROM ledger.companies
