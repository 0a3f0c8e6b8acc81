-- by hand
-- name: rates
-- Rows of report_v1.reply_rate or report_v1.reply_rate_latest ({view}), all of them or of one company, rule set or day.
SELECT * FROM {view}
WHERE (%(company)s::text IS NULL OR company_id = %(company)s) AND (%(rules)s::text IS NULL OR rule_set = %(rules)s)
    AND (%(as_of)s::date IS NULL OR as_of = %(as_of)s)
ORDER BY rule_set, company_id, level DESC, account_id

-- name: trend
-- The rates of the last 30 days.
SELECT rule_set, company_id, account_id, as_of, rate FROM report_v1.reply_rate
WHERE (%(company)s::text IS NULL OR company_id = %(company)s) AND (%(rules)s::text IS NULL OR rule_set = %(rules)s)
    AND as_of > %(last)s::date - 30 AND as_of <= %(last)s::date

-- name: histograms
-- Answered units per bucket of reply time, for given rule sets, companies and days.
SELECT rule_set, company_id, array_agg(answered ORDER BY bucket) AS counts FROM report_v1.reply_time_histogram
JOIN unnest(%(rule_sets)s::text[], %(companies)s::text[], %(days)s::date[]) shown (rule_set, company_id, as_of)
    USING (rule_set, company_id, as_of)
WHERE level = 'company' GROUP BY rule_set, company_id
