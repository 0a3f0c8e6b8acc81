-- name: count_partitions
-- Number of known partitions.
SELECT count(*) FROM ledger.pipeline

-- name: delete_partitions
-- The topics were recreated with another number of partitions: companies are in other partitions now.
DELETE FROM ledger.pipeline

-- name: unassign_companies
-- rare: the topics were created again with another number of partitions.
-- Their partitions are assigned again afterwards.
WITH reached AS (UPDATE ledger.coverage_reached SET partition = NULL WHERE partition IS NOT NULL)
UPDATE ledger.companies SET partition = NULL WHERE partition IS NOT NULL

-- name: insert_partitions
-- A new partition's watermark is the latest judgement: what was judged without watermarks keeps its result, and companies not
-- judged yet wait.
INSERT INTO ledger.pipeline (partition, passed_at)
SELECT generate_series(0, %(partitions)s - 1), coalesce((SELECT max(judged_at) FROM ledger.companies), clock_timestamp())
ON CONFLICT DO NOTHING

-- name: unassigned_companies
-- Companies whose partition is not known.
SELECT company_id FROM ledger.companies WHERE partition IS NULL LIMIT %(most)s

-- name: assign_partitions
-- The partition that holds the inquiries of each company.
UPDATE ledger.companies company SET partition = assignment.partition
FROM unnest(%(companies)s::text[], %(partitions)s::integer[]) assignment (company_id, partition)
WHERE company.company_id = assignment.company_id AND company.partition IS DISTINCT FROM assignment.partition

-- name: merged_offsets
-- The time now, and how far each partition has been merged; one row without a partition if none has.
SELECT clock_timestamp() AS now, merged.partition, merged.next_offset
FROM (SELECT) always LEFT JOIN ledger.offsets merged ON merged.topic = %(topic)s

-- name: advance
-- Moves watermarks forward, never back: another aggregator may have moved them further.
UPDATE ledger.pipeline pipeline SET passed_at = advanced.passed_at
FROM unnest(%(partitions)s::integer[], %(instants)s::timestamptz[]) advanced (partition, passed_at)
WHERE pipeline.partition = advanced.partition AND pipeline.passed_at < advanced.passed_at

-- name: max_lag
-- Seconds by which the slowest partition's watermark is behind.
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(passed_at)), 0)::float8 AS seconds FROM ledger.pipeline

-- name: lag
-- Seconds since records published to this partition may not have been counted yet; no row without a watermark.
SELECT floor(greatest(0, extract(epoch FROM clock_timestamp() - passed_at)))::bigint AS seconds
FROM ledger.pipeline WHERE partition = %(partition)s
