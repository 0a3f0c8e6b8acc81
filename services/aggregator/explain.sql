-- name: unit_inquiries
-- Goes before `steps` of judge.sql: of all inquiries only those of the buyer, with which the explained one can share a unit
-- (`unit_group`). What becomes of them depends on no other inquiry.
WITH ledger_inquiry AS NOT MATERIALIZED (
    SELECT * FROM ledger.inquiries inquiry WHERE inquiry.company_id = %(company_id)s AND inquiry.buyer_id = (
        SELECT buyer_id FROM ledger.inquiries WHERE company_id = %(company_id)s AND inquiry_id = %(inquiry_id)s)
),
ledger_status AS NOT MATERIALIZED (SELECT * FROM ledger.statuses),
ledger_reply AS NOT MATERIALIZED (SELECT * FROM ledger.replies),

-- name: archived_inquiries
-- Goes before `steps` of judge.sql and before the statements of facts: the same for an archived inquiry, from its file, with what was
-- recorded since.
WITH ledger_inquiry AS MATERIALIZED (
    SELECT DISTINCT ON (company_id, inquiry_id) * FROM (
        SELECT * FROM jsonb_populate_recordset(NULL::ledger.inquiries, %(archived_inquiries)s::jsonb)
        UNION ALL
        SELECT * FROM ledger.inquiries inquiry WHERE inquiry.company_id = %(company_id)s AND inquiry.buyer_id = %(archived_buyer)s
    ) stored ORDER BY company_id, inquiry_id, received_at, facts_id
),
ledger_status AS MATERIALIZED (
    SELECT * FROM jsonb_populate_recordset(NULL::ledger.statuses, %(archived_statuses)s::jsonb)
    UNION
    SELECT * FROM ledger.statuses WHERE company_id = %(company_id)s AND inquiry_id IN (SELECT inquiry_id FROM ledger_inquiry)
),
ledger_reply AS MATERIALIZED (
    SELECT * FROM jsonb_populate_recordset(NULL::ledger.replies, %(archived_replies)s::jsonb)
    UNION
    SELECT * FROM ledger.replies WHERE company_id = %(company_id)s AND inquiry_id IN (SELECT inquiry_id FROM ledger_inquiry)
),

-- name: inquiry
-- Continues from `steps` of judge.sql: one inquiry, whom it is attributed to, its unit. `counted_until` is set where the
-- watermark is earlier than now.
SELECT judgement.now, nullif(least(judgement.now, judgement.watermark), judgement.now) AS counted_until,
    EXISTS (
        SELECT FROM registry.coverage poll
        WHERE poll.company_id = judgement.company_id AND poll.account_id = result.account_id
            AND poll.recorded_at > judgement.watermark AND poll.recorded_at < judgement.now
            AND coalesce(poll.superseded_at, 'infinity') BETWEEN judgement.watermark AND 'infinity'
    ) AS reading_waits, inquiry.inquiry_id, inquiry.received_at, inquiry.buyer_id, inquiry.thread_id,
    inquiry.receipt_day AS own_day, inquiry.owner, inquiry.excluded_by,
    %(exclude)s::jsonb -> (inquiry.exclusion_position - 1)::integer AS exclusion,
    result.outcome, result.reason, result.state, result.account_id, result.unit_inquiry_id, result.unit_day, unit.start_at, unit.due_at,
    first.outcome AS unit_outcome, first.reason AS unit_reason, first.first_reply_at, first.reply_seconds, first.reply_source,
    first.matched_by, first.mailbox_id, first.evidence, first.covered, unit.reply_id,
    (SELECT array_agg(member.inquiry_id ORDER BY member.received_at, member.inquiry_id) FROM unit_member member
        WHERE member.unit_inquiry_id = result.unit_inquiry_id) AS members
FROM attributed_inquiry inquiry CROSS JOIN judgement
JOIN inquiry_outcome result ON result.inquiry_id = inquiry.inquiry_id
LEFT JOIN unit ON unit.unit_inquiry_id = result.unit_inquiry_id
LEFT JOIN inquiry_outcome first ON first.inquiry_id = result.unit_inquiry_id
WHERE inquiry.inquiry_id = %(inquiry_id)s

-- name: candidate_answers
-- Continues from `steps` of judge.sql: the replies and statuses that may have answered a unit, with a verdict on each.
SELECT candidate.inquiry_id, candidate.at, candidate.source, candidate.reply_id, candidate.account_id,
    nullif(candidate.mailbox_id, '') AS mailbox_id, candidate.kind, nullif(candidate.kind_reason, '') AS kind_reason,
    nullif(candidate.evidence, '') AS evidence, nullif(candidate.matched_by, '') AS matched_by,
    CASE WHEN candidate.rejected_because IS NOT NULL THEN candidate.rejected_because
        WHEN (candidate.source, candidate.reply_id, candidate.at, candidate.account_id, candidate.mailbox_id, candidate.kind_reason,
                candidate.evidence)
            = (answer.source, answer.reply_id, answer.at, answer.account_id, answer.mailbox_id, answer.kind_reason, answer.evidence)
            THEN CASE WHEN answer.accepted THEN 'answer' ELSE 'unverified-answer' END
        WHEN candidate.at < answer.at THEN 'unverified'
        WHEN candidate.source = answer.source AND candidate.reply_id = answer.reply_id THEN 'copy'
        ELSE 'later' END AS verdict
FROM candidate_answer candidate LEFT JOIN first_answer answer USING (point_no)
WHERE candidate.unit_inquiry_id = %(unit_inquiry_id)s
ORDER BY candidate.at, candidate.source, candidate.reply_id, candidate.inquiry_id,
    array_position(%(match_order)s::text[], candidate.matched_by), candidate.mailbox_id

-- name: unit_coverage
-- Continues from `steps` of judge.sql: how the mailboxes of a unit's account covered it from its start to its deadline.
SELECT mailbox.mailbox_id, mailbox.connected_at, mailbox.removed_at,
    mailbox.connected_at <= unit.due_at AND (mailbox.removed_at IS NULL OR mailbox.removed_at >= unit.due_at) AS due,
    CASE WHEN mailbox.mailbox_id IS NULL
        THEN mailbox.from_at <= unit.start_at AND (mailbox.removed_at IS NULL OR mailbox.removed_at >= unit.due_at)
        ELSE mailbox.complete @> tstzrange(unit.start_at, unit.due_at, '[]') END IS TRUE AS covers,
    lower(mailbox.complete) AS complete_from, upper(mailbox.complete) AS complete_through
FROM unit JOIN mailbox_coverage mailbox ON mailbox.company_id = unit.company_id AND mailbox.instant_no = unit.first_no
    AND mailbox.account_id = unit.account_id
WHERE unit.unit_inquiry_id = %(unit_inquiry_id)s
ORDER BY mailbox.mailbox_id NULLS FIRST

-- name: facts_inquiry
-- Continues from `every_inquiry` of judge.sql or `archived_inquiries`: what the platform published about inquiries, including those whose receipt was never published.
explained AS NOT MATERIALIZED (SELECT)
SELECT inquiry.inquiry_id, inquiry.account_id, inquiry.received_at, inquiry.buyer_id, inquiry.buyer_region,
    inquiry.buyer_sent_from_region, inquiry.thread_id, inquiry.channel,
    cardinality(inquiry.buyer_addresses) AS buyer_addresses, cardinality(inquiry.message_ids) AS message_ids,
    cardinality(inquiry.reply_addresses) AS reply_addresses
FROM ledger_inquiry inquiry WHERE inquiry.company_id = %(company_id)s AND inquiry.inquiry_id = ANY (%(inquiries)s)
ORDER BY inquiry.received_at, inquiry.inquiry_id

-- name: facts_statuses
-- Continues from `every_inquiry` of judge.sql or `archived_inquiries`: statuses of inquiries.
explained AS NOT MATERIALIZED (SELECT)
SELECT inquiry_id, status, at, nullif(account_id, '') AS account_id FROM ledger_status
WHERE company_id = %(company_id)s AND inquiry_id = ANY (%(inquiries)s) ORDER BY at, status, account_id

-- name: facts_replies
-- Continues from `every_inquiry` of judge.sql or `archived_inquiries`: replies attached to inquiries; for mail with what the fetcher stored of it, as long as it is kept.
explained AS NOT MATERIALIZED (SELECT)
SELECT reply.inquiry_id, reply.reply_id, reply.source, reply.account_id, nullif(reply.mailbox_id, '') AS mailbox_id, reply.replied_at,
    nullif(reply.evidence, '') AS evidence, reply.kind, nullif(reply.kind_reason, '') AS kind_reason, reply.matched_by,
    stored.sent_at, stored.first_seen, stored.record
FROM ledger_reply reply
LEFT JOIN LATERAL registry.stored_message(reply.company_id, reply.mailbox_id, reply.reply_id) stored ON reply.source = 'mail'
WHERE reply.company_id = %(company_id)s AND reply.inquiry_id = ANY (%(inquiries)s)
ORDER BY reply.replied_at, reply.reply_id, reply.inquiry_id, reply.matched_by, reply.mailbox_id

-- name: history
-- Previous outcomes, and the one that is shown now. The one that differed from the next only in being provisional is noted in the
-- outcome that is shown now.
WITH version AS MATERIALIZED (
    SELECT revision, outcome, reason, account_id, first_reply_at, state, rule_version, changed_at FROM ledger.outcome_history
    WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND inquiry_id = %(inquiry_id)s
    UNION ALL
    SELECT revision, outcome, reason, account_id, first_reply_at, state, rule_version, changed_at FROM ledger.outcomes
    WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND inquiry_id = %(inquiry_id)s
)
SELECT * FROM version
UNION ALL
SELECT final.provisional_revision, next_version.outcome, next_version.reason, next_version.account_id, next_version.first_reply_at,
    'provisional', next_version.rule_version, final.provisional_at
FROM ledger.outcomes final CROSS JOIN LATERAL (
    SELECT * FROM version WHERE version.revision > final.provisional_revision ORDER BY version.revision LIMIT 1
) next_version
WHERE final.rule_set = %(rule_set)s AND final.company_id = %(company_id)s AND final.inquiry_id = %(inquiry_id)s
ORDER BY revision

-- name: archived
-- When an inquiry was archived.
SELECT part.part_id, part.archived_at FROM ledger.archived_inquiries inquiry JOIN ledger.archive_parts part USING (part_id)
WHERE inquiry.company_id = %(company_id)s AND inquiry.inquiry_id = %(inquiry_id)s AND part.company_id = %(company_id)s

-- name: archive_file
-- by hand: what `explain` reads.
-- The file that has a part.
SELECT file.path, file.sha256 FROM ledger.archive_parts part JOIN ledger.archive_files file USING (file_id)
WHERE part.part_id = %(part_id)s

-- name: waiting
-- Whether facts of the company wait to be judged, and whether the ledger knows the company.
SELECT EXISTS (SELECT FROM ledger.dirty WHERE company_id = %(company_id)s) AS waiting,
    EXISTS (SELECT FROM ledger.companies WHERE company_id = %(company_id)s) AS known
