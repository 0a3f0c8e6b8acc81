-- migrate:up
-- additive: yes

-- A web process deletes what was typed into requests whose life is over, so that it ends while no fetcher runs, too.
CREATE FUNCTION registry.expire_connect_requests() RETURNS bigint LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    WITH expired AS (
        UPDATE registry.connect_requests r
        SET state = 'expired', code = 'request-expired', finished_at = clock_timestamp(), sealed = NULL
        WHERE r.sealed IS NOT NULL AND r.expires_at <= statement_timestamp()
        RETURNING r.request_id
    )
    SELECT count(*) FROM expired
$$;
COMMENT ON FUNCTION registry.expire_connect_requests() IS
    'Deletes what was typed into requests whose life is over, of any company; returns how many. It reads nothing of them.';
REVOKE EXECUTE ON FUNCTION registry.expire_connect_requests() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.expire_connect_requests() TO replyrate_portal;

-- migrate:down
DROP FUNCTION registry.expire_connect_requests();
