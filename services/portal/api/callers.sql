-- name: own_key
-- The key of this transaction; nulls when its token is no valid key.
SELECT key_id, name, scopes, company_prefix FROM registry.own_key()
