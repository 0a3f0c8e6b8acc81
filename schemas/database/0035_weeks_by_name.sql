-- migrate:up
-- additive: yes

-- As before, but names that are no week's are never read as a date: with statistics of the catalog the planner may do that first,
-- and then no fetcher starts.
CREATE OR REPLACE FUNCTION registry.keep_published(horizon_days integer) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    horizon timestamptz := statement_timestamp() - make_interval(days => horizon_days);
    week timestamptz;
    name text;
    estimate bigint;
    dropped bigint := 0;
BEGIN
    PERFORM pg_advisory_xact_lock('registry.published_messages'::regclass::oid::bigint);
    FOR week IN SELECT generate_series(date_trunc('week', horizon), statement_timestamp() + interval '5 weeks', interval '1 week') LOOP
        name := 'published_messages_' || to_char(week, 'YYYYMMDD');
        IF to_regclass('registry.' || name) IS NULL THEN
            -- Attached and not created as a partition, which would lock out everybody who reads or writes.
            EXECUTE format('CREATE TABLE registry.%I (LIKE registry.published_messages)', name);
            EXECUTE format('ALTER TABLE registry.published_messages ATTACH PARTITION registry.%I FOR VALUES FROM (%L) TO (%L)',
                name, week, week + interval '1 week');
        END IF;
    END LOOP;
    FOR name, estimate IN
        SELECT child.relname, coalesce(stat.n_live_tup, 0)
        FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid LEFT JOIN pg_stat_user_tables stat ON stat.relid = child.oid
        WHERE inhparent = 'registry.published_messages'::regclass
            -- CASE: a plan may compare the names of all relations before it keeps the partitions.
            AND CASE WHEN child.relname ~ '^published_messages_[0-9]{8}$'
                THEN to_timestamp(right(child.relname, 8), 'YYYYMMDD') + interval '1 week' <= horizon END
    LOOP
        BEGIN
            EXECUTE format('DROP TABLE registry.%I', name);
            dropped := dropped + estimate;
        EXCEPTION WHEN lock_not_available THEN
            NULL; -- Somebody reads it for long, such as a dump. The next call drops it.
        END;
    END LOOP;
    UPDATE registry.published_form SET compact = true WHERE NOT compact AND compact_from <= statement_timestamp();
    IF EXISTS (SELECT FROM registry.published_form form WHERE form.compact) THEN
        UPDATE replyrate.migrations migration SET additive = false WHERE migration.name = 'published_compact' AND additive;
        IF has_table_privilege('replyrate_fetcher', 'registry.published', 'SELECT') THEN
            REVOKE ALL ON registry.published FROM replyrate_fetcher;
        END IF;
        IF pg_relation_size('registry.published') > 0 AND NOT EXISTS (SELECT FROM registry.published) THEN
            BEGIN
                TRUNCATE registry.published; -- everything was moved: its space, and that of its index, goes back to the disk
            EXCEPTION WHEN lock_not_available THEN
                NULL;
            END;
        END IF;
    END IF;
    RETURN dropped;
END $$;

-- migrate:down
CREATE OR REPLACE FUNCTION registry.keep_published(horizon_days integer) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    horizon timestamptz := statement_timestamp() - make_interval(days => horizon_days);
    week timestamptz;
    name text;
    estimate bigint;
    dropped bigint := 0;
BEGIN
    PERFORM pg_advisory_xact_lock('registry.published_messages'::regclass::oid::bigint);
    FOR week IN SELECT generate_series(date_trunc('week', horizon), statement_timestamp() + interval '5 weeks', interval '1 week') LOOP
        name := 'published_messages_' || to_char(week, 'YYYYMMDD');
        IF to_regclass('registry.' || name) IS NULL THEN
            -- Attached and not created as a partition, which would lock out everybody who reads or writes.
            EXECUTE format('CREATE TABLE registry.%I (LIKE registry.published_messages)', name);
            EXECUTE format('ALTER TABLE registry.published_messages ATTACH PARTITION registry.%I FOR VALUES FROM (%L) TO (%L)',
                name, week, week + interval '1 week');
        END IF;
    END LOOP;
    FOR name, estimate IN
        SELECT child.relname, coalesce(stat.n_live_tup, 0)
        FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid LEFT JOIN pg_stat_user_tables stat ON stat.relid = child.oid
        WHERE inhparent = 'registry.published_messages'::regclass
            AND to_timestamp(right(child.relname, 8), 'YYYYMMDD') + interval '1 week' <= horizon
    LOOP
        BEGIN
            EXECUTE format('DROP TABLE registry.%I', name);
            dropped := dropped + estimate;
        EXCEPTION WHEN lock_not_available THEN
            NULL; -- Somebody reads it for long, such as a dump. The next call drops it.
        END;
    END LOOP;
    UPDATE registry.published_form SET compact = true WHERE NOT compact AND compact_from <= statement_timestamp();
    IF EXISTS (SELECT FROM registry.published_form form WHERE form.compact) THEN
        UPDATE replyrate.migrations migration SET additive = false WHERE migration.name = 'published_compact' AND additive;
        IF has_table_privilege('replyrate_fetcher', 'registry.published', 'SELECT') THEN
            REVOKE ALL ON registry.published FROM replyrate_fetcher;
        END IF;
        IF pg_relation_size('registry.published') > 0 AND NOT EXISTS (SELECT FROM registry.published) THEN
            BEGIN
                TRUNCATE registry.published; -- everything was moved: its space, and that of its index, goes back to the disk
            EXCEPTION WHEN lock_not_available THEN
                NULL;
            END;
        END IF;
    END IF;
    RETURN dropped;
END $$;
