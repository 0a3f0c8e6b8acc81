-- name: note
-- Notes what the session of this transaction reads or changes; false without a session.
SELECT registry.note_staff_action(%(action)s, %(company_id)s, %(account_id)s, %(mailbox_id)s, %(inquiry_id)s, %(detail)s) AS noted

-- name: note_each
-- As `note`, once for each company; false without a session.
SELECT coalesce(bool_and(registry.note_staff_action(%(action)s, company_id, NULL, NULL, NULL, %(detail)s)), true) AS noted
FROM unnest(%(company_ids)s::text[]) AS company_id

-- name: note_outcome
-- Notes how something ended that the session of this transaction began, also after its end; false without any session.
SELECT registry.note_staff_outcome(%(action)s, %(detail)s) AS noted

-- name: registered
-- Those of some ids that are registered companies.
SELECT company_id FROM registry.companies WHERE company_id = ANY (%(company_ids)s::text[]) ORDER BY company_id

-- name: plan_with_values
-- The statements of this transaction are planned for their values: which index is best depends on the filters that are set.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true)

-- name: page
-- by hand: an operator reads the audit.
-- Actions before one, the newest first.
SELECT action_id, done_at, subject, display_name, role, action, company_id, account_id, mailbox_id, inquiry_id, detail
FROM registry.staff_actions
WHERE (%(before)s::bigint IS NULL OR action_id < %(before)s)
    AND (%(action)s::text IS NULL OR action = %(action)s)
    AND (%(company_id)s::text IS NULL OR company_id = %(company_id)s)
    AND done_at >= coalesce(%(since)s::timestamptz, '-infinity') AND done_at < coalesce(%(until)s::timestamptz, 'infinity')
ORDER BY action_id DESC LIMIT %(limit)s

-- name: page_of_person
-- by hand: an operator reads the audit.
-- As `page`, of one person by subject or name: the newest by each index.
(SELECT action_id, done_at, subject, display_name, role, action, company_id, account_id, mailbox_id, inquiry_id, detail
FROM registry.staff_actions
WHERE subject = %(who)s AND (%(before)s::bigint IS NULL OR action_id < %(before)s)
    AND (%(action)s::text IS NULL OR action = %(action)s)
    AND (%(company_id)s::text IS NULL OR company_id = %(company_id)s)
    AND done_at >= coalesce(%(since)s::timestamptz, '-infinity') AND done_at < coalesce(%(until)s::timestamptz, 'infinity')
ORDER BY action_id DESC LIMIT %(limit)s)
UNION ALL
(SELECT action_id, done_at, subject, display_name, role, action, company_id, account_id, mailbox_id, inquiry_id, detail
FROM registry.staff_actions
WHERE display_name = %(who)s AND subject <> %(who)s AND (%(before)s::bigint IS NULL OR action_id < %(before)s)
    AND (%(action)s::text IS NULL OR action = %(action)s)
    AND (%(company_id)s::text IS NULL OR company_id = %(company_id)s)
    AND done_at >= coalesce(%(since)s::timestamptz, '-infinity') AND done_at < coalesce(%(until)s::timestamptz, 'infinity')
ORDER BY action_id DESC LIMIT %(limit)s)
ORDER BY action_id DESC LIMIT %(limit)s
