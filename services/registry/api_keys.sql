-- by hand: keys are created and replaced by an operator.

-- name: insert_key
-- A new key; its secret is stored as a hash.
INSERT INTO registry.api_keys (key_id, secret_hash, name, scopes, company_prefix, created_by, expires_at)
VALUES (%(key_id)s, %(secret_hash)s, %(key_name)s, %(scopes)s, %(company_prefix)s, %(by)s, %(expires_at)s)

-- name: api_keys
-- Every key without its hash, newest first.
SELECT key_id, name, scopes, company_prefix, created_by, created_at, expires_at, revoked_at, revoked_by, last_used_on,
    CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= statement_timestamp() THEN 'expired' ELSE 'valid' END AS state
FROM registry.api_keys ORDER BY created_at DESC, key_id

-- name: expire_key
-- Lets a valid key expire after an overlap, or earlier where it would have expired earlier. Returns it with the expiry that it had.
UPDATE registry.api_keys k
SET expires_at = least(k.expires_at, clock_timestamp() + make_interval(hours => %(hours)s)), revoked_by = %(by)s
FROM registry.api_keys before
WHERE k.key_id = %(key_id)s AND before.key_id = k.key_id
    AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
RETURNING k.name, k.scopes, k.company_prefix, before.expires_at AS expired_at

-- name: revoke_key
-- Makes a valid key invalid.
UPDATE registry.api_keys SET revoked_at = clock_timestamp(), revoked_by = %(by)s
WHERE key_id = %(key_id)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
RETURNING key_id
