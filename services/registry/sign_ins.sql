-- name: begin_sign_in
-- Stores the state of a sign-in that the session of this transaction starts; false without a session.
SELECT registry.begin_sign_in(%(state_hash)s, %(client)s) AS started

-- name: use_sign_in
-- Uses the state of a sign-in up, or says why it cannot be used.
SELECT outcome, client, request_id FROM registry.use_sign_in(%(state_hash)s)

-- name: note_sign_in_request
-- Notes the connect request that a sign-in became.
SELECT registry.note_sign_in_request(%(state_hash)s, %(request_id)s)
