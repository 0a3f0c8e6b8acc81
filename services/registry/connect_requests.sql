-- name: publish_key
-- The public key that this fetcher opens with; the newest one is used for sealing.
INSERT INTO registry.sealing_keys (key_id, public_key) VALUES (%(key_id)s, %(public_key)s)
ON CONFLICT (key_id) DO UPDATE SET published_at = clock_timestamp()

-- name: sealing_key
-- The public key to seal with.
SELECT public_key FROM registry.sealing_keys ORDER BY published_at DESC LIMIT 1

-- name: insert_request
-- A request that waits for a fetcher.
INSERT INTO registry.connect_requests (request_id, company_id, account_id, mailbox_id, purpose, key_id, sealed)
VALUES (%(request_id)s, %(company_id)s, %(account_id)s, %(mailbox_id)s, %(purpose)s, %(key_id)s, %(sealed)s)

-- name: request
-- A request as its seller may see it. One that is not finished after ten minutes has expired, whether or not a process noticed it.
SELECT request_id, company_id, account_id, mailbox_id, purpose, stage, report, created_at, expires_at, finished_at,
    CASE WHEN state IN ('waiting', 'running') AND expires_at <= clock_timestamp() THEN 'expired' ELSE state END AS state,
    CASE WHEN state IN ('waiting', 'running') AND expires_at <= clock_timestamp() THEN 'request-expired' ELSE code END AS code
FROM registry.connect_requests WHERE request_id = %(request_id)s

-- name: open_requests
-- Requests of an account that wait or run, the newest first.
SELECT request_id, mailbox_id, purpose FROM registry.connect_requests
WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND state IN ('waiting', 'running')
    AND expires_at > clock_timestamp()
ORDER BY created_at DESC

-- name: take_request
-- Hands the request that waits for longest to a fetcher, until it has not renewed its lease for `lease_seconds`.
UPDATE registry.connect_requests
SET state = 'running', runner = %(runner)s, tries = tries + 1,
    claimable_at = clock_timestamp() + make_interval(secs => %(lease_seconds)s)
WHERE request_id = (
    SELECT request_id FROM registry.connect_requests
    WHERE sealed IS NOT NULL AND claimable_at <= statement_timestamp() AND expires_at > statement_timestamp()
        AND key_id = ANY (%(key_ids)s)
    ORDER BY claimable_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING request_id, company_id, account_id, mailbox_id, purpose, sealed, tries, created_at

-- name: report_stage
-- The stage that a request has reached; its fetcher is alive. No row when another fetcher has taken it, or it has expired.
UPDATE registry.connect_requests
SET stage = %(stage)s, claimable_at = clock_timestamp() + make_interval(secs => %(lease_seconds)s)
WHERE request_id = %(request_id)s AND runner = %(runner)s AND state = 'running' AND expires_at > clock_timestamp()
RETURNING request_id

-- name: renew_requests
-- The fetchers of these requests are alive. Those that another fetcher has taken stay as they are.
UPDATE registry.connect_requests request
SET claimable_at = clock_timestamp() + make_interval(secs => %(lease_seconds)s)
FROM unnest(%(request_ids)s::text[], %(runners)s::text[]) alive (request_id, runner)
WHERE request.request_id = alive.request_id AND request.runner = alive.runner AND request.state = 'running'

-- name: finish_request
-- The result of a request; what was typed is deleted. No row when another fetcher has taken it, or it has expired.
UPDATE registry.connect_requests
SET state = %(state)s, code = %(code)s, report = %(report)s, mailbox_id = %(mailbox_id)s, finished_at = clock_timestamp(),
    sealed = NULL
WHERE request_id = %(request_id)s AND runner = %(runner)s AND state = 'running'
RETURNING request_id

-- name: expire_requests
-- Deletes what was typed into expired requests, whichever fetcher had them.
UPDATE registry.connect_requests
SET state = 'expired', code = 'request-expired', finished_at = clock_timestamp(), sealed = NULL
WHERE sealed IS NOT NULL AND expires_at <= statement_timestamp()
RETURNING request_id

-- name: expire_without_reading
-- The same for a web process; how many there were.
SELECT registry.expire_connect_requests() AS requests
