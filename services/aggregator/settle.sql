-- name: due
-- A company that waits to be judged: facts changed, coverage grew, or time has passed. Locked; others skip it.
SELECT c.company_id FROM ledger.companies c
WHERE EXISTS (SELECT FROM ledger.dirty d WHERE d.company_id = c.company_id)
    OR c.due_at <= clock_timestamp()
    OR EXISTS (
        SELECT FROM registry.coverage v WHERE v.company_id = c.company_id AND v.coverage_id > c.coverage_seen
    )
ORDER BY c.judged_at NULLS FIRST, c.company_id
LIMIT 1 FOR UPDATE OF c SKIP LOCKED

-- name: seen
-- What this refresh takes into account, and its instant: everything committed before stands in it.
SELECT clock_timestamp() AS now,
    coalesce(d.ids, '{}') AS dirty, d.earliest, coalesce(d.everything, false) AS everything,
    coalesce((SELECT max(coverage_id) FROM registry.coverage WHERE company_id = %(company_id)s), 0) AS coverage
FROM (
    SELECT array_agg(dirty_id) AS ids, min(earliest) FILTER (WHERE earliest > '-infinity') AS earliest,
        bool_or(earliest = '-infinity') AS everything
    FROM ledger.dirty WHERE company_id = %(company_id)s
) d

-- name: clean
-- The rows that were seen are done.
DELETE FROM ledger.dirty WHERE dirty_id = ANY (%(dirty)s)

-- name: judged
-- When the company was judged, and when it is due next by time alone.
UPDATE ledger.companies SET judged_at = %(now)s, due_at = %(due_at)s, coverage_seen = %(coverage)s
WHERE company_id = %(company_id)s

-- name: waiting
-- How many companies wait, and for how long the first of them.
SELECT count(DISTINCT company_id) AS companies,
    coalesce(extract(epoch FROM clock_timestamp() - min(since)), 0)::float8 AS seconds
FROM ledger.dirty
