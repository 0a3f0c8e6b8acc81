-- migrate:up
-- additive: yes

-- How many rows each table has about a mailbox of the session that the token of this transaction belongs to: the tables with the
-- id of a mailbox, and those of services/registry/holdings.py that belong to its account, login or company.
CREATE FUNCTION registry.own_holdings(wanted_id text) RETURNS TABLE (table_name text, rows bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner record;
    place record;
BEGIN
    SELECT m.company_id, m.account_id, m.role, m.login_hash INTO owner FROM registry.mailboxes m
    WHERE m.mailbox_id = wanted_id
        AND (m.company_id, m.account_id) = (SELECT session.company_id, session.account_id FROM registry.session_account() session);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR place IN
        SELECT n.nspname, c.relname FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE a.attname = 'mailbox_id' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND n.nspname IN ('registry', 'ledger', 'shadow')
    LOOP
        table_name := place.nspname || '.' || place.relname;
        EXECUTE format('SELECT count(*) FROM %I.%I WHERE company_id = $1 AND mailbox_id = $2', place.nspname, place.relname)
            INTO rows USING owner.company_id, wanted_id;
        RETURN NEXT;
    END LOOP;
    RETURN QUERY
        SELECT 'registry.addresses', count(*) FROM registry.addresses a
        WHERE (a.company_id, a.account_id, a.role) = (owner.company_id, owner.account_id, owner.role)
        UNION ALL
        SELECT 'registry.mailbox_links', count(*) FROM registry.mailbox_links l
        WHERE l.login_hash = owner.login_hash AND owner.company_id IN (l.company_id, l.other_company_id)
        UNION ALL
        SELECT 'registry.published_messages', count(*) FROM registry.published_messages p
        WHERE p.message_key BETWEEN registry.message_key(owner.company_id, wanted_id, repeat('0', 32))
            AND registry.message_key(owner.company_id, wanted_id, repeat('f', 32))
        UNION ALL
        SELECT 'registry.connection_tests', count(*) FROM registry.connection_tests t WHERE t.company_id = owner.company_id;
END $$;
COMMENT ON FUNCTION registry.own_holdings(text) IS 'Rows that each table has about a mailbox of this session; none for any other mailbox.';
REVOKE EXECUTE ON FUNCTION registry.own_holdings(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.own_holdings(text) TO replyrate_portal;

-- migrate:down
DROP FUNCTION registry.own_holdings(text);
