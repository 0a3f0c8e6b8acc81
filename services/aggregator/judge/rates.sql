-- name: workspace
-- Rows of reply_rate as they are counted from `judged`: all columns of ledger.rates, in its order. Emptied at the end of the
-- transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS counted (LIKE ledger.rates) ON COMMIT DELETE ROWS

-- name: day_end_workspace
-- When the day of each of these rows ends in the zone of the rule set.
CREATE TEMPORARY TABLE IF NOT EXISTS day_end (company_id text COLLATE "C", as_of date, over_at timestamptz) ON COMMIT DELETE ROWS

-- name: clear_workspace
-- Removes the rows of another rule set counted in this transaction.
WITH day_ends AS (DELETE FROM day_end) DELETE FROM counted

-- name: count
-- Rows for the given as_of days: counts by company and by account, also of accounts without inquiries. The one list of the
-- columns of reply_rate; `keep_changed` and `correct` name those that they compare, and a test holds all of them together.
INSERT INTO counted (
    rule_set, rule_version, company_id, level, account_id, as_of, window_start, window_end, inquiries, excluded, counted, timely,
    late, unanswered, unmeasured, pending, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds, rate_shown, coverage,
    buckets, state, computed_at, valid_from
)
WITH judgement AS MATERIALIZED (
    SELECT company_id COLLATE "C" AS company_id, as_of, now, first_day, last_day, state
    FROM unnest(%(judged_companies)s::text[], %(as_ofs)s::date[], %(nows)s::timestamptz[], %(first_days)s::date[],
        %(last_days)s::date[], %(states)s::text[]) judgement (company_id, as_of, now, first_day, last_day, state)
    WHERE as_of IS NOT NULL
),
-- Accounts, and from when on a fact of a known inquiry names them.
named_account AS MATERIALIZED (
    SELECT company_id, account_id, min(at) AS named_at FROM (
        SELECT company_id, account_id, timestamptz '-infinity' AS at FROM registry.accounts
        WHERE company_id = ANY (%(companies)s)
        UNION ALL
        SELECT company_id, account_id, received_at FROM ledger.inquiries WHERE company_id = ANY (%(companies)s)
        UNION ALL
        SELECT company_id, reply.account_id, greatest(reply.replied_at, inquiry.received_at)
        FROM ledger.replies reply JOIN ledger.inquiries inquiry USING (company_id, inquiry_id)
        WHERE reply.company_id = ANY (%(companies)s) AND inquiry.company_id = ANY (%(companies)s)
            AND inquiry.received_at IS NOT NULL
        UNION ALL
        SELECT company_id, status.account_id, greatest(status.at, inquiry.received_at)
        FROM ledger.statuses status JOIN ledger.inquiries inquiry USING (company_id, inquiry_id)
        WHERE status.company_id = ANY (%(companies)s) AND inquiry.company_id = ANY (%(companies)s)
            AND inquiry.received_at IS NOT NULL AND status.account_id <> ''
    ) mention WHERE account_id IS NOT NULL AND at IS NOT NULL
    GROUP BY company_id, account_id
),
-- The company, and each of its accounts known at the judgement: a row of reply_rate each.
rate_key AS MATERIALIZED (
    SELECT judgement.*, 'company' AS level, '' COLLATE "C" AS account_id FROM judgement
    UNION ALL
    SELECT judgement.*, 'account', account.account_id
    FROM judgement
    JOIN named_account account ON account.company_id = judgement.company_id AND account.named_at < judgement.now
),
-- Every inquiry twice: for the company and for its owner.
received_inquiry AS MATERIALIZED (
    SELECT company_id, 'company' AS level, '' COLLATE "C" AS account_id, as_of, own_day AS day, outcome
    FROM judged WHERE as_of IS NOT NULL
    UNION ALL SELECT company_id, 'account', owner, as_of, own_day, outcome FROM judged WHERE as_of IS NOT NULL
),
-- Every unit twice: for the company and for the unit's account.
judged_unit AS MATERIALIZED (
    SELECT company_id, 'company' AS level, '' COLLATE "C" AS account_id, as_of, unit_day AS day, outcome, covered, reply_seconds,
        received_at, inquiry_id,
        CASE WHEN reply_seconds <= 86400 THEN greatest(1, ceil(reply_seconds / 3600)) ELSE 25 END::integer AS bucket
    FROM judged WHERE as_of IS NOT NULL AND inquiry_id = unit_inquiry_id
    UNION ALL SELECT company_id, 'account', account_id, as_of, unit_day, outcome, covered, reply_seconds, received_at, inquiry_id,
        CASE WHEN reply_seconds <= 86400 THEN greatest(1, ceil(reply_seconds / 3600)) ELSE 25 END::integer
    FROM judged WHERE as_of IS NOT NULL AND inquiry_id = unit_inquiry_id
),
-- Where a small sample widens the window: the day of the min_counted-th most recent counted unit within reach_days. In a window
-- that counts enough units that day is not before the window's first day.
widened_window AS MATERIALIZED (
    SELECT recent.company_id, recent.level, recent.account_id, recent.as_of, min(recent.day) AS first_day FROM (
        SELECT unit.company_id, unit.level, unit.account_id, unit.as_of, unit.day, row_number() OVER (
                PARTITION BY unit.company_id, unit.level, unit.account_id, unit.as_of
                ORDER BY unit.received_at DESC, unit.inquiry_id DESC
            ) AS position
        FROM judged_unit unit JOIN judgement ON judgement.company_id = unit.company_id AND judgement.as_of = unit.as_of
        WHERE %(small_sample)s = 'widen' AND unit.outcome IN ('timely', 'late', 'unanswered')
            AND unit.day BETWEEN judgement.last_day - (%(reach_days)s - 1) AND judgement.last_day
    ) recent WHERE recent.position <= %(min_counted)s
    GROUP BY recent.company_id, recent.level, recent.account_id, recent.as_of
),
rate_window AS MATERIALIZED (
    SELECT key.company_id, key.level, key.account_id, key.as_of, least(key.first_day, widened.first_day) AS first_day,
        key.last_day, key.state
    FROM rate_key key LEFT JOIN widened_window widened USING (company_id, level, account_id, as_of)
),
inquiry_count AS MATERIALIZED (
    SELECT span.company_id, span.level, span.account_id, span.as_of, count(*) AS inquiries,
        count(*) FILTER (WHERE inquiry.outcome = 'excluded') AS excluded
    FROM rate_window span JOIN received_inquiry inquiry USING (company_id, level, account_id, as_of)
    WHERE inquiry.day BETWEEN span.first_day AND span.last_day
    GROUP BY span.company_id, span.level, span.account_id, span.as_of
),
unit_count AS MATERIALIZED (
    SELECT span.company_id, span.level, span.account_id, span.as_of,
        count(*) FILTER (WHERE unit.outcome = 'timely') AS timely,
        count(*) FILTER (WHERE unit.outcome = 'late') AS late,
        count(*) FILTER (WHERE unit.outcome = 'unanswered') AS unanswered,
        count(*) FILTER (WHERE unit.outcome = 'unmeasured') AS unmeasured,
        count(*) FILTER (WHERE unit.outcome = 'pending') AS pending,
        count(*) FILTER (WHERE unit.covered AND unit.outcome IN ('timely', 'late', 'unanswered', 'unmeasured')) AS covered,
        CASE %(average_over)s WHEN 'answered' THEN avg(unit.reply_seconds) ELSE (
            SELECT avg(seconds) FROM unnest(
                (array_agg(unit.reply_seconds ORDER BY unit.reply_seconds) FILTER (WHERE unit.reply_seconds IS NOT NULL))
                [1:ceil(0.8 * count(unit.reply_seconds))::integer]
            ) fastest (seconds)
        ) END::double precision AS mean_seconds,
        percentile_cont(ARRAY[0.5, 0.9, 0.95]) WITHIN GROUP (ORDER BY unit.reply_seconds::double precision) AS percentiles,
        array_agg(unit.bucket) FILTER (WHERE unit.reply_seconds IS NOT NULL) AS answered_buckets
    FROM rate_window span JOIN judged_unit unit USING (company_id, level, account_id, as_of)
    WHERE unit.day BETWEEN span.first_day AND span.last_day
    GROUP BY span.company_id, span.level, span.account_id, span.as_of
),
counts AS MATERIALIZED (
    SELECT span.company_id, span.level, span.account_id, span.as_of, span.first_day AS window_start,
        span.last_day AS window_end, coalesce(inquiry.inquiries, 0) AS inquiries, coalesce(inquiry.excluded, 0) AS excluded,
        coalesce(unit.timely + unit.late + unit.unanswered, 0) AS counted, coalesce(unit.timely, 0) AS timely,
        coalesce(unit.late, 0) AS late, coalesce(unit.unanswered, 0) AS unanswered, coalesce(unit.unmeasured, 0) AS unmeasured,
        coalesce(unit.pending, 0) AS pending, unit.mean_seconds, unit.percentiles,
        unit.covered::numeric / nullif(unit.timely + unit.late + unit.unanswered + unit.unmeasured, 0) AS coverage,
        (SELECT array_agg(coalesce(answered_in.answered, 0) ORDER BY buckets.bucket) FROM generate_series(1, 25) buckets (bucket)
            LEFT JOIN (SELECT bucket, count(*)::integer AS answered FROM unnest(unit.answered_buckets) bucket GROUP BY bucket) answered_in
            ON answered_in.bucket = buckets.bucket) AS buckets,
        span.state
    FROM rate_window span
    LEFT JOIN inquiry_count inquiry USING (company_id, level, account_id, as_of)
    LEFT JOIN unit_count unit USING (company_id, level, account_id, as_of)
),
rated AS MATERIALIZED (
    SELECT counts.*, CASE WHEN coverage >= %(min_coverage)s AND (%(small_sample)s <> 'hide' OR counted >= %(min_counted)s)
        THEN timely::numeric / nullif(counted, 0) END AS rate
    FROM counts
)
SELECT %(rule_set)s, %(identity)s, company_id, level, account_id, as_of, window_start, window_end, inquiries, excluded, counted,
    timely, late, unanswered, unmeasured, pending, rate, mean_seconds, percentiles[1], percentiles[2], percentiles[3],
    CASE %(rounding)s WHEN 'down-1' THEN trunc(100 * rate, 1) WHEN 'half-up-0' THEN round(100 * rate) ELSE 100 * rate END,
    coverage, buckets, state, %(now)s, %(now)s
FROM rated

-- name: insert_day_ends
-- When the day of each counted row ends.
INSERT INTO day_end
SELECT company_id, as_of, over_at
FROM unnest(%(judged_companies)s::text[], %(as_ofs)s::date[], %(days_over_at)s::timestamptz[]) day (company_id, as_of, over_at)
WHERE as_of IS NOT NULL

-- name: delete_before_first
-- A company has no rate before its first known inquiry: an erase removed what earlier rows were counted from.
WITH deleted AS (
    DELETE FROM rates stored USING unnest(%(planned_companies)s::text[], %(first_rate_days)s::date[]) company (company_id, first_day)
    WHERE stored.rule_set = %(rule_set)s AND stored.company_id = ANY (%(companies)s) AND stored.company_id = company.company_id
        AND stored.as_of < company.first_day
    RETURNING stored.company_id, stored.level, stored.account_id, stored.as_of, stored.state, stored.valid_to
)
INSERT INTO corrections (rule_set, rule_version, level, company_id, account_id, as_of, column_name, cause, changed_at)
SELECT %(rule_set)s, %(identity)s, level, company_id, account_id, as_of, '*', 'erase', %(now)s
FROM deleted WHERE state = 'final' AND valid_to IS NULL
ORDER BY company_id, as_of, level DESC, account_id

-- name: remove_unnamed_accounts
-- An account that no fact names any more has no row: an erase removed the facts, or an earlier record of the inquiry names
-- another account. Rows that were shown after their day had ended stay as history, except after an erase.
WITH unnamed AS MATERIALIZED (
    SELECT stored.company_id, stored.account_id, stored.as_of, stored.valid_from, stored.state, change.cause,
        change.cause <> 'erase' AND stored.computed_at >= day_end.over_at AS becomes_history
    FROM counted company
    JOIN day_end ON day_end.company_id = company.company_id AND day_end.as_of = company.as_of
    JOIN rates stored ON stored.rule_set = %(rule_set)s AND stored.company_id = ANY (%(companies)s)
        AND stored.company_id = company.company_id AND stored.level = 'account' AND stored.as_of = company.as_of
        AND stored.valid_to IS NULL
    JOIN unnest(%(planned_companies)s::text[], %(causes)s::text[]) change (company_id, cause)
        ON change.company_id = company.company_id
    WHERE company.level = 'company' AND NOT EXISTS (
        SELECT FROM counted account WHERE account.company_id = stored.company_id AND account.level = 'account'
            AND account.account_id = stored.account_id AND account.as_of = stored.as_of
    )
),
correction AS (
    INSERT INTO corrections (rule_set, rule_version, level, company_id, account_id, as_of, column_name, cause, changed_at)
    SELECT %(rule_set)s, %(identity)s, 'account', company_id, account_id, as_of, '*', cause, %(now)s
    FROM unnamed WHERE state = 'final' ORDER BY company_id, as_of, account_id
),
retired AS (
    UPDATE rates stored SET valid_to = %(now)s FROM unnamed
    WHERE unnamed.becomes_history AND stored.rule_set = %(rule_set)s AND stored.company_id = ANY (%(companies)s)
        AND stored.company_id = unnamed.company_id AND stored.level = 'account' AND stored.account_id = unnamed.account_id
        AND stored.as_of = unnamed.as_of AND stored.valid_from = unnamed.valid_from
)
DELETE FROM rates stored USING unnamed
WHERE NOT unnamed.becomes_history AND stored.rule_set = %(rule_set)s AND stored.company_id = ANY (%(companies)s)
    AND stored.company_id = unnamed.company_id AND stored.level = 'account' AND stored.account_id = unnamed.account_id
    AND stored.as_of = unnamed.as_of AND stored.valid_from = unnamed.valid_from

-- name: keep_changed
-- Rows equal to those shown need not be written: only others stay in the workspace. rate_shown follows from rate and rule
-- version. Each condition repeats the list of companies for the index: joined as sets, the whole table would be read.
DELETE FROM counted new USING rates stored
WHERE stored.rule_set = %(rule_set)s AND stored.company_id = ANY (%(companies)s) AND stored.company_id = new.company_id
    AND stored.level = new.level AND stored.account_id = new.account_id AND stored.as_of = new.as_of AND stored.valid_to IS NULL
    AND (stored.rule_version, stored.window_start, stored.window_end, stored.inquiries, stored.excluded, stored.counted,
            stored.timely, stored.late, stored.unanswered, stored.unmeasured, stored.pending, stored.rate, stored.mean_seconds,
            stored.median_seconds, stored.p90_seconds, stored.p95_seconds, stored.coverage, stored.buckets, stored.state)
        IS NOT DISTINCT FROM (new.rule_version, new.window_start, new.window_end, new.inquiries, new.excluded, new.counted,
            new.timely, new.late, new.unanswered, new.unmeasured, new.pending, new.rate, new.mean_seconds,
            new.median_seconds, new.p90_seconds, new.p95_seconds, new.coverage, new.buckets, new.state)

-- name: correct
-- A change of a final number is recorded, column by column; after an erase without the old value. Compared is the newest
-- version, also one that is not shown now (its rule set was deactivated meanwhile).
WITH newest AS MATERIALIZED (
    SELECT DISTINCT ON (company_id, level, account_id, as_of) * FROM rates
    WHERE rule_set = %(rule_set)s AND company_id = ANY (%(companies)s)
    ORDER BY company_id, level, account_id, as_of, valid_from DESC
)
INSERT INTO corrections
    (rule_set, rule_version, level, company_id, account_id, as_of, column_name, old_value, new_value, cause, changed_at)
SELECT %(rule_set)s, %(identity)s, new.level, new.company_id, new.account_id, new.as_of, compared.name,
    CASE WHEN change.cause <> 'erase' THEN compared.old END, compared.new, change.cause, %(now)s
FROM counted new
JOIN newest stored ON stored.company_id = new.company_id AND stored.level = new.level AND stored.account_id = new.account_id
    AND stored.as_of = new.as_of AND stored.state = 'final'
JOIN unnest(%(planned_companies)s::text[], %(causes)s::text[]) change (company_id, cause) ON change.company_id = new.company_id
CROSS JOIN LATERAL (VALUES
    (1, 'window_start', stored.window_start::text, new.window_start::text),
    (2, 'window_end', stored.window_end::text, new.window_end::text),
    (3, 'inquiries', stored.inquiries::text, new.inquiries::text), (4, 'excluded', stored.excluded::text, new.excluded::text),
    (5, 'counted', stored.counted::text, new.counted::text), (6, 'timely', stored.timely::text, new.timely::text),
    (7, 'late', stored.late::text, new.late::text), (8, 'unanswered', stored.unanswered::text, new.unanswered::text),
    (9, 'unmeasured', stored.unmeasured::text, new.unmeasured::text), (10, 'pending', stored.pending::text, new.pending::text),
    (11, 'rate', trim_scale(stored.rate)::text, trim_scale(new.rate)::text),
    (12, 'mean_seconds', stored.mean_seconds::text, new.mean_seconds::text),
    (13, 'median_seconds', stored.median_seconds::text, new.median_seconds::text),
    (14, 'p90_seconds', stored.p90_seconds::text, new.p90_seconds::text),
    (15, 'p95_seconds', stored.p95_seconds::text, new.p95_seconds::text),
    (16, 'rate_shown', trim_scale(stored.rate_shown)::text, trim_scale(new.rate_shown)::text),
    (17, 'coverage', trim_scale(stored.coverage)::text, trim_scale(new.coverage)::text),
    (18, 'state', stored.state, new.state)
) compared (position, name, old, new)
WHERE compared.old IS DISTINCT FROM compared.new
ORDER BY new.company_id, new.as_of, new.level DESC, new.account_id, compared.position

-- name: retire
-- A version that was shown after its day had ended stays as history, except one whose facts an erase removed.
UPDATE rates stored SET valid_to = %(now)s
FROM counted new
JOIN day_end ON day_end.company_id = new.company_id AND day_end.as_of = new.as_of
JOIN unnest(%(planned_companies)s::text[], %(causes)s::text[]) change (company_id, cause) ON change.company_id = new.company_id
WHERE change.cause <> 'erase' AND stored.rule_set = %(rule_set)s AND stored.company_id = ANY (%(companies)s)
    AND stored.company_id = new.company_id AND stored.level = new.level AND stored.account_id = new.account_id
    AND stored.as_of = new.as_of AND stored.valid_to IS NULL AND stored.computed_at >= day_end.over_at

-- name: delete_running
-- A version computed while its day was still running was never that day's number.
DELETE FROM rates stored USING counted new
WHERE stored.rule_set = %(rule_set)s AND stored.company_id = ANY (%(companies)s) AND stored.company_id = new.company_id
    AND stored.level = new.level AND stored.account_id = new.account_id AND stored.as_of = new.as_of AND stored.valid_to IS NULL

-- name: add
-- New versions of rows of reply_rate. The tables have the same columns in the same order (a test compares them).
INSERT INTO rates SELECT * FROM counted
