-- name: insert_link
-- A link of the command line that waits to be opened.
INSERT INTO registry.staff_sessions (session_id, token_hash, method, subject, display_name, role, expires_at)
VALUES (%(session_id)s, %(token_hash)s, 'link', %(session_id)s, %(display_name)s, %(role)s,
    clock_timestamp() + make_interval(mins => %(minutes)s))
RETURNING expires_at

-- name: open_link
-- Turns a link into a session; null when it is unknown, used or expired.
SELECT registry.open_staff_link(%(link_hash)s, %(session_hash)s, %(minutes)s, %(idle_minutes)s, %(audit_days)s) AS session_id

-- name: begin
-- Begins the session of somebody whom the OpenID provider named.
SELECT registry.begin_staff_session(%(session_id)s, %(token_hash)s, %(subject)s, %(display_name)s, %(role)s, %(minutes)s,
    %(idle_minutes)s, %(audit_days)s)

-- name: own_session
-- The session that the token of this transaction belongs to; nulls when there is none.
SELECT session_id, method, subject, display_name, role, expires_at FROM registry.staff_session()

-- name: use
-- Notes that the session of this transaction is used.
SELECT registry.use_staff_session()

-- name: end
-- Ends the session of this transaction.
SELECT registry.end_staff_session()
