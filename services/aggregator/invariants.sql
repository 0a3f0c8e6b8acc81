-- by hand
-- Invariants of the views: each statement returns the rows that violate it, so an empty result is right.
-- Support runs the whole file with psql (docs/failures.md); tests run each statement by name.

-- name: accounts_add_up
-- Each unit counts for one account, so in every row of reply_rate the accounts add up to the company. A rule set that
-- widens small samples gives each row its own window: an account with few units reaches back to days outside the company's
-- window. Days with different windows are skipped for such rule sets, and for rows of an older rule version, whose
-- parameters are no longer stored; everywhere else different windows are wrong.
SELECT rate.rule_set, rate.rule_version, rate.company_id, rate.as_of, counts.column_name,
    sum(counts.value) FILTER (WHERE rate.level = 'company') AS company,
    coalesce(sum(counts.value) FILTER (WHERE rate.level = 'account'), 0) AS accounts
FROM report_v1.reply_rate rate
LEFT JOIN ledger.rule_sets rules ON rules.name = rate.rule_set AND rules.identity = rate.rule_version
CROSS JOIN LATERAL (VALUES
    ('inquiries', rate.inquiries), ('excluded', rate.excluded), ('counted', rate.counted), ('timely', rate.timely), ('late', rate.late),
    ('unanswered', rate.unanswered), ('unmeasured', rate.unmeasured), ('pending', rate.pending)
) counts (column_name, value)
GROUP BY rate.rule_set, rate.rule_version, rate.company_id, rate.as_of, counts.column_name
HAVING sum(counts.value) FILTER (WHERE rate.level = 'company')
        IS DISTINCT FROM coalesce(sum(counts.value) FILTER (WHERE rate.level = 'account'), 0)
    AND (count(DISTINCT rate.window_start) = 1 OR bool_or(rules.parameters -> 'small_sample' ->> 'mode' IS DISTINCT FROM 'widen'
        AND rules.name IS NOT NULL))
ORDER BY rate.rule_set, rate.company_id, rate.as_of, counts.column_name;

-- name: one_window
-- Unless windows are widened, company and accounts have the same window on a day, of the length that the rule set states.
SELECT rate.rule_set, rate.company_id, rate.account_id, rate.as_of, rate.window_start, rate.window_end
FROM report_v1.reply_rate rate
JOIN ledger.rule_sets rules ON rules.name = rate.rule_set AND rules.identity = rate.rule_version
WHERE rate.window_end <> rate.as_of - (rules.parameters ->> 'settle_days')::integer
    OR rate.window_start > rate.window_end - ((rules.parameters ->> 'window_days')::integer - 1)
    OR rate.window_start < rate.window_end - ((rules.parameters ->> 'window_days')::integer - 1)
        AND rules.parameters -> 'small_sample' ->> 'mode' IS DISTINCT FROM 'widen'
ORDER BY rate.rule_set, rate.company_id, rate.as_of, rate.account_id;

-- name: parts_add_up
-- In each row counted = timely + late + unanswered, and every share is between 0 and 1.
SELECT rule_set, company_id, account_id, as_of, inquiries, excluded, counted, timely, late, unanswered, unmeasured, pending,
    rate, coverage
FROM report_v1.reply_rate
WHERE counted <> timely + late + unanswered OR inquiries < excluded
    OR rate * counted NOT BETWEEN timely - 0.000001 AND timely + 0.000001
    OR coverage NOT BETWEEN 0 AND 1 OR counted = 0 AND rate IS NOT NULL
ORDER BY rule_set, company_id, as_of, account_id;

-- name: histogram_adds_up
-- The buckets of a row add up to its answered units, timely + late. Rows of older releases have no buckets.
SELECT rate.rule_set, rate.company_id, rate.account_id, rate.as_of, rate.timely + rate.late AS answered,
    sum(histogram.answered) AS buckets
FROM report_v1.reply_rate rate
JOIN report_v1.reply_time_histogram histogram ON histogram.rule_set = rate.rule_set AND histogram.level = rate.level
    AND histogram.company_id = rate.company_id AND histogram.account_id IS NOT DISTINCT FROM rate.account_id AND histogram.as_of = rate.as_of
GROUP BY rate.rule_set, rate.company_id, rate.account_id, rate.as_of, rate.timely, rate.late
HAVING sum(histogram.answered) <> rate.timely + rate.late OR count(*) <> 25
ORDER BY rate.rule_set, rate.company_id, rate.as_of, rate.account_id;

-- name: histograms_add_up
-- Each bucket of the accounts adds up to the company's where they have the same window.
SELECT histogram.rule_set, histogram.company_id, histogram.as_of, histogram.bucket,
    sum(histogram.answered) FILTER (WHERE histogram.level = 'company') AS company,
    coalesce(sum(histogram.answered) FILTER (WHERE histogram.level = 'account'), 0) AS accounts
FROM report_v1.reply_time_histogram histogram
JOIN report_v1.reply_rate rate ON rate.rule_set = histogram.rule_set AND rate.level = histogram.level
    AND rate.company_id = histogram.company_id AND rate.account_id IS NOT DISTINCT FROM histogram.account_id AND rate.as_of = histogram.as_of
GROUP BY histogram.rule_set, histogram.company_id, histogram.as_of, histogram.bucket
HAVING count(DISTINCT rate.window_start) = 1 AND sum(histogram.answered) FILTER (WHERE histogram.level = 'company')
    IS DISTINCT FROM coalesce(sum(histogram.answered) FILTER (WHERE histogram.level = 'account'), 0)
ORDER BY histogram.rule_set, histogram.company_id, histogram.as_of, histogram.bucket;
