-- migrate:up
-- additive: yes

-- What a token may ask the fetchers for (docs/decisions/0090). Until now a request had to be about an account of its token, and its purpose
-- could be any. A session asks for what the pages of a seller offer; an API key for what its scopes allow.

-- Evaluated once per statement, as (SELECT …).
CREATE FUNCTION registry.key_scopes() RETURNS text[] LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.scopes FROM registry.api_keys k WHERE k.secret_hash = registry.token_hash()
        AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
$$;
COMMENT ON FUNCTION registry.key_scopes() IS 'Scopes of the API key that the token of this transaction is; null when it is none.';
REVOKE EXECUTE ON FUNCTION registry.key_scopes() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION registry.key_scopes() TO replyrate_portal;

ALTER POLICY token ON registry.connect_requests WITH CHECK (
    (company_id, account_id) = (SELECT acting.company_id, acting.account_id FROM registry.acting_account() acting)
        AND purpose IN ('look-up', 'connect', 'reconnect', 'withdraw')
    OR starts_with(company_id, (SELECT registry.key_prefix())) AND CASE
        WHEN purpose IN ('test', 'connect') THEN 'connect:write' = ANY ((SELECT registry.key_scopes())::text[])
        WHEN purpose IN ('withdraw', 'platform-sync-on', 'platform-sync-off', 'address-change', 'address-removal')
            THEN 'registry:write' = ANY ((SELECT registry.key_scopes())::text[])
        ELSE false
    END
);

-- migrate:down
ALTER POLICY token ON registry.connect_requests WITH CHECK (
    (company_id, account_id) = (SELECT acting.company_id, acting.account_id FROM registry.acting_account() acting)
    OR starts_with(company_id, (SELECT registry.key_prefix()))
);
DROP FUNCTION registry.key_scopes();
