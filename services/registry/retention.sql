-- name: published
-- Records of an earlier release older than the horizon, also those of mailboxes that are no longer polled. Compact ones are dropped by the
-- week.
DELETE FROM registry.published_records WHERE (company_id, mailbox_id, message_id) IN (
    SELECT company_id, mailbox_id, message_id FROM registry.published_records
    WHERE sent_at < statement_timestamp() - make_interval(days => %(horizon_days)s)
    LIMIT %(most)s
)

-- name: message_counts
-- Counts of days before the horizon: no rate and no diagnosis uses them.
DELETE FROM registry.message_counts WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM registry.message_counts WHERE day < (statement_timestamp() - make_interval(days => %(horizon_days)s))::date
    LIMIT %(most)s
))

-- name: connection_tests
-- Connection tests older than thirty days.
DELETE FROM registry.connection_tests WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM registry.connection_tests WHERE tested_at < statement_timestamp() - interval '30 days'
    LIMIT %(most)s
))

-- name: login_slots
-- Login and session slots above the last one that was taken within a day; they are created again when they are needed. Those below
-- stay, so that slots are numbered without holes.
DELETE FROM registry.login_slots WHERE ctid = ANY (ARRAY(
    SELECT slot.ctid FROM registry.login_slots slot
    WHERE slot.number > coalesce((
        SELECT max(number) FROM registry.login_slots used
        WHERE used.provider = slot.provider AND used.kind = slot.kind AND used.free_at >= statement_timestamp() - interval '1 day'
    ), 0)
    LIMIT %(most)s FOR UPDATE SKIP LOCKED
))

-- name: connect_requests
-- Results of connect requests older than a day, and lists of a mailbox's folders older than an hour; what was typed was deleted when
-- they ended.
DELETE FROM registry.connect_requests WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM registry.connect_requests WHERE created_at < statement_timestamp() - interval '1 hour'
        AND (purpose = 'folders' OR created_at < statement_timestamp() - interval '1 day')
    LIMIT %(most)s
))

-- name: sign_ins
-- Sign-ins by redirect that were started more than a day ago; their states expired after ten minutes.
DELETE FROM registry.sign_ins WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM registry.sign_ins WHERE created_at < statement_timestamp() - interval '1 day'
    LIMIT %(most)s
))

-- name: portal_sessions
-- Sessions of sellers that ended thirty days ago.
DELETE FROM registry.portal_sessions WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM registry.portal_sessions WHERE expires_at < statement_timestamp() - interval '30 days'
    LIMIT %(most)s
))

-- name: api_answers
-- Answers of the HTTP API to requests with an Idempotency-Key older than a day.
DELETE FROM registry.api_answers WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM registry.api_answers WHERE created_at < statement_timestamp() - interval '1 day'
    LIMIT %(most)s
))

-- name: staff_sessions
-- Sessions of staff and links of the command line that ended thirty days ago.
DELETE FROM registry.staff_sessions WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM registry.staff_sessions WHERE expires_at < statement_timestamp() - interval '30 days'
    LIMIT %(most)s
))

-- name: staff_actions
-- What staff did, REPLYRATE_CONSOLE__AUDIT_DAYS ago.
DELETE FROM registry.staff_actions WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM registry.staff_actions WHERE expires_at < statement_timestamp() LIMIT %(most)s
))
