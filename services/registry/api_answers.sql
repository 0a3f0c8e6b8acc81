-- name: forget_answer
-- An answer that is older than a day is no answer any more.
DELETE FROM registry.api_answers
WHERE key_id = %(key_id)s AND name_hash = %(name_hash)s AND created_at < clock_timestamp() - interval '1 day'

-- name: claim_name
-- Takes a name for the request of this transaction; no row when it is taken. Waits for a transaction that has taken it just now.
INSERT INTO registry.api_answers (key_id, name_hash, request_hash) VALUES (%(key_id)s, %(name_hash)s, %(request_hash)s)
ON CONFLICT DO NOTHING RETURNING key_id

-- name: answer
-- The request and the answer of a name.
SELECT request_hash, answer_sealed FROM registry.api_answers WHERE key_id = %(key_id)s AND name_hash = %(name_hash)s

-- name: store_answer
-- The answer to the request that has a name.
UPDATE registry.api_answers SET answer_sealed = %(sealed)s WHERE key_id = %(key_id)s AND name_hash = %(name_hash)s
