-- name: form
-- Whether rows of reply_rate are stored in ledger.rate_ranges; for a day after an upgrade they are not.
SELECT in_ranges FROM ledger.rates_form

-- name: keep
-- Begins that form when its time has come, and frees ledger.rates once it is empty. Returns whether it has begun.
SELECT ledger.keep_rates()

-- name: workspace
-- The rows of the touched days, with the columns of ledger.rates, while a judgement changes them. Emptied at the end of the transaction.
CREATE TEMPORARY TABLE touched_rates (LIKE ledger.rates) ON COMMIT DELETE ROWS

-- name: loaded_workspace
-- What was stored of them.
CREATE TEMPORARY TABLE loaded_range (LIKE ledger.rate_ranges) ON COMMIT DELETE ROWS

-- name: new_workspace
-- What is to be stored.
CREATE TEMPORARY TABLE new_range (LIKE ledger.rate_ranges) ON COMMIT DELETE ROWS

-- name: clear_workspace
-- Removes what an earlier judgement of this transaction has loaded.
WITH rate AS (DELETE FROM touched_rates), loaded AS (DELETE FROM loaded_range) DELETE FROM new_range

-- name: load_touched
-- What is stored of the days that were counted, of the days next to them, and of days before the first with a rate.
INSERT INTO loaded_range
SELECT stored.* FROM ledger.rate_ranges stored JOIN (
    SELECT planned.company_id, planned.first_rate_day, counted_day.first_as_of, counted_day.last_as_of
    FROM (
        SELECT company_id COLLATE "C" AS company_id, max(first_rate_day) AS first_rate_day
        FROM unnest(%(planned_companies)s::text[], %(first_rate_days)s::date[]) planned (company_id, first_rate_day) GROUP BY 1
    ) planned LEFT JOIN (
        SELECT company_id, min(as_of) AS first_as_of, max(as_of) AS last_as_of FROM counted GROUP BY company_id
    ) counted_day USING (company_id)
) touched ON touched.company_id = stored.company_id
WHERE stored.rule_set = %(rule_set)s AND stored.company_id = ANY (%(companies)s) AND (
    stored.first_as_of < touched.first_rate_day
    OR stored.first_as_of <= touched.last_as_of + 1 AND stored.first_as_of + stored.days >= touched.first_as_of
)

-- name: load_shown
-- rare: a rule set is deactivated.
-- What is shown of a rule set.
INSERT INTO loaded_range SELECT * FROM ledger.rate_ranges WHERE rule_set = %(rule_set)s AND valid_to IS NULL

-- name: companies_loaded
-- rare: a rule set is deactivated.
-- The companies with a row in the workspace, and those whose every row was deleted there.
SELECT company_id FROM touched_rates UNION SELECT company_id FROM loaded_range

-- name: expand
-- The loaded ranges, a row for each day.
INSERT INTO touched_rates (
    rule_set, rule_version, level, company_id, account_id, as_of, window_start, window_end, inquiries, excluded, counted, timely, late,
    unanswered, unmeasured, pending, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds, rate_shown, coverage, state,
    computed_at, valid_from, valid_to, buckets
)
SELECT rule_set, rule_version, CASE account_id WHEN '' THEN 'company' ELSE 'account' END, company_id, account_id,
    first_as_of + day, first_as_of + (day - window_starts_before), first_as_of + (day - window_ends_before), inquiries, excluded,
    counted, timely, late, unanswered, unmeasured, pending, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds, rate_shown,
    coverage, CASE WHEN is_final THEN 'final' ELSE 'provisional' END, coalesce(computed_ats[day + 1], computed_at),
    coalesce(valid_from, computed_ats[day + 1], computed_at), valid_to,
    CASE WHEN buckets IS NOT NULL
        THEN buckets[2:] || (array_fill(0, ARRAY[24]))[:25 - greatest(cardinality(buckets), 1)] || coalesce(buckets[1], 0) END
FROM (SELECT loaded.*, generate_series(0, loaded.days - 1) AS day FROM loaded_range loaded) each_day

-- name: take_days
-- Rows that an earlier release stored become part of the workspace: those of the months of these days, as ranges end with a month, and
-- those before the first day with a rate. A statement that takes all of a large company would reach its limit; `take_month` does the others.
WITH touched AS (
    SELECT planned.company_id, planned.first_rate_day, counted_day.first_taken, counted_day.first_left
    FROM (
        SELECT company_id COLLATE "C" AS company_id, max(first_rate_day) AS first_rate_day
        FROM unnest(%(planned_companies)s::text[], %(first_rate_days)s::date[]) planned (company_id, first_rate_day) GROUP BY 1
    ) planned LEFT JOIN (
        SELECT company_id, date_trunc('month', min(as_of) - 1)::date AS first_taken,
            (date_trunc('month', max(as_of) + 1) + interval '1 month')::date AS first_left
        FROM counted GROUP BY company_id
    ) counted_day USING (company_id)
),
taken AS (
    DELETE FROM ledger.rate_days stored USING touched
    WHERE stored.rule_set = %(rule_set)s AND stored.company_id = ANY (%(companies)s) AND stored.company_id = touched.company_id AND (
        stored.as_of < touched.first_rate_day OR stored.as_of >= touched.first_taken AND stored.as_of < touched.first_left
    )
    RETURNING stored.*
)
INSERT INTO touched_rates SELECT * FROM taken

-- name: take_shown
-- rare: a rule set is deactivated.
-- Those that are shown of a rule set.
WITH taken AS (
    DELETE FROM ledger.rate_days stored WHERE stored.rule_set = %(rule_set)s AND stored.valid_to IS NULL RETURNING stored.*
)
INSERT INTO touched_rates SELECT * FROM taken

-- name: months_left
-- rare: an aggregator has nothing else to do after an upgrade.
-- The months of a company and rule set of which an earlier release stored rows.
SELECT DISTINCT date_trunc('month', as_of)::date AS month FROM ledger.rates
WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s ORDER BY month

-- name: take_month
-- rare: an aggregator has nothing else to do after an upgrade.
-- Those of one of them.
WITH taken AS (
    DELETE FROM ledger.rate_days stored WHERE stored.rule_set = %(rule_set)s AND stored.company_id = %(company_id)s
        AND stored.as_of >= %(month)s AND stored.as_of < (%(month)s::date + interval '1 month')::date
    RETURNING stored.*
)
INSERT INTO touched_rates SELECT * FROM taken

-- name: form_ranges
-- Consecutive days of a month whose rows have the same content, and were shown until the same instant, are one row. A number is the same
-- only if it is written in the same way.
INSERT INTO new_range (
    rule_set, rule_version, company_id, account_id, first_as_of, days, window_starts_before, window_ends_before, inquiries, excluded,
    counted, timely, late, unanswered, unmeasured, pending, rate, rate_shown, coverage, mean_seconds, median_seconds, p90_seconds,
    p95_seconds, is_final, computed_at, computed_ats, valid_from, valid_to, buckets
)
WITH content AS (
    SELECT touched_rates.*, as_of - window_start AS window_starts_before, as_of - window_end AS window_ends_before,
        CASE WHEN valid_from <> computed_at THEN valid_from END AS own_valid_from, state = 'final' AS is_final
    FROM touched_rates
),
step AS (
    SELECT content.*, date_part('day', as_of) = 1 OR ROW (as_of - 1, rule_version, window_starts_before, window_ends_before, inquiries,
            excluded, counted, timely, late, unanswered, unmeasured, pending, rate, scale(rate), rate_shown, scale(rate_shown), coverage,
            scale(coverage), mean_seconds, median_seconds, p90_seconds, p95_seconds, is_final, own_valid_from, buckets)
        IS DISTINCT FROM lag(ROW (as_of, rule_version, window_starts_before, window_ends_before, inquiries,
            excluded, counted, timely, late, unanswered, unmeasured, pending, rate, scale(rate), rate_shown, scale(rate_shown), coverage,
            scale(coverage), mean_seconds, median_seconds, p90_seconds, p95_seconds, is_final, own_valid_from, buckets)) OVER versions AS begins
    FROM content WINDOW versions AS (PARTITION BY company_id, account_id, valid_to ORDER BY as_of, valid_from)
),
range_day AS (
    SELECT step.*, count(*) FILTER (WHERE begins) OVER (
            PARTITION BY company_id, account_id, valid_to ORDER BY as_of, valid_from ROWS UNBOUNDED PRECEDING
        ) AS range_no
    FROM step
)
SELECT rule_set, rule_version, company_id, account_id, min(as_of), count(*)::smallint, window_starts_before::smallint,
    window_ends_before::smallint, inquiries::integer, excluded::integer, counted::integer, timely::integer, late::integer,
    unanswered::integer, unmeasured::integer, pending::integer, rate, rate_shown, coverage, mean_seconds, median_seconds, p90_seconds,
    p95_seconds, is_final, (array_agg(computed_at ORDER BY as_of))[1],
    CASE WHEN min(computed_at) < max(computed_at) THEN array_agg(computed_at ORDER BY as_of) END, own_valid_from, valid_to,
    CASE WHEN buckets = array_fill(0, ARRAY[25]) THEN '{}' WHEN buckets IS NOT NULL THEN buckets[25:25] || buckets[:(
        SELECT coalesce(max(hour), 0) FROM generate_series(1, 24) hour WHERE buckets[hour] <> 0
    )] END
FROM range_day
GROUP BY rule_set, company_id, account_id, valid_to, range_no, rule_version, window_starts_before, window_ends_before, inquiries, excluded,
    counted, timely, late, unanswered, unmeasured, pending, rate, rate_shown, coverage, mean_seconds, median_seconds, p90_seconds,
    p95_seconds, is_final, own_valid_from, buckets

-- name: delete_outdated
-- Stored ranges that are not any more what they were. `*=` compares every byte.
DELETE FROM ledger.rate_ranges stored USING loaded_range loaded
WHERE stored.rule_set = %(rule_set)s AND stored.company_id = ANY (%(companies)s) AND stored.company_id = loaded.company_id
    AND stored.account_id = loaded.account_id AND stored.first_as_of = loaded.first_as_of
    AND stored.computed_at = loaded.computed_at AND stored.valid_to IS NOT DISTINCT FROM loaded.valid_to
    AND NOT EXISTS (
        SELECT FROM new_range new WHERE new.company_id = loaded.company_id AND new.account_id = loaded.account_id
            AND new.first_as_of = loaded.first_as_of AND new.computed_at = loaded.computed_at AND new *= loaded
    )

-- name: store_new
-- Ranges that are not stored yet.
INSERT INTO ledger.rate_ranges
SELECT new.* FROM new_range new
WHERE NOT EXISTS (
    SELECT FROM loaded_range loaded WHERE loaded.company_id = new.company_id AND loaded.account_id = new.account_id
        AND loaded.first_as_of = new.first_as_of AND loaded.computed_at = new.computed_at AND loaded *= new
)
ORDER BY new.company_id, new.account_id, new.first_as_of

-- name: remaining
-- Some rule sets and companies of which an earlier release stored rows, the companies locked; none that another process judges.
WITH RECURSIVE stored AS (
    (SELECT rate.rule_set, rate.company_id, 1 AS place FROM ledger.rates rate ORDER BY rate.rule_set, rate.company_id LIMIT 1)
    UNION ALL
    SELECT next_rate.rule_set, next_rate.company_id, stored.place + 1 FROM stored CROSS JOIN LATERAL (
        SELECT rate.rule_set, rate.company_id FROM ledger.rates rate
        WHERE (rate.rule_set, rate.company_id) > (stored.rule_set, stored.company_id)
        ORDER BY rate.rule_set, rate.company_id LIMIT 1
    ) next_rate WHERE stored.place < 4 * %(most)s + cardinality(%(quarantined)s::text[])
)
SELECT stored.rule_set, company.company_id
FROM ledger.companies company JOIN stored ON stored.company_id = company.company_id
WHERE company.company_id = ANY (ARRAY(SELECT stored.company_id FROM stored)) AND NOT company.company_id = ANY (%(quarantined)s)
ORDER BY company.company_id, stored.rule_set LIMIT %(most)s FOR UPDATE OF company SKIP LOCKED
