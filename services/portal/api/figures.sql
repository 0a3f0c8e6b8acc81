-- name: rule_sets
-- The active rule sets, by name.
SELECT parameters::text AS parameters FROM report_token_v1.rule_sets WHERE active ORDER BY rule_set

-- name: company_known
-- Whether the registry or the ledger has the company, as far as the token may see.
SELECT EXISTS (SELECT FROM registry.companies WHERE company_id = %(company_id)s)
    OR EXISTS (SELECT FROM ledger.companies WHERE company_id = %(company_id)s) AS known

-- name: outcome_seen
-- A row if the token may see what became of an inquiry, or that it is archived.
SELECT 1 FROM report_token_v1.inquiry_outcomes WHERE company_id = %(company_id)s AND inquiry_id = %(inquiry_id)s
UNION ALL
SELECT 1 FROM ledger.archived_inquiries WHERE company_id = %(company_id)s AND inquiry_id = %(inquiry_id)s LIMIT 1

-- name: companies
-- A page of companies that have facts, among those of the token.
SELECT company_id FROM ledger.companies
WHERE company_id BETWEEN %(first)s AND %(last)s AND company_id > %(company_after)s
ORDER BY company_id LIMIT %(limit)s

-- name: company_rates
-- The newest rate of each of some companies.
SELECT * FROM report_token_v1.reply_rate_latest
WHERE rule_set = %(rule_set)s AND company_id = ANY (%(companies)s) AND level = 'company'
ORDER BY company_id

-- name: latest_rates
-- The newest rates of a company and its accounts.
SELECT * FROM report_token_v1.reply_rate_latest
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND (%(account_id)s::text IS NULL OR account_id = %(account_id)s)
    AND (%(account_after)s::text IS NULL OR coalesce(account_id, '') COLLATE "C" > %(account_after)s)
ORDER BY coalesce(account_id, '') COLLATE "C" LIMIT %(limit)s

-- name: rates
-- The rates of a company and its accounts, by day.
SELECT * FROM report_token_v1.reply_rate
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND (%(account_id)s::text IS NULL OR account_id = %(account_id)s)
    AND as_of BETWEEN coalesce(%(from_day)s::date, '-infinity') AND coalesce(%(to_day)s::date, 'infinity')
    AND (%(day_after)s::date IS NULL OR (as_of, coalesce(account_id, '') COLLATE "C") > (%(day_after)s::date, %(account_after)s::text))
ORDER BY as_of, coalesce(account_id, '') COLLATE "C" LIMIT %(limit)s

-- name: timeline
-- The rates of the last days of a company or one of its accounts (NULL: of the company), ending with its newest one.
SELECT * FROM report_token_v1.reply_rate
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND account_id IS NOT DISTINCT FROM %(account_id)s::text
    AND (%(day_after)s::date IS NULL OR as_of > %(day_after)s::date)
    AND as_of > (
        SELECT newest.as_of FROM report_token_v1.reply_rate_latest newest
        WHERE newest.rule_set = %(rule_set)s AND newest.company_id = %(company_id)s
            AND newest.account_id IS NOT DISTINCT FROM %(account_id)s::text
    ) - %(days)s::integer
ORDER BY as_of LIMIT %(limit)s

-- name: history
-- Every version of the rates of a company and its accounts, by day.
SELECT * FROM report_token_v1.reply_rate_history
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND (%(account_id)s::text IS NULL OR account_id = %(account_id)s)
    AND as_of BETWEEN coalesce(%(from_day)s::date, '-infinity') AND coalesce(%(to_day)s::date, 'infinity')
    AND (%(day_after)s::date IS NULL OR (as_of, coalesce(account_id, '') COLLATE "C", valid_from)
        > (%(day_after)s::date, %(account_after)s::text, %(instant_after)s::timestamptz))
ORDER BY as_of, coalesce(account_id, '') COLLATE "C", valid_from LIMIT %(limit)s

-- name: histogram
-- Answered units by hours until the answer, of the rates of a company and its accounts on a day (NULL: the newest of the company,
-- on which an account without a rate has no bars).
SELECT bar.* FROM report_token_v1.reply_time_histogram bar
WHERE bar.rule_set = %(rule_set)s AND bar.company_id = %(company_id)s
    AND (%(account_id)s::text IS NULL OR bar.account_id = %(account_id)s)
    AND (bar.as_of = %(as_of)s::date OR %(as_of)s::date IS NULL AND bar.as_of = (
        SELECT max(newest.as_of) FROM report_token_v1.reply_rate newest
        WHERE newest.rule_set = %(rule_set)s AND newest.company_id = %(company_id)s))
    AND (%(account_after)s::text IS NULL
        OR (coalesce(bar.account_id, '') COLLATE "C", bar.bucket) > (%(account_after)s::text, %(bucket_after)s::integer))
ORDER BY coalesce(bar.account_id, '') COLLATE "C", bar.bucket LIMIT %(limit)s

-- name: daily
-- Counts by day, of a company and its accounts.
SELECT * FROM report_token_v1.reply_daily
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND (%(account_id)s::text IS NULL OR account_id = %(account_id)s)
    AND day BETWEEN coalesce(%(from_day)s::date, '-infinity') AND coalesce(%(to_day)s::date, 'infinity')
    AND (%(day_after)s::date IS NULL OR (day, coalesce(account_id, '') COLLATE "C") > (%(day_after)s::date, %(account_after)s::text))
ORDER BY day, coalesce(account_id, '') COLLATE "C" LIMIT %(limit)s

-- name: outcomes
-- What became of the inquiries of a company, by the day for which they count.
SELECT * FROM report_token_v1.inquiry_outcomes
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND (%(account_id)s::text IS NULL OR account_id = %(account_id)s)
    AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
    AND unit_day BETWEEN coalesce(%(from_day)s::date, '-infinity') AND coalesce(%(to_day)s::date, 'infinity')
    AND (%(day_after)s::date IS NULL OR (unit_day, inquiry_id) > (%(day_after)s::date, %(inquiry_after)s::text))
ORDER BY unit_day, inquiry_id LIMIT %(limit)s

-- name: corrections
-- Changes of final numbers of a company, by the day of the number.
SELECT * FROM report_token_v1.corrections
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND (%(account_id)s::text IS NULL OR account_id = %(account_id)s)
    AND as_of BETWEEN coalesce(%(from_day)s::date, '-infinity') AND coalesce(%(to_day)s::date, 'infinity')
    AND (%(day_after)s::date IS NULL OR (as_of, changed_at, coalesce(account_id, '') COLLATE "C", column_name)
        > (%(day_after)s::date, %(instant_after)s::timestamptz, %(account_after)s::text, %(column_after)s::text))
ORDER BY as_of, changed_at, coalesce(account_id, '') COLLATE "C", column_name LIMIT %(limit)s

-- name: due_soon
-- Units of a company that are not answered, the most urgent first. `deadline_passed`: it is not counted as unanswered yet, since an answer
-- may still become known (docs/decisions/0025).
SELECT *, due_at <= statement_timestamp() AS deadline_passed FROM report_token_v1.due_soon
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND (%(account_id)s::text IS NULL OR account_id = %(account_id)s)
    AND due_at <= coalesce(%(before)s::timestamptz, 'infinity')
    AND (%(instant_after)s::timestamptz IS NULL
        OR (due_at, inquiry_id) > (%(instant_after)s::timestamptz, %(inquiry_after)s::text))
ORDER BY due_at, inquiry_id LIMIT %(limit)s

-- name: diagnosis
-- Why newest rates of a company and its accounts are 0 or missing.
SELECT * FROM report_token_v1.zero_rate_diagnosis
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s AND (%(account_id)s::text IS NULL OR account_id = %(account_id)s)
    AND (%(account_after)s::text IS NULL
        OR (coalesce(account_id, '') COLLATE "C", cause) > (%(account_after)s::text, %(cause_after)s::text))
ORDER BY coalesce(account_id, '') COLLATE "C", cause LIMIT %(limit)s
