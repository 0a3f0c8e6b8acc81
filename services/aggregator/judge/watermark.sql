-- name: held
-- How many partitions are known.
SELECT count(*) FROM ledger.pipeline

-- name: other_count
-- The topics were made anew with another number of partitions: companies lie in others now.
DELETE FROM ledger.pipeline

-- name: forget_partitions
-- Which these are is written down anew.
UPDATE ledger.companies SET partition = NULL WHERE partition IS NOT NULL

-- name: begin
-- What was judged before there was a row stands: nothing that was known becomes unknown. What was not waits.
INSERT INTO ledger.pipeline (partition, passed_at)
SELECT generate_series(0, %(partitions)s - 1), coalesce((SELECT max(judged_at) FROM ledger.companies), clock_timestamp())
ON CONFLICT DO NOTHING

-- name: homeless
-- Companies of which it is not known in which partition their inquiries lie.
SELECT company_id FROM ledger.companies WHERE partition IS NULL LIMIT %(most)s

-- name: homes
-- In which partition the inquiries of companies lie.
UPDATE ledger.companies c SET partition = h.partition
FROM unnest(%(companies)s::text[], %(partitions)s::integer[]) h (company_id, partition)
WHERE c.company_id = h.company_id AND c.partition IS DISTINCT FROM h.partition

-- name: merged
-- Now, and how far each partition has been merged.
SELECT clock_timestamp() AS now, o.partition, o.next_offset
FROM (SELECT) one LEFT JOIN ledger.offsets o ON o.topic = %(topic)s

-- name: passed
-- Up to when everything that was published has been counted; another aggregator may know better.
UPDATE ledger.pipeline p SET passed_at = n.passed_at
FROM unnest(%(partitions)s::integer[], %(instants)s::timestamptz[]) n (partition, passed_at)
WHERE p.partition = n.partition AND p.passed_at < n.passed_at

-- name: age
-- How far the slowest partition is behind.
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(passed_at)), 0)::float8 AS seconds FROM ledger.pipeline

-- name: waiting
-- Seconds since what was published into this partition may not have been counted yet; no row where nobody looks.
SELECT floor(greatest(0, extract(epoch FROM clock_timestamp() - passed_at)))::bigint AS seconds
FROM ledger.pipeline WHERE partition = %(partition)s
