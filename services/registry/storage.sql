-- by hand

-- name: tables
-- Every table of ours with its partitions: rows as Postgres estimates them, bytes, and rows added since its statistics began.
SELECT namespace.nspname || '.' || root.relname AS name, sum(stat.n_live_tup)::bigint AS rows,
    sum(pg_table_size(leaf.id))::bigint AS table_bytes, sum(pg_indexes_size(leaf.id))::bigint AS index_bytes,
    greatest(0, sum(stat.n_tup_ins - stat.n_tup_del))::bigint AS rows_added
FROM pg_class root JOIN pg_namespace namespace ON namespace.oid = root.relnamespace
CROSS JOIN LATERAL (SELECT root.oid AS id UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = root.oid) leaf
LEFT JOIN pg_stat_user_tables stat ON stat.relid = leaf.id
WHERE namespace.nspname IN ('registry', 'ledger', 'shadow', 'access', 'replyrate') AND root.relkind IN ('r', 'p')
    AND NOT root.relispartition
GROUP BY 1 ORDER BY 3 + 4 DESC, 1

-- name: database
-- The size of the whole database, and for how many days its statistics have been counted: since they were reset, otherwise
-- since the first migration.
SELECT pg_database_size(current_database()) AS bytes, greatest(extract(epoch FROM clock_timestamp() - coalesce(
        (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),
        (SELECT min(applied_at) FROM replyrate.migrations)
    )) / 86400, 1.0 / 24)::float8 AS days

-- name: archive
-- The Parquet files of the archive.
SELECT count(*) AS files, coalesce(sum(inquiries), 0)::bigint AS inquiries, coalesce(sum(bytes), 0)::bigint AS bytes,
    min(month) AS first_month, max(month) AS last_month
FROM ledger.archive_files WHERE superseded_at IS NULL
