-- What must hold of the views whatever happens: each statement gives the rows that break it, so nothing is right.
-- Support runs all of it with psql (docs/failures.md); tests run each by name.

-- name: accounts_add_up
-- Each unit counts for one account, so in every row of reply_rate the accounts add up to the company. A rule set that
-- widens small samples gives each row a window of its own: an account with few units looks back to days that the company's
-- row does not have. Days on which the windows differ are left out for these, and for rows of an older rule version, whose
-- parameters are not held any more; for all others windows that differ are wrong.
SELECT r.rule_set, r.rule_version, r.company_id, r.as_of, c.column_name,
    sum(c.value) FILTER (WHERE r.level = 'company') AS company,
    coalesce(sum(c.value) FILTER (WHERE r.level = 'account'), 0) AS accounts
FROM report_v1.reply_rate r
LEFT JOIN ledger.rule_sets s ON s.name = r.rule_set AND s.identity = r.rule_version
CROSS JOIN LATERAL (VALUES
    ('inquiries', r.inquiries), ('excluded', r.excluded), ('counted', r.counted), ('timely', r.timely), ('late', r.late),
    ('unanswered', r.unanswered), ('unmeasured', r.unmeasured), ('pending', r.pending)
) c (column_name, value)
GROUP BY r.rule_set, r.rule_version, r.company_id, r.as_of, c.column_name
HAVING sum(c.value) FILTER (WHERE r.level = 'company')
        IS DISTINCT FROM coalesce(sum(c.value) FILTER (WHERE r.level = 'account'), 0)
    AND (count(DISTINCT r.window_start) = 1 OR bool_or(s.parameters -> 'small_sample' ->> 'mode' IS DISTINCT FROM 'widen'
        AND s.name IS NOT NULL))
ORDER BY r.rule_set, r.company_id, r.as_of, c.column_name;

-- name: one_window
-- Where nothing is widened, company and accounts of a day have one window, as long as the rule set says.
SELECT r.rule_set, r.company_id, r.account_id, r.as_of, r.window_start, r.window_end
FROM report_v1.reply_rate r
JOIN ledger.rule_sets s ON s.name = r.rule_set AND s.identity = r.rule_version
WHERE r.window_end <> r.as_of - (s.parameters ->> 'settle_days')::integer
    OR r.window_start > r.window_end - ((s.parameters ->> 'window_days')::integer - 1)
    OR r.window_start < r.window_end - ((s.parameters ->> 'window_days')::integer - 1)
        AND s.parameters -> 'small_sample' ->> 'mode' IS DISTINCT FROM 'widen'
ORDER BY r.rule_set, r.company_id, r.as_of, r.account_id;

-- name: parts_add_up
-- In each row counted = timely + late + unanswered, and no share is outside of 0 to 1.
SELECT rule_set, company_id, account_id, as_of, inquiries, excluded, counted, timely, late, unanswered, unmeasured, pending,
    rate, coverage
FROM report_v1.reply_rate
WHERE counted <> timely + late + unanswered OR inquiries < excluded
    OR rate * counted NOT BETWEEN timely - 0.000001 AND timely + 0.000001
    OR coverage NOT BETWEEN 0 AND 1 OR counted = 0 AND rate IS NOT NULL
ORDER BY rule_set, company_id, as_of, account_id;

-- name: histogram_adds_up
-- The buckets of a row are its answered units: together timely + late. Rows of older releases have none.
SELECT r.rule_set, r.company_id, r.account_id, r.as_of, r.timely + r.late AS answered, sum(h.answered) AS buckets
FROM report_v1.reply_rate r
JOIN report_v1.reply_time_histogram h ON h.rule_set = r.rule_set AND h.level = r.level AND h.company_id = r.company_id
    AND h.account_id IS NOT DISTINCT FROM r.account_id AND h.as_of = r.as_of
GROUP BY r.rule_set, r.company_id, r.account_id, r.as_of, r.timely, r.late
HAVING sum(h.answered) <> r.timely + r.late OR count(*) <> 25
ORDER BY r.rule_set, r.company_id, r.as_of, r.account_id;

-- name: histograms_add_up
-- Each bucket of the accounts adds up to the company's, where their windows are one.
SELECT h.rule_set, h.company_id, h.as_of, h.bucket, sum(h.answered) FILTER (WHERE h.level = 'company') AS company,
    coalesce(sum(h.answered) FILTER (WHERE h.level = 'account'), 0) AS accounts
FROM report_v1.reply_time_histogram h
JOIN report_v1.reply_rate r ON r.rule_set = h.rule_set AND r.level = h.level AND r.company_id = h.company_id
    AND r.account_id IS NOT DISTINCT FROM h.account_id AND r.as_of = h.as_of
GROUP BY h.rule_set, h.company_id, h.as_of, h.bucket
HAVING count(DISTINCT r.window_start) = 1 AND sum(h.answered) FILTER (WHERE h.level = 'company')
    IS DISTINCT FROM coalesce(sum(h.answered) FILTER (WHERE h.level = 'account'), 0)
ORDER BY h.rule_set, h.company_id, h.as_of, h.bucket;
