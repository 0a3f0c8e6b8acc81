-- migrate:up
-- additive: yes

-- What a fetcher remembers of a published message, in less than 200 bytes instead of the whole event (docs/decisions/0064). A week of
-- sent_at is a table of its own, which is dropped as a whole.

CREATE FUNCTION registry.message_key(company_id text, mailbox_id text, message_id text) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (left(encode(sha256(convert_to(company_id || chr(31) || mailbox_id, 'UTF8')), 'hex'), 16) || left(message_id, 16))::uuid
$$;
COMMENT ON FUNCTION registry.message_key(text, text, text) IS
    'A message in a mailbox: 8 bytes of a hash of the mailbox''s ids, so that its messages lie together, and the first 8 of the message''s.';
CREATE FUNCTION registry.message_tail(message_id text) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ('x' || right(message_id, 16))::bit(64)::bigint
$$;
COMMENT ON FUNCTION registry.message_tail(text) IS 'The last 8 bytes of the hash that identifies a message.';
REVOKE EXECUTE ON FUNCTION registry.message_key(text, text, text), registry.message_tail(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.message_key(text, text, text), registry.message_tail(text) TO replyrate_fetcher;

CREATE TABLE registry.published_messages (
    sent_at timestamptz NOT NULL,
    first_seen timestamptz NOT NULL,
    message_key uuid NOT NULL,
    message_tail bigint NOT NULL,
    record bytea NOT NULL
) PARTITION BY RANGE (sent_at);
CREATE INDEX published_messages_key ON registry.published_messages (message_key);
COMMENT ON TABLE registry.published_messages IS
    'What was published within the horizon and with which times, so that a message read again is published unchanged. By week.';
COMMENT ON COLUMN registry.published_messages.message_key IS 'registry.message_key of mailbox and message.';
COMMENT ON COLUMN registry.published_messages.message_tail IS 'registry.message_tail of the message, which is not indexed.';
COMMENT ON COLUMN registry.published_messages.record IS
    'What else the event consists of (hashes and times only), as services/common/stored_message.py packs it; or the event as published.';
GRANT SELECT, INSERT, DELETE ON registry.published_messages TO replyrate_fetcher;

CREATE FUNCTION registry.forget_published() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM registry.published_messages message USING changed mailbox
    WHERE message.message_key BETWEEN registry.message_key(mailbox.company_id, mailbox.mailbox_id, repeat('0', 32))
        AND registry.message_key(mailbox.company_id, mailbox.mailbox_id, repeat('f', 32));
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION registry.forget_published() FROM PUBLIC;
CREATE TRIGGER published_forgotten AFTER DELETE ON registry.mailboxes REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION registry.forget_published();

-- Fetchers of an earlier release do not know these rows and would publish what they stand for as new. So fetchers go on with
-- registry.published for a day. Then those of an earlier release may not read it any more, and that release is refused.
CREATE VIEW registry.published_records AS
SELECT company_id, mailbox_id, message_id, sent_at, record, published_at FROM registry.published;
COMMENT ON VIEW registry.published_records IS 'Messages as releases before migration 0031 stored them; moved to registry.published_messages.';
GRANT SELECT, INSERT, DELETE ON registry.published_records TO replyrate_fetcher;

-- For explanations, also those that the web process makes with the rights of a token: rows name no company, so it reads by this alone.
CREATE FUNCTION registry.stored_message(of_company text, of_mailbox text, of_message text)
    RETURNS TABLE (sent_at timestamptz, first_seen timestamptz, record bytea) LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp ROWS 1 AS $$
BEGIN
    IF pg_has_role(session_user, 'replyrate_portal', 'MEMBER') AND NOT pg_has_role(session_user, 'replyrate_aggregator', 'MEMBER')
        AND starts_with(of_company, registry.key_prefix()) IS NOT TRUE THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT published.sent_at, published.published_at, published.record FROM registry.published
    WHERE published.company_id = of_company AND published.mailbox_id = of_mailbox AND published.message_id = of_message;
    IF of_message ~ '^[0-9a-f]{32}$' THEN
        RETURN QUERY SELECT message.sent_at, message.first_seen, message.record FROM registry.published_messages message
        WHERE message.message_key = registry.message_key(of_company, of_mailbox, of_message)
            AND message.message_tail = registry.message_tail(of_message);
    END IF;
END $$;
COMMENT ON FUNCTION registry.stored_message(text, text, text) IS
    'What is stored of a published message, in either form; for the web process only of the companies of its key.';
REVOKE EXECUTE ON FUNCTION registry.stored_message(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.stored_message(text, text, text) TO replyrate_aggregator, replyrate_portal;

CREATE TABLE registry.published_form (
    compact boolean NOT NULL,
    compact_from timestamptz NOT NULL
);
COMMENT ON TABLE registry.published_form IS 'Whether fetchers write registry.published_messages, and from when on they may: a day after an upgrade.';
GRANT SELECT ON registry.published_form TO replyrate_fetcher;
INSERT INTO registry.published_form (compact, compact_from)
SELECT NOT used, statement_timestamp() + CASE WHEN used THEN interval '1 day' ELSE interval '0' END
FROM (SELECT EXISTS (SELECT FROM registry.companies) AS used) installation;

CREATE FUNCTION registry.keep_published(horizon_days integer) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
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
COMMENT ON FUNCTION registry.keep_published(integer) IS
    'Creates the tables of registry.published_messages for the weeks of the horizon and those to come, drops those before it (returns their rows, estimated), begins the compact form when its time has come, and frees registry.published when it is empty.';
REVOKE EXECUTE ON FUNCTION registry.keep_published(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.keep_published(integer) TO replyrate_fetcher;
SELECT registry.keep_published(60);

-- migrate:down
DROP FUNCTION registry.keep_published(integer);
DROP TABLE registry.published_form;
DROP FUNCTION registry.stored_message(text, text, text);
DROP VIEW registry.published_records;
DROP TRIGGER published_forgotten ON registry.mailboxes;
DROP FUNCTION registry.forget_published();
DROP TABLE registry.published_messages;
DROP FUNCTION registry.message_tail(text);
DROP FUNCTION registry.message_key(text, text, text);
