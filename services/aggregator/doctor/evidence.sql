-- name: planner
-- What follows looks things up for few accounts; judge.sql may have switched that off in this transaction.
SELECT set_config('enable_nestloop', 'on', true), set_config('enable_mergejoin', 'on', true)

-- name: scope
-- Rows of reply_rate_latest whose rate is 0 or null, and the units in them that were not answered in time. Not a
-- statement: those below go on from here.
WITH zero AS MATERIALIZED (
    SELECT * FROM (
        SELECT DISTINCT ON (r.company_id, r.account_id) r.company_id, r.account_id, r.as_of, r.window_start, r.window_end,
            r.inquiries, r.excluded, r.timely, r.late, r.unanswered, r.unmeasured, r.pending, r.rate
        FROM ledger.rates r
        WHERE r.rule_set = %(rule_set)s AND r.company_id = ANY (%(companies)s) AND r.valid_to IS NULL
        ORDER BY r.company_id, r.account_id, r.as_of DESC
    ) newest WHERE coalesce(rate, 0) = 0
),
outcome AS MATERIALIZED (
    SELECT z.company_id, z.account_id, z.window_start, z.window_end, o.inquiry_id, o.unit_inquiry_id, o.unit_day,
        o.received_at, o.due_at, o.outcome, o.reason, o.evidence, o.first_reply_at, o.reply_source,
        coalesce(o.covered, false) AS covered, o.unit_day BETWEEN z.window_start AND z.window_end AS inside
    FROM zero z JOIN ledger.outcomes o ON o.company_id = z.company_id AND o.account_id = z.account_id
    WHERE o.rule_set = %(rule_set)s AND o.company_id = ANY (%(companies)s)
),
unit AS MATERIALIZED (
    SELECT * FROM outcome WHERE inside AND inquiry_id = unit_inquiry_id AND outcome IN ('late', 'unanswered', 'unmeasured')
)

-- name: accounts
-- Goes on from `scope`: one row per account (and one per company, with an empty account and the counts of its row alone).
, answered AS (
    SELECT u.company_id, u.account_id, u.inquiry_id, bool_or(r.kind = 'automatic') AND bool_and(r.kind NOT IN ('human', 'forward'))
        AS automatic
    FROM unit u
    JOIN outcome m ON m.company_id = u.company_id AND m.account_id = u.account_id AND m.unit_inquiry_id = u.inquiry_id
    JOIN ledger.replies r ON r.company_id = m.company_id AND r.inquiry_id = m.inquiry_id AND r.replied_at < %(now)s
    WHERE r.company_id = ANY (%(companies)s)
    GROUP BY u.company_id, u.account_id, u.inquiry_id
),
units AS (
    SELECT u.company_id, u.account_id,
        count(*) FILTER (WHERE u.outcome <> 'late' AND u.covered AND a.automatic IS NOT TRUE) AS silent_units,
        count(*) FILTER (WHERE u.outcome <> 'late' AND a.automatic) AS automatic_units,
        count(*) FILTER (WHERE u.outcome = 'late' AND u.evidence = 'suspect') AS suspect_units
    FROM unit u LEFT JOIN answered a USING (company_id, account_id, inquiry_id)
    GROUP BY u.company_id, u.account_id
),
received AS (
    SELECT company_id, account_id,
        count(*) FILTER (WHERE unit_day > window_end AND outcome NOT IN ('excluded', 'merged')) AS later_inquiries,
        min(unit_day) FILTER (WHERE unit_day > window_end AND outcome NOT IN ('excluded', 'merged')) AS first_later_on,
        max(received_at)::date AS last_inquiry_on,
        count(*) FILTER (WHERE reply_source = 'mail') AS answered_by_mail
    FROM outcome GROUP BY company_id, account_id
),
excluded AS (
    SELECT company_id, account_id, jsonb_object_agg(reason, inquiries) AS excluded_by FROM (
        SELECT company_id, account_id, reason, count(*) AS inquiries FROM outcome
        WHERE inside AND outcome = 'excluded' GROUP BY company_id, account_id, reason
    ) e GROUP BY company_id, account_id
)
SELECT z.*, coalesce(u.silent_units, 0) AS silent_units, coalesce(u.automatic_units, 0) AS automatic_units,
    coalesce(u.suspect_units, 0) AS suspect_units, coalesce(r.later_inquiries, 0) AS later_inquiries, r.first_later_on,
    r.last_inquiry_on, coalesce(r.answered_by_mail, 0) AS answered_by_mail, coalesce(e.excluded_by, '{}') AS excluded_by,
    EXISTS (
        SELECT FROM registry.accounts s WHERE s.company_id = z.company_id AND s.account_id = z.account_id
            AND s.synced_by_platform_from <= %(now)s
    ) AS synced,
    (SELECT count(*) FROM registry.addresses b
        WHERE b.company_id = z.company_id AND b.account_id = z.account_id AND b.role = 'backup' AND NOT EXISTS (
            SELECT FROM registry.mailboxes m WHERE m.company_id = b.company_id AND m.address_hash = b.address_hash
                AND m.state IN ('active', 'needs_reconnect')
        )) AS backups_unconnected,
    floor(greatest(0, extract(epoch FROM %(now)s - least(
        (SELECT min(d.since) FROM ledger.dirty d WHERE d.company_id = z.company_id), c.due_at, p.passed_at, %(now)s
    ))))::bigint AS waiting_seconds
FROM zero z
JOIN ledger.companies c ON c.company_id = z.company_id
JOIN ledger.passed p ON p.company_id = z.company_id
LEFT JOIN units u ON u.company_id = z.company_id AND u.account_id = z.account_id
LEFT JOIN received r ON r.company_id = z.company_id AND r.account_id = z.account_id
LEFT JOIN excluded e ON e.company_id = z.company_id AND e.account_id = z.account_id
ORDER BY z.company_id, z.account_id

-- name: mailboxes
-- Goes on from `scope`: the mailboxes of these accounts, what was seen in them, and how many units each of their troubles
-- reaches: `units_blind` were due after the last complete poll, `units_before` before the mailbox was connected,
-- `units_changed` after the account's address changed, `units_invisible` before what the provider shows.
, mailbox AS MATERIALIZED (
    SELECT z.company_id, z.account_id, z.window_start, z.window_end, m.mailbox_id, m.state, m.state_reason, m.host, m.failures,
        m.connected_at, m.complete_from, m.complete_through, m.last_success_at,
        CASE WHEN m.state_reason = 'address-changed' THEN coalesce(a.changed_at, m.state_changed_at)
            WHEN a.address_hash <> m.address_hash AND a.changed_at > m.connected_at AND NOT EXISTS (
                SELECT FROM registry.addresses o WHERE o.company_id = m.company_id AND o.account_id = m.account_id
                    AND o.address_hash = m.address_hash
            ) THEN a.changed_at END AS changed_at
    FROM zero z JOIN registry.mailboxes m ON m.company_id = z.company_id AND m.account_id = z.account_id
    LEFT JOIN registry.addresses a ON a.company_id = m.company_id AND a.account_id = m.account_id AND a.role = m.role
    WHERE m.company_id = ANY (%(companies)s)
),
seen AS (
    SELECT m.company_id, m.mailbox_id,
        sum(c.messages) FILTER (WHERE inside.yes AND c.kind IN ('human', 'forward')) AS sent,
        sum(c.messages) FILTER (WHERE inside.yes AND c.kind = 'automatic') AS sent_automatic,
        sum(c.messages) FILTER (WHERE inside.yes) AS sent_all,
        sum(c.suspect) FILTER (WHERE inside.yes) AS sent_suspect,
        sum(c.messages) AS sent_ever, min(c.day) AS first_sent_on, max(c.day) AS last_sent_on
    FROM mailbox m
    JOIN registry.message_counts c ON c.company_id = m.company_id AND c.mailbox_id = m.mailbox_id
    CROSS JOIN LATERAL (SELECT c.day BETWEEN m.window_start AND m.window_end + %(target_days)s + 1 AS yes) inside
    WHERE c.company_id = ANY (%(companies)s)
    GROUP BY m.company_id, m.mailbox_id
),
folder AS (
    SELECT f.company_id, f.mailbox_id, sum(f.messages) AS in_folder, sum(greatest(0, f.uids_passed - f.uids_found)) AS gone_unseen,
        bool_or(f.messages IN (1000, 2000, 5000, 10000)) AS capped
    FROM registry.folders f WHERE f.company_id = ANY (%(companies)s) AND f.current
    GROUP BY f.company_id, f.mailbox_id
),
other AS (
    SELECT o.company_id, o.mailbox_id, count(*) AS other_folders, sum(o.messages) AS other_messages,
        sum(greatest(0, o.messages - o.first_messages)) AS other_grown
    FROM registry.other_folders o WHERE o.company_id = ANY (%(companies)s) AND o.messages > 0
    GROUP BY o.company_id, o.mailbox_id
),
known AS MATERIALIZED (
    SELECT m.*, coalesce(s.sent, 0) AS sent, coalesce(s.sent_automatic, 0) AS sent_automatic, coalesce(s.sent_all, 0) AS sent_all,
        coalesce(s.sent_suspect, 0) AS sent_suspect, coalesce(s.sent_ever, 0) AS sent_ever, s.last_sent_on,
        coalesce(f.in_folder, 0) AS in_folder, coalesce(f.gone_unseen, 0) AS gone_unseen,
        coalesce(o.other_folders, 0) AS other_folders, coalesce(o.other_messages, 0) AS other_messages,
        coalesce(o.other_grown, 0) AS other_grown,
        CASE WHEN m.state IN ('needs_reconnect', 'refused') AND m.changed_at IS NULL
            OR m.state = 'active' AND m.state_reason IS NOT NULL AND m.failures > 0
            OR m.state = 'paused'
            -- Nobody comes to read it: no failure of its own, and as blind.
            OR m.state = 'active' AND m.complete_through < %(now)s - interval '1 day'
            THEN coalesce(m.complete_through, m.connected_at) END AS blind_from,
        -- A provider that shows the newest 1,000, 2,000, 5,000 or 10,000 messages, or the last 30 days: then the first message
        -- lies there, or after at most four usual pauses. With anything older in the folder than what was seen it is none.
        (f.in_folder <= 1.05 * s.sent_ever AND (f.capped OR s.first_sent_on BETWEEN (m.connected_at - interval '31 days')::date
            AND (m.connected_at - interval '30 days')::date + least(10, 120 / nullif(s.sent_ever, 0))::integer)) IS TRUE AS limited,
        s.first_sent_on::timestamp AT TIME ZONE 'UTC' AS first_sent_at
    FROM mailbox m
    LEFT JOIN seen s USING (company_id, mailbox_id)
    LEFT JOIN folder f USING (company_id, mailbox_id)
    LEFT JOIN other o USING (company_id, mailbox_id)
),
shown AS MATERIALIZED (
    SELECT k.*, greatest(k.complete_from, CASE WHEN k.limited THEN k.first_sent_at END) AS visible_from FROM known k
)
SELECT k.company_id, k.account_id, k.mailbox_id, k.state, k.state_reason, k.host, k.connected_at, k.complete_through,
    k.last_success_at, k.changed_at, k.blind_from, k.visible_from, k.sent, k.sent_automatic, k.sent_all, k.sent_suspect, k.sent_ever,
    k.last_sent_on, k.limited, k.in_folder, k.gone_unseen, k.other_folders, k.other_messages, k.other_grown,
    count(u.*) FILTER (WHERE u.due_at > k.blind_from) AS units_blind,
    count(u.*) FILTER (WHERE u.due_at <= k.connected_at) AS units_before,
    count(u.*) FILTER (WHERE u.due_at > k.changed_at) AS units_changed,
    count(u.*) FILTER (WHERE u.due_at <= k.visible_from) AS units_invisible
FROM shown k LEFT JOIN unit u USING (company_id, account_id)
GROUP BY k.company_id, k.account_id, k.mailbox_id, k.state, k.state_reason, k.host, k.connected_at, k.complete_through,
    k.last_success_at, k.changed_at, k.blind_from, k.visible_from, k.sent, k.sent_automatic, k.sent_all, k.sent_suspect, k.sent_ever,
    k.last_sent_on, k.limited, k.in_folder, k.gone_unseen, k.other_folders, k.other_messages, k.other_grown
ORDER BY k.company_id, k.account_id, k.mailbox_id
