-- name: merged_offsets
-- The next offset to merge, by partition.
SELECT partition, next_offset FROM ledger.offsets WHERE topic = %(topic)s

-- name: refresh_lag
-- Seconds since the last judgement of any company, and seconds for which the longest-waiting company has been due by time alone.
SELECT extract(epoch FROM clock_timestamp() - max(judged_at))::float8 AS refresh_age,
    coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(due_at))), 0)::float8 AS settle_lag
FROM ledger.companies
