-- by hand
-- name: patience
-- Long inputs take longer than a statement of production may, and have the machine for themselves.
SELECT set_config('statement_timeout', '0', false), set_config('work_mem', '64MB', false)

-- name: companies
-- Companies and accounts that the coverage names.
WITH line AS (
    SELECT DISTINCT company_id, account_id FROM unnest(%(companies)s::text[], %(accounts)s::text[]) l (company_id, account_id)
),
company AS (INSERT INTO registry.companies (company_id) SELECT DISTINCT company_id FROM line RETURNING company_id)
INSERT INTO registry.accounts (company_id, account_id) SELECT l.company_id, l.account_id FROM line l JOIN company USING (company_id)

-- name: coverage
-- The coverage in the order of its lines: of two that became known together the later one speaks.
INSERT INTO registry.coverage
    (company_id, account_id, mailbox_id, connected_at, removed_at, from_at, through_at, recorded_at)
SELECT company_id, account_id, mailbox_id, connected_at, removed_at, from_at, through_at, recorded_at
FROM unnest(%(companies)s::text[], %(accounts)s::text[], %(mailboxes)s::text[], %(connected)s::timestamptz[],
    %(removed)s::timestamptz[], %(from)s::timestamptz[], %(through)s::timestamptz[], %(recorded)s::timestamptz[])
    WITH ORDINALITY l (company_id, account_id, mailbox_id, connected_at, removed_at, from_at, through_at, recorded_at, place)
ORDER BY place

-- name: covered_always
-- Without coverage everything counts as covered: as if every account had always answered through the platform.
INSERT INTO registry.coverage (company_id, account_id, connected_at, from_at, recorded_at)
SELECT company_id, account_id, '-infinity', '-infinity', '-infinity' FROM (
    SELECT company_id, account_id FROM ledger.inquiries WHERE account_id IS NOT NULL
    UNION SELECT company_id, account_id FROM ledger.statuses WHERE account_id <> ''
    UNION SELECT company_id, account_id FROM ledger.replies
) named

-- name: watched
-- Mailboxes of each company that were not removed, as it was known at `now`, and through when all of them are complete.
SELECT company_id, count(*) AS mailboxes, CASE WHEN bool_and(through_at IS NOT NULL) THEN min(through_at) END AS complete_through
FROM (
    SELECT company_id, mailbox_id, max(through_at) AS through_at,
        (array_agg(removed_at ORDER BY recorded_at DESC, coverage_id DESC))[1] AS removed_at
    FROM registry.coverage WHERE mailbox_id IS NOT NULL AND recorded_at < %(now)s GROUP BY company_id, mailbox_id
) mailbox
WHERE removed_at IS NULL OR removed_at >= %(now)s
GROUP BY company_id

-- name: known
-- Companies with facts, in order.
SELECT DISTINCT company_id FROM ledger.inquiries ORDER BY company_id

-- name: reply_rate
-- The rows, by key.
SELECT * FROM report_v1.reply_rate ORDER BY rule_set, level, company_id, account_id NULLS FIRST, as_of

-- name: inquiry_outcomes
-- The outcomes, by key.
SELECT * FROM report_v1.inquiry_outcomes ORDER BY rule_set, company_id, inquiry_id
