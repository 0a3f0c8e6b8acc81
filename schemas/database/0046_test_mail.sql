-- migrate:up
-- additive: yes

-- The test mail of the panel. A session notes when it began to look for one; a fetcher reads the mailboxes as always, and the session
-- reads what was published of its account's mailboxes since then. A session of a frame begins none and reads nothing of it.

ALTER TABLE registry.portal_sessions
    ADD COLUMN probe_began_at timestamptz,
    ADD COLUMN probe_gone jsonb;
COMMENT ON COLUMN registry.portal_sessions.probe_began_at IS 'When this session began to look for a test mail; null while it has not.';
COMMENT ON COLUMN registry.portal_sessions.probe_gone IS
    'Id of each mailbox that may have the mail → messages that had been deleted before they could be read by then.';

-- The instant is the database's: a session cannot read what was published before it began.
CREATE FUNCTION registry.begin_probe(gone_before jsonb) RETURNS timestamptz LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    UPDATE registry.portal_sessions s SET probe_began_at = clock_timestamp(), probe_gone = gone_before
    WHERE s.token_hash = registry.token_hash() AND s.purpose = 'panel' AND s.opened_at IS NOT NULL AND s.ended_at IS NULL
        AND s.expires_at > clock_timestamp()
    RETURNING s.probe_began_at
$$;
COMMENT ON FUNCTION registry.begin_probe(jsonb) IS 'Notes in the session of a panel that it looks for a test mail from now on; null when there is no such session.';

CREATE FUNCTION registry.own_probe(OUT began_at timestamptz, OUT gone jsonb) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.probe_began_at, s.probe_gone FROM registry.portal_sessions s
    WHERE s.token_hash = registry.token_hash() AND s.purpose = 'panel' AND s.opened_at IS NOT NULL AND s.ended_at IS NULL
        AND s.expires_at > clock_timestamp()
$$;
COMMENT ON FUNCTION registry.own_probe() IS 'The test mail that the session of a panel looks for; nulls when it looks for none.';

CREATE FUNCTION registry.is_acting_mailbox(of_company text, of_mailbox text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM registry.mailboxes m, registry.acting_account() acting
        WHERE m.company_id = of_company AND m.mailbox_id = of_mailbox
            AND m.company_id = acting.company_id AND m.account_id = acting.account_id)
$$;
COMMENT ON FUNCTION registry.is_acting_mailbox(text, text) IS 'Whether a mailbox is of the account whose session may change something.';

CREATE FUNCTION registry.sent_mail_facts(of_company text, of_mailbox text) RETURNS TABLE (own_hashes text[], gone bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 1 AS $$
BEGIN
    IF registry.is_limited_to_token() AND registry.is_acting_mailbox(of_company, of_mailbox) IS NOT TRUE THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT
        ARRAY(
            SELECT m.address_hash UNION SELECT a.address_hash FROM registry.addresses a
            WHERE a.company_id = m.company_id AND a.account_id = m.account_id
        ),
        coalesce((SELECT sum(f.uids_passed - f.uids_found) FROM registry.folders f
            WHERE f.company_id = m.company_id AND f.mailbox_id = m.mailbox_id), 0)::bigint
    FROM registry.mailboxes m WHERE m.company_id = of_company AND m.mailbox_id = of_mailbox;
END $$;
COMMENT ON FUNCTION registry.sent_mail_facts(text, text) IS
    'Hashes of the sender''s own addresses, and how many messages of a mailbox were deleted before they could be read.';

CREATE FUNCTION registry.messages_since(of_company text, of_mailbox text, seen_after timestamptz, sent_after timestamptz)
    RETURNS TABLE (message_id text, sent_at timestamptz, first_seen timestamptz, record bytea)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF registry.is_limited_to_token() AND (registry.is_acting_mailbox(of_company, of_mailbox)
        AND seen_after >= (SELECT probe.began_at FROM registry.own_probe() probe)) IS NOT TRUE THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT right(replace(message.message_key::text, '-', ''), 16) || lpad(to_hex(message.message_tail), 16, '0'),
            message.sent_at, message.first_seen, message.record
        FROM registry.published_messages message
        WHERE message.message_key BETWEEN registry.message_key(of_company, of_mailbox, repeat('0', 32))
                AND registry.message_key(of_company, of_mailbox, repeat('f', 32))
            AND message.first_seen > seen_after AND message.sent_at > sent_after;
    RETURN QUERY
        SELECT published.message_id, published.sent_at, published.published_at, published.record FROM registry.published_records published
        WHERE published.company_id = of_company AND published.mailbox_id = of_mailbox
            AND published.published_at > seen_after AND published.sent_at > sent_after;
END $$;
COMMENT ON FUNCTION registry.messages_since(text, text, timestamptz, timestamptz) IS
    'Messages of a mailbox that were first seen and sent after two instants; for the web process since its session began to look for a test mail.';

REVOKE EXECUTE ON FUNCTION registry.begin_probe(jsonb), registry.own_probe(), registry.is_acting_mailbox(text, text),
    registry.sent_mail_facts(text, text), registry.messages_since(text, text, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.begin_probe(jsonb), registry.own_probe(), registry.sent_mail_facts(text, text),
    registry.messages_since(text, text, timestamptz, timestamptz) TO replyrate_portal;
-- A mailbox that is being read is not asked to be read sooner.
GRANT SELECT (lease_until) ON registry.mailboxes TO replyrate_portal;

-- migrate:down
DROP FUNCTION registry.begin_probe(jsonb), registry.own_probe(), registry.sent_mail_facts(text, text),
    registry.messages_since(text, text, timestamptz, timestamptz), registry.is_acting_mailbox(text, text);
REVOKE SELECT (lease_until) ON registry.mailboxes FROM replyrate_portal;
ALTER TABLE registry.portal_sessions DROP COLUMN probe_began_at, DROP COLUMN probe_gone;
