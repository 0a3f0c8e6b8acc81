-- name: note
-- Notes the fingerprint of the key; another process may have been faster.
INSERT INTO registry.hash_key (fingerprint) VALUES (%(fingerprint)s) ON CONFLICT DO NOTHING

-- name: noted
-- The fingerprint, if one was noted.
SELECT fingerprint FROM registry.hash_key
