-- name: rate
-- The newest rate of an account (NULL: of the company).
SELECT * FROM report_token_v1.reply_rate_latest
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND account_id IS NOT DISTINCT FROM %(account_id)s::text

-- name: account_rates
-- The newest rates of the accounts of a company.
SELECT * FROM report_token_v1.reply_rate_latest
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND level = 'account'
    AND (%(account_after)s::text IS NULL OR account_id > %(account_after)s)
ORDER BY account_id LIMIT %(limit)s

-- name: timeline
-- The rates of the last 30 days of an account (NULL: of the company), ending with its newest one.
SELECT * FROM report_token_v1.reply_rate
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND account_id IS NOT DISTINCT FROM %(account_id)s::text
    AND (%(day_after)s::date IS NULL OR as_of > %(day_after)s::date)
    AND as_of > (
        SELECT newest.as_of FROM report_token_v1.reply_rate_latest newest
        WHERE newest.rule_set = %(rule_set)s AND newest.company_id = %(company_id)s
            AND newest.account_id IS NOT DISTINCT FROM %(account_id)s::text
    ) - 30
ORDER BY as_of LIMIT %(limit)s

-- name: histogram
-- Answered units by hours until the answer, of the newest rate of an account (NULL: of the company).
SELECT bar.* FROM report_token_v1.reply_time_histogram bar
WHERE bar.rule_set = %(rule_set)s AND bar.company_id = %(company_id)s AND bar.account_id IS NOT DISTINCT FROM %(account_id)s::text
    AND bar.as_of = (
        SELECT newest.as_of FROM report_token_v1.reply_rate_latest newest
        WHERE newest.rule_set = %(rule_set)s AND newest.company_id = %(company_id)s
            AND newest.account_id IS NOT DISTINCT FROM %(account_id)s::text
    )
    AND (%(bucket_after)s::integer IS NULL OR bar.bucket > %(bucket_after)s)
ORDER BY bar.bucket LIMIT %(limit)s

-- name: due_soon
-- Units that are not answered, of an account (NULL: of the company), the most urgent first. `deadline_passed`: it is not counted as unanswered yet, since an answer
-- may still become known (docs/decisions/0025).
SELECT *, due_at <= statement_timestamp() AS deadline_passed FROM report_token_v1.due_soon
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND (%(account_id)s::text IS NULL OR account_id = %(account_id)s)
    AND (%(instant_after)s::timestamptz IS NULL
        OR (due_at, inquiry_id) > (%(instant_after)s::timestamptz, %(inquiry_after)s::text))
ORDER BY due_at, inquiry_id LIMIT %(limit)s

-- name: corrections
-- Changes of final numbers of an account (NULL: of the company and its accounts), the newest first.
SELECT * FROM report_token_v1.corrections
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND (%(account_id)s::text IS NULL OR account_id = %(account_id)s)
    AND (%(instant_after)s::timestamptz IS NULL OR (changed_at, as_of, coalesce(account_id, '') COLLATE "C", column_name)
        < (%(instant_after)s::timestamptz, %(day_after)s::date, %(account_after)s::text, %(column_after)s::text))
ORDER BY changed_at DESC, as_of DESC, coalesce(account_id, '') COLLATE "C" DESC, column_name DESC LIMIT %(limit)s

-- name: outcomes
-- What became of the inquiries of an account (NULL: of the company), the newest day first.
SELECT * FROM report_token_v1.inquiry_outcomes
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND (%(account_id)s::text IS NULL OR account_id = %(account_id)s)
    AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
    AND unit_day BETWEEN coalesce(%(from_day)s::date, '-infinity') AND coalesce(%(to_day)s::date, 'infinity')
    AND (%(day_after)s::date IS NULL OR (unit_day, inquiry_id) < (%(day_after)s::date, %(inquiry_after)s::text))
ORDER BY unit_day DESC, inquiry_id DESC LIMIT %(limit)s

-- name: outcome
-- What became of one inquiry, if the reader may see it.
SELECT * FROM report_token_v1.inquiry_outcomes
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND inquiry_id = %(inquiry_id)s

-- name: archived
-- A row if an inquiry is archived and the reader may see it.
SELECT 1 FROM ledger.archived_inquiries WHERE company_id = %(company_id)s AND inquiry_id = %(inquiry_id)s

-- name: diagnosis
-- Why the newest rate of an account (NULL: of the company) is 0 or missing.
SELECT * FROM report_token_v1.zero_rate_diagnosis
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND account_id IS NOT DISTINCT FROM %(account_id)s::text
    AND (%(cause_after)s::text IS NULL OR cause > %(cause_after)s)
ORDER BY cause LIMIT %(limit)s

-- name: accounts_concerned
-- Accounts of a company whose newest rate is 0 or missing, those with the most untimely units first; `total`: how many there are.
SELECT account_id, count(*) OVER () AS total FROM report_token_v1.reply_rate_latest
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND level = 'account' AND coalesce(rate, 0) = 0
ORDER BY late + unanswered + unmeasured DESC, account_id LIMIT %(limit)s

-- name: other_account
-- A row if the company has figures of an account besides the reader's own.
SELECT 1 FROM report_token_v1.reply_rate_latest
WHERE company_id = %(company_id)s AND account_id <> %(account_id)s AND level = 'account' LIMIT 1

-- name: account_known
-- A row if the company has figures of an account.
SELECT 1 FROM report_token_v1.reply_rate_latest
WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND level = 'account' LIMIT 1

-- name: mailboxes
-- Mailboxes of the reader's own account that are not removed, how they are and what to do.
SELECT h.*, m.address_masked, m.host, m.port, m.connected_at
FROM report_token_v1.mailbox_health h JOIN registry.mailboxes m ON m.company_id = h.company_id AND m.mailbox_id = h.mailbox_id
WHERE h.company_id = %(company_id)s AND m.company_id = %(company_id)s AND h.account_id = %(account_id)s AND h.state <> 'removed'
ORDER BY m.connected_at, h.mailbox_id

-- name: own_account
-- The reader's own account.
SELECT account_id, kind, synced_by_platform_from FROM registry.accounts
WHERE company_id = %(company_id)s AND account_id = %(account_id)s
