-- name: inquiry
-- Goes on from `judgement`: one inquiry, its fate, its unit. `counted_until` where that is earlier than now.
SELECT at.now, nullif(least(at.now, at.passed), at.now) AS counted_until,
    EXISTS (
        SELECT FROM registry.coverage c
        WHERE c.company_id = at.company_id AND c.account_id = r.account_id AND c.recorded_at > at.passed AND c.recorded_at < at.now
    ) AS reading_waits, f.inquiry_id, f.received_at, f.buyer_id, f.thread_id, f.day AS own_day, f.owner, f.excluded_by,
    %(parameters)s::jsonb -> 'exclude' -> (f.exclusion - 1)::integer AS exclusion,
    r.outcome, r.reason, r.state, r.account_id, r.unit_inquiry_id, r.unit_day, u.start_at, u.due_at,
    first.outcome AS unit_outcome, first.reason AS unit_reason, first.first_reply_at, first.reply_seconds, first.reply_source,
    first.matched_by, first.mailbox_id, first.evidence, first.covered, u.reply_id,
    (SELECT array_agg(m.inquiry_id ORDER BY m.received_at, m.inquiry_id) FROM member m
        WHERE m.unit_inquiry_id = r.unit_inquiry_id) AS members
FROM fate f CROSS JOIN at
JOIN result r ON r.inquiry_id = f.inquiry_id
LEFT JOIN unit u ON u.unit_inquiry_id = r.unit_inquiry_id
LEFT JOIN result first ON first.inquiry_id = r.unit_inquiry_id
WHERE f.inquiry_id = %(inquiry_id)s

-- name: considered
-- Goes on from `judgement`: what may have answered a unit, and what came of it.
SELECT c.inquiry_id, c.at, c.source, c.reply_id, c.account_id, nullif(c.mailbox_id, '') AS mailbox_id, c.kind,
    nullif(c.kind_reason, '') AS kind_reason, nullif(c.evidence, '') AS evidence, nullif(c.matched_by, '') AS matched_by,
    CASE WHEN c.unfit IS NOT NULL THEN c.unfit
        WHEN (c.source, c.reply_id, c.at, c.account_id, c.mailbox_id, c.kind_reason, c.evidence)
            = (a.source, a.reply_id, a.at, a.account_id, a.mailbox_id, a.kind_reason, a.evidence)
            THEN CASE WHEN a.accepted THEN 'answer' ELSE 'unverified-answer' END
        WHEN c.at < a.at THEN 'unverified'
        WHEN c.source = a.source AND c.reply_id = a.reply_id THEN 'copy'
        ELSE 'later' END AS verdict
FROM considered c LEFT JOIN answer a USING (k, unit_inquiry_id)
WHERE c.unit_inquiry_id = %(unit_inquiry_id)s
ORDER BY c.at, c.source, c.reply_id, c.inquiry_id, array_position(%(ways)s::text[], c.matched_by), c.mailbox_id

-- name: watch
-- Goes on from `judgement`: who looked at the mailboxes of a unit's account, from its start to its deadline.
SELECT m.mailbox_id, m.connected_at, m.removed_at,
    m.connected_at <= u.due_at AND (m.removed_at IS NULL OR m.removed_at >= u.due_at) AS due,
    CASE WHEN m.mailbox_id IS NULL
        THEN m.from_at <= u.start_at AND (m.removed_at IS NULL OR m.removed_at >= u.due_at)
        ELSE m.complete @> tstzrange(u.start_at, u.due_at, '[]') END IS TRUE AS covers,
    lower(m.complete) AS complete_from, upper(m.complete) AS complete_through
FROM unit u JOIN mailbox m ON m.k = u.k AND m.account_id = u.account_id
WHERE u.unit_inquiry_id = %(unit_inquiry_id)s
ORDER BY m.mailbox_id NULLS FIRST

-- name: facts_inquiry
-- What the platform told of an inquiry; also of one whose receipt was never told.
SELECT i.inquiry_id, i.account_id, i.received_at, i.buyer_id, i.buyer_region, i.buyer_sent_from_region, i.thread_id, i.channel,
    cardinality(i.buyer_addresses) AS buyer_addresses, cardinality(i.message_ids) AS message_ids,
    cardinality(i.reply_addresses) AS reply_addresses
FROM ledger.inquiries i WHERE i.company_id = %(company_id)s AND i.inquiry_id = ANY (%(inquiries)s) ORDER BY i.received_at, i.inquiry_id

-- name: facts_statuses
-- Statuses of inquiries.
SELECT inquiry_id, status, at, nullif(account_id, '') AS account_id FROM ledger.statuses
WHERE company_id = %(company_id)s AND inquiry_id = ANY (%(inquiries)s) ORDER BY at, status, account_id

-- name: facts_replies
-- Replies attached to inquiries, with the record that the fetcher published of each mail as long as it is kept.
SELECT r.inquiry_id, r.reply_id, r.source, r.account_id, nullif(r.mailbox_id, '') AS mailbox_id, r.replied_at,
    nullif(r.evidence, '') AS evidence, r.kind, nullif(r.kind_reason, '') AS kind_reason, r.matched_by, p.record
FROM ledger.replies r
LEFT JOIN registry.published p ON r.source = 'mail' AND p.company_id = r.company_id AND p.mailbox_id = r.mailbox_id
    AND p.message_id = r.reply_id
WHERE r.company_id = %(company_id)s AND r.inquiry_id = ANY (%(inquiries)s)
ORDER BY r.replied_at, r.reply_id, r.inquiry_id, r.matched_by, r.mailbox_id

-- name: history
-- What the outcome was before, and what is shown now.
SELECT revision, outcome, reason, account_id, first_reply_at, state, rule_version, changed_at FROM ledger.outcome_history
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND inquiry_id = %(inquiry_id)s
UNION ALL
SELECT revision, outcome, reason, account_id, first_reply_at, state, rule_version, changed_at FROM ledger.outcomes
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND inquiry_id = %(inquiry_id)s
ORDER BY revision

-- name: waiting
-- Whether the company's facts wait to be judged.
SELECT EXISTS (SELECT FROM ledger.dirty WHERE company_id = %(company_id)s) AS waiting,
    EXISTS (SELECT FROM ledger.companies WHERE company_id = %(company_id)s) AS known
