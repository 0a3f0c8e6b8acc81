-- name: own_session
-- The session of the panel that the token of this transaction belongs to; nulls when there is none.
SELECT session_id, company_id, account_id, account_kind, purpose, language, return_url, expires_at FROM registry.panel_session()

-- name: insert_frame
-- A session that is open from the beginning.
INSERT INTO registry.portal_sessions (session_id, token_hash, company_id, account_id, role, language, created_by, purpose, opened_at,
    expires_at)
VALUES (%(session_id)s, %(token_hash)s, %(company_id)s, %(account_id)s, 'registered', %(language)s, %(created_by)s, 'frame',
    clock_timestamp(), clock_timestamp() + make_interval(mins => %(minutes)s))
RETURNING expires_at

-- name: begin_probe
-- Notes in the session of the panel that it looks for a test mail from now on; null when this token is none of a panel in a browser.
SELECT registry.begin_probe(%(gone_before)s::jsonb) AS began_at

-- name: own_probe
-- The test mail that the session of the panel looks for; nulls when it looks for none.
SELECT began_at, gone FROM registry.own_probe()
