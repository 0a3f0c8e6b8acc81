-- name: stored_token
-- The sealed refresh token of a mailbox. Its rows are locked, so that neither a rotation of the vault key nor a reconnection
-- comes between reading and replacing it.
SELECT m.host, m.port, m.user_sealed, m.lease_epoch, m.lease_until > clock_timestamp() AS leased, s.sealed, s.kind
FROM registry.mailboxes m JOIN registry.secrets s USING (company_id, mailbox_id)
WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s FOR UPDATE OF m, s

-- name: rotate_token
-- Replace a refresh token by its successor.
UPDATE registry.secrets SET sealed = %(sealed)s, key_id = %(key_id)s, changed_at = clock_timestamp()
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND kind = 'oauth2' AND sealed = %(before)s

-- name: opens_any
-- A row if any stored secret is sealed with one of these keys: bytes 2 to 9 of a sealed value are the id of its key.
-- The nearest id from each key on is looked up, since a scan would read everything exactly when there is none.
SELECT 1 FROM unnest(%(key_ids)s::bytea[]) key (id) CROSS JOIN LATERAL (
    SELECT substring(sealed FROM 2 FOR 8) AS id FROM registry.secrets
    WHERE substring(sealed FROM 2 FOR 8) >= key.id ORDER BY substring(sealed FROM 2 FOR 8) LIMIT 1
) nearest WHERE nearest.id = key.id LIMIT 1
