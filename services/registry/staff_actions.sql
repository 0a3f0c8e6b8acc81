-- name: note
-- Notes what the session of this transaction reads or changes; false without a session.
SELECT registry.note_staff_action(%(action)s, %(company_id)s, %(account_id)s, %(mailbox_id)s, %(inquiry_id)s, %(detail)s) AS noted

-- name: page
-- by hand: an operator reads the audit.
-- Actions before one, the newest first.
SELECT action_id, done_at, subject, display_name, role, action, company_id, account_id, mailbox_id, inquiry_id, detail
FROM registry.staff_actions
WHERE (%(before)s::bigint IS NULL OR action_id < %(before)s)
    AND (%(who)s::text IS NULL OR subject = %(who)s OR display_name = %(who)s)
    AND (%(action)s::text IS NULL OR action = %(action)s)
    AND (%(company_id)s::text IS NULL OR company_id = %(company_id)s)
    AND done_at >= coalesce(%(since)s::timestamptz, '-infinity') AND done_at < coalesce(%(until)s::timestamptz, 'infinity')
ORDER BY action_id DESC LIMIT %(limit)s
