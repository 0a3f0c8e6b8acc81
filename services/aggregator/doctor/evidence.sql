-- name: planner_settings
-- The steps below look rows up for few accounts; judge.sql may have switched that off in this transaction.
SELECT set_config('enable_nestloop', 'on', true), set_config('enable_mergejoin', 'on', true)

-- name: steps
-- Rows of reply_rate_latest whose rate is 0 or null, and their units that were not answered in time. Not a statement of its own:
-- `accounts` and `mailboxes` continue from here.
WITH zero_rate AS MATERIALIZED (
    SELECT * FROM (
        SELECT DISTINCT ON (rate.company_id, rate.account_id) rate.company_id, rate.account_id, rate.as_of, rate.window_start,
            rate.window_end, rate.inquiries, rate.excluded, rate.timely, rate.late, rate.unanswered, rate.unmeasured, rate.pending,
            rate.rate
        FROM ledger.rate_last_days rate
        WHERE rate.rule_set = %(rule_set)s AND rate.company_id = ANY (%(companies)s)
        ORDER BY rate.company_id, rate.account_id, rate.as_of DESC
    ) newest WHERE coalesce(rate, 0) = 0
),
inquiry_outcome AS MATERIALIZED (
    SELECT zero.company_id, zero.account_id, zero.window_start, zero.window_end, outcome.inquiry_id, outcome.unit_inquiry_id,
        outcome.unit_day, outcome.received_at, outcome.due_at, outcome.outcome, outcome.reason, outcome.evidence,
        outcome.first_reply_at, outcome.reply_source, coalesce(outcome.covered, false) AS covered,
        outcome.unit_day BETWEEN zero.window_start AND zero.window_end AS in_window
    FROM zero_rate zero
    JOIN ledger.outcomes outcome ON outcome.company_id = zero.company_id AND outcome.account_id = zero.account_id
    WHERE outcome.rule_set = %(rule_set)s AND outcome.company_id = ANY (%(companies)s)
),
untimely_unit AS MATERIALIZED (
    SELECT * FROM inquiry_outcome
    WHERE in_window AND inquiry_id = unit_inquiry_id AND outcome IN ('late', 'unanswered', 'unmeasured')
)

-- name: accounts
-- Continues from `steps`: one row per account, and one per company with an empty account and only the counts of its rate.
, replied_unit AS (
    SELECT unit.company_id, unit.account_id, unit.inquiry_id,
        bool_or(reply.kind = 'automatic') AND bool_and(reply.kind NOT IN ('human', 'forward')) AS only_automatic
    FROM untimely_unit unit
    JOIN inquiry_outcome member ON member.company_id = unit.company_id AND member.account_id = unit.account_id
        AND member.unit_inquiry_id = unit.inquiry_id
    JOIN ledger.replies reply ON reply.company_id = member.company_id AND reply.inquiry_id = member.inquiry_id
        AND reply.replied_at < %(now)s
    WHERE reply.company_id = ANY (%(companies)s)
    GROUP BY unit.company_id, unit.account_id, unit.inquiry_id
),
unit_count AS (
    SELECT unit.company_id, unit.account_id,
        count(*) FILTER (WHERE unit.outcome <> 'late' AND unit.covered AND replied.only_automatic IS NOT TRUE) AS silent_units,
        count(*) FILTER (WHERE unit.outcome <> 'late' AND replied.only_automatic) AS automatic_units,
        count(*) FILTER (WHERE unit.outcome = 'late' AND unit.evidence = 'suspect') AS suspect_units
    FROM untimely_unit unit LEFT JOIN replied_unit replied USING (company_id, account_id, inquiry_id)
    GROUP BY unit.company_id, unit.account_id
),
inquiry_count AS (
    SELECT company_id, account_id,
        count(*) FILTER (WHERE unit_day > window_end AND outcome NOT IN ('excluded', 'merged')) AS later_inquiries,
        min(unit_day) FILTER (WHERE unit_day > window_end AND outcome NOT IN ('excluded', 'merged')) AS first_later_on,
        (max(received_at) AT TIME ZONE %(zone)s)::date AS last_inquiry_on,
        count(*) FILTER (WHERE reply_source = 'mail') AS answered_by_mail
    FROM inquiry_outcome GROUP BY company_id, account_id
),
exclusion_count AS (
    SELECT company_id, account_id, jsonb_object_agg(reason, inquiries) AS excluded_by FROM (
        SELECT company_id, account_id, reason, count(*) AS inquiries FROM inquiry_outcome
        WHERE in_window AND outcome = 'excluded' GROUP BY company_id, account_id, reason
    ) excluded GROUP BY company_id, account_id
)
SELECT zero.*, coalesce(unit.silent_units, 0) AS silent_units, coalesce(unit.automatic_units, 0) AS automatic_units,
    coalesce(unit.suspect_units, 0) AS suspect_units, coalesce(inquiry.later_inquiries, 0) AS later_inquiries, inquiry.first_later_on,
    inquiry.last_inquiry_on, coalesce(inquiry.answered_by_mail, 0) AS answered_by_mail, coalesce(excluded.excluded_by, '{}') AS excluded_by,
    EXISTS (
        SELECT FROM registry.accounts account WHERE account.company_id = zero.company_id AND account.account_id = zero.account_id
            AND account.synced_by_platform_from <= %(now)s
    ) AS synced,
    (SELECT count(*) FROM registry.addresses backup
        WHERE backup.company_id = zero.company_id AND backup.account_id = zero.account_id AND backup.role = 'backup' AND NOT EXISTS (
            SELECT FROM registry.mailboxes mailbox
            WHERE mailbox.company_id = backup.company_id AND mailbox.address_hash = backup.address_hash
                AND mailbox.state IN ('active', 'needs_reconnect')
        )) AS backups_unconnected,
    floor(greatest(0, extract(epoch FROM %(now)s - least(
        (SELECT min(fact.since) FROM ledger.dirty fact WHERE fact.company_id = zero.company_id), company.due_at, partition.passed_at, %(now)s
    ))))::bigint AS waiting_seconds
FROM zero_rate zero
JOIN ledger.companies company ON company.company_id = zero.company_id
JOIN ledger.passed partition ON partition.company_id = zero.company_id
LEFT JOIN unit_count unit ON unit.company_id = zero.company_id AND unit.account_id = zero.account_id
LEFT JOIN inquiry_count inquiry ON inquiry.company_id = zero.company_id AND inquiry.account_id = zero.account_id
LEFT JOIN exclusion_count excluded ON excluded.company_id = zero.company_id AND excluded.account_id = zero.account_id
ORDER BY zero.company_id, zero.account_id

-- name: mailboxes
-- Continues from `steps`: the mailboxes of these accounts, what was seen in them, and how many units each of their problems
-- reaches: `units_blind` were due after the last complete poll, `units_before` before the mailbox was connected,
-- `units_changed` after the account's address changed, `units_invisible` before the oldest mail that the provider shows.
, account_mailbox AS MATERIALIZED (
    SELECT zero.company_id, zero.account_id, zero.window_start, zero.window_end, mailbox.mailbox_id, mailbox.state,
        mailbox.state_reason, mailbox.host, mailbox.failures, mailbox.connected_at, mailbox.complete_from, mailbox.complete_through,
        mailbox.last_success_at,
        CASE WHEN mailbox.state_reason = 'address-changed' THEN coalesce(address.changed_at, mailbox.state_changed_at)
            WHEN address.address_hash <> mailbox.address_hash AND address.changed_at > mailbox.connected_at AND NOT EXISTS (
                SELECT FROM registry.addresses current
                WHERE current.company_id = mailbox.company_id AND current.account_id = mailbox.account_id
                    AND current.address_hash = mailbox.address_hash
            ) THEN address.changed_at END AS changed_at
    FROM zero_rate zero
    JOIN registry.mailboxes mailbox ON mailbox.company_id = zero.company_id AND mailbox.account_id = zero.account_id
    LEFT JOIN registry.addresses address ON address.company_id = mailbox.company_id AND address.account_id = mailbox.account_id
        AND address.role = mailbox.role
    WHERE mailbox.company_id = ANY (%(companies)s)
),
message_count AS (
    SELECT mailbox.company_id, mailbox.mailbox_id,
        sum(day.messages) FILTER (WHERE window_day.inside AND day.kind IN ('human', 'forward')) AS sent,
        sum(day.messages) FILTER (WHERE window_day.inside AND day.kind = 'automatic') AS sent_automatic,
        sum(day.messages) FILTER (WHERE window_day.inside) AS sent_all,
        sum(day.suspect) FILTER (WHERE window_day.inside) AS sent_suspect,
        sum(day.messages) AS sent_ever, min(day.day) AS first_sent_on, max(day.day) AS last_sent_on
    FROM account_mailbox mailbox
    JOIN registry.message_counts day ON day.company_id = mailbox.company_id AND day.mailbox_id = mailbox.mailbox_id
    CROSS JOIN LATERAL (
        SELECT day.day BETWEEN mailbox.window_start AND mailbox.window_end + %(target_days)s + 1 AS inside
    ) window_day
    WHERE day.company_id = ANY (%(companies)s)
    GROUP BY mailbox.company_id, mailbox.mailbox_id
),
folder_count AS (
    SELECT folder.company_id, folder.mailbox_id, sum(folder.messages) AS in_folder,
        sum(greatest(0, folder.uids_passed - folder.uids_found)) AS gone_unseen,
        bool_or(folder.messages IN (1000, 2000, 5000, 10000)) AS capped
    FROM registry.folders folder WHERE folder.company_id = ANY (%(companies)s) AND folder.current
    GROUP BY folder.company_id, folder.mailbox_id
),
other_folder_count AS (
    SELECT folder.company_id, folder.mailbox_id, count(*) AS other_folders, sum(folder.messages) AS other_messages,
        sum(greatest(0, folder.messages - folder.first_messages)) AS other_grown
    FROM registry.other_folders folder WHERE folder.company_id = ANY (%(companies)s) AND folder.messages > 0
    GROUP BY folder.company_id, folder.mailbox_id
),
counted_mailbox AS MATERIALIZED (
    SELECT mailbox.*, coalesce(message.sent, 0) AS sent, coalesce(message.sent_automatic, 0) AS sent_automatic,
        coalesce(message.sent_all, 0) AS sent_all, coalesce(message.sent_suspect, 0) AS sent_suspect,
        coalesce(message.sent_ever, 0) AS sent_ever, message.last_sent_on,
        coalesce(folder.in_folder, 0) AS in_folder, coalesce(folder.gone_unseen, 0) AS gone_unseen,
        coalesce(other_folder.other_folders, 0) AS other_folders, coalesce(other_folder.other_messages, 0) AS other_messages,
        coalesce(other_folder.other_grown, 0) AS other_grown,
        CASE WHEN mailbox.state IN ('needs_reconnect', 'refused') AND mailbox.changed_at IS NULL
            OR mailbox.state = 'active' AND mailbox.state_reason IS NOT NULL AND mailbox.failures > 0
            OR mailbox.state = 'paused'
            -- No fetcher has read it for a day: no failure of its own, but as blind.
            OR mailbox.state = 'active' AND mailbox.complete_through < %(now)s - interval '1 day'
            THEN coalesce(mailbox.complete_through, mailbox.connected_at) END AS blind_from,
        -- A provider that shows the newest 1,000, 2,000, 5,000 or 10,000 messages, or the last 30 days: the first message seen is
        -- that old, or younger by at most four usual pauses between messages. Not if the folder holds messages older than those seen.
        (folder.in_folder <= 1.05 * message.sent_ever AND (folder.capped OR message.first_sent_on
            BETWEEN (mailbox.connected_at - interval '31 days')::date AND (mailbox.connected_at - interval '30 days')::date
                + least(10, 120 / nullif(message.sent_ever, 0))::integer)) IS TRUE AS limited,
        message.first_sent_on, message.first_sent_on::timestamp AT TIME ZONE 'UTC' AS first_sent_at
    FROM account_mailbox mailbox
    LEFT JOIN message_count message USING (company_id, mailbox_id)
    LEFT JOIN folder_count folder USING (company_id, mailbox_id)
    LEFT JOIN other_folder_count other_folder USING (company_id, mailbox_id)
),
visible_mailbox AS MATERIALIZED (
    SELECT mailbox.*, greatest(mailbox.complete_from, CASE WHEN mailbox.limited THEN mailbox.first_sent_at END) AS visible_from,
        -- Of the oldest message only its day in UTC is stored.
        CASE WHEN mailbox.limited AND coalesce(mailbox.first_sent_at >= mailbox.complete_from, true) THEN mailbox.first_sent_on
            ELSE (mailbox.complete_from AT TIME ZONE %(zone)s)::date END AS visible_from_on
    FROM counted_mailbox mailbox
)
SELECT mailbox.company_id, mailbox.account_id, mailbox.mailbox_id, mailbox.state, mailbox.state_reason, mailbox.host,
    mailbox.connected_at, mailbox.complete_through, mailbox.last_success_at, mailbox.changed_at, mailbox.blind_from,
    mailbox.visible_from_on, mailbox.sent, mailbox.sent_automatic, mailbox.sent_all, mailbox.sent_suspect, mailbox.sent_ever,
    mailbox.last_sent_on, mailbox.limited, mailbox.in_folder, mailbox.gone_unseen, mailbox.other_folders, mailbox.other_messages,
    mailbox.other_grown,
    count(unit.*) FILTER (WHERE unit.due_at > mailbox.blind_from) AS units_blind,
    count(unit.*) FILTER (WHERE unit.due_at <= mailbox.connected_at) AS units_before,
    count(unit.*) FILTER (WHERE unit.due_at > mailbox.changed_at) AS units_changed,
    count(unit.*) FILTER (WHERE unit.due_at <= mailbox.visible_from) AS units_invisible
FROM visible_mailbox mailbox LEFT JOIN untimely_unit unit USING (company_id, account_id)
GROUP BY mailbox.company_id, mailbox.account_id, mailbox.mailbox_id, mailbox.state, mailbox.state_reason, mailbox.host,
    mailbox.connected_at, mailbox.complete_through, mailbox.last_success_at, mailbox.changed_at, mailbox.blind_from,
    mailbox.visible_from_on, mailbox.sent, mailbox.sent_automatic, mailbox.sent_all, mailbox.sent_suspect, mailbox.sent_ever,
    mailbox.last_sent_on, mailbox.limited, mailbox.in_folder, mailbox.gone_unseen, mailbox.other_folders, mailbox.other_messages,
    mailbox.other_grown
ORDER BY mailbox.company_id, mailbox.account_id, mailbox.mailbox_id
