-- migrate:up
-- additive: yes

-- What the fetcher's role may not take away row by row (coverage is append-only to it) goes with the whole company.
CREATE FUNCTION registry.erase_company(erased text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- First, so that a poll that is writing ends, and the next write of it hits no row.
    DELETE FROM registry.companies WHERE company_id = erased;
    DELETE FROM registry.coverage WHERE company_id = erased;
    DELETE FROM access.dashboards WHERE company_id = erased;
END $$;
COMMENT ON FUNCTION registry.erase_company(text) IS 'Deletes everything that the registry holds of a company, and its dashboard logins'' right to see it.';
REVOKE EXECUTE ON FUNCTION registry.erase_company(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.erase_company(text) TO replyrate_fetcher;

-- migrate:down
DROP FUNCTION registry.erase_company(text);
