-- name: workspace
-- Rows of reply_rate as they are counted from `judged`; gone with the transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS counted (
    company_id text COLLATE "C", level text COLLATE "C", account_id text COLLATE "C", as_of date, window_start date,
    window_end date, inquiries bigint, excluded bigint, counted bigint, timely bigint, late bigint, unanswered bigint,
    unmeasured bigint, pending bigint, rate numeric, mean_seconds double precision, median_seconds double precision,
    p90_seconds double precision, p95_seconds double precision, rate_shown numeric, coverage numeric, buckets integer[],
    state text COLLATE "C", over_at timestamptz
) ON COMMIT DELETE ROWS

-- name: forget_last
-- What another rule set left in this transaction.
DELETE FROM counted

-- name: count
-- Rows for the given as_of days: counts by company and by account, also of accounts without inquiries.
INSERT INTO counted
WITH at AS MATERIALIZED (
    SELECT company_id COLLATE "C" AS company_id, as_of, now, first_day, last_day, state, over_at
    FROM unnest(%(each)s::text[], %(as_ofs)s::date[], %(nows)s::timestamptz[], %(firsts)s::date[], %(lasts)s::date[],
        %(states)s::text[], %(overs)s::timestamptz[]) at (company_id, as_of, now, first_day, last_day, state, over_at)
    WHERE as_of IS NOT NULL
),
-- Accounts, and from when on a fact of a known inquiry names them.
account AS MATERIALIZED (
    SELECT company_id, account_id, min(at) AS named_at FROM (
        SELECT company_id, account_id, timestamptz '-infinity' AS at FROM registry.accounts
        WHERE company_id = ANY (%(companies)s)
        UNION ALL
        SELECT company_id, account_id, received_at FROM ledger.inquiries WHERE company_id = ANY (%(companies)s)
        UNION ALL
        SELECT company_id, r.account_id, greatest(r.replied_at, i.received_at)
        FROM ledger.replies r JOIN ledger.inquiries i USING (company_id, inquiry_id)
        WHERE r.company_id = ANY (%(companies)s) AND i.company_id = ANY (%(companies)s) AND i.received_at IS NOT NULL
        UNION ALL
        SELECT company_id, s.account_id, greatest(s.at, i.received_at)
        FROM ledger.statuses s JOIN ledger.inquiries i USING (company_id, inquiry_id)
        WHERE s.company_id = ANY (%(companies)s) AND i.company_id = ANY (%(companies)s) AND i.received_at IS NOT NULL
            AND s.account_id <> ''
    ) named WHERE account_id IS NOT NULL AND at IS NOT NULL
    GROUP BY company_id, account_id
),
who AS MATERIALIZED (
    SELECT at.*, 'company' AS level, '' COLLATE "C" AS account_id FROM at
    UNION ALL
    SELECT at.*, 'account', a.account_id FROM at JOIN account a ON a.company_id = at.company_id AND a.named_at < at.now
),
-- Every inquiry for the company and for an account: an inquiry for its own owner's, a unit for the unit's.
received_by AS MATERIALIZED (
    SELECT company_id, 'company' AS level, '' COLLATE "C" AS account_id, as_of, own_day AS day, outcome
    FROM judged WHERE as_of IS NOT NULL
    UNION ALL SELECT company_id, 'account', owner, as_of, own_day, outcome FROM judged WHERE as_of IS NOT NULL
),
unit_of AS MATERIALIZED (
    SELECT company_id, 'company' AS level, '' COLLATE "C" AS account_id, as_of, unit_day AS day, outcome, covered, reply_seconds,
        received_at, inquiry_id,
        CASE WHEN reply_seconds <= 86400 THEN greatest(1, ceil(reply_seconds / 3600)) ELSE 25 END::integer AS bucket
    FROM judged WHERE as_of IS NOT NULL AND inquiry_id = unit_inquiry_id
    UNION ALL SELECT company_id, 'account', account_id, as_of, unit_day, outcome, covered, reply_seconds, received_at, inquiry_id,
        CASE WHEN reply_seconds <= 86400 THEN greatest(1, ceil(reply_seconds / 3600)) ELSE 25 END::integer
    FROM judged WHERE as_of IS NOT NULL AND inquiry_id = unit_inquiry_id
),
-- The day of the last but so many counted unit of the days that a window may reach. It lies in a window that counts
-- enough, and before one that does not.
widened AS MATERIALIZED (
    SELECT c.company_id, c.level, c.account_id, c.as_of, min(c.day) AS first_day FROM (
        SELECT u.company_id, u.level, u.account_id, u.as_of, u.day, row_number() OVER (
                PARTITION BY u.company_id, u.level, u.account_id, u.as_of ORDER BY u.received_at DESC, u.inquiry_id DESC
            ) AS place
        FROM unit_of u JOIN at ON at.company_id = u.company_id AND at.as_of = u.as_of
        WHERE %(small_sample)s = 'widen' AND u.outcome IN ('timely', 'late', 'unanswered')
            AND u.day BETWEEN at.last_day - (%(max_days)s - 1) AND at.last_day
    ) c WHERE c.place <= %(min_counted)s
    GROUP BY c.company_id, c.level, c.account_id, c.as_of
),
span AS MATERIALIZED (
    SELECT w.company_id, w.level, w.account_id, w.as_of, least(w.first_day, d.first_day) AS first_day, w.last_day, w.state,
        w.over_at
    FROM who w LEFT JOIN widened d USING (company_id, level, account_id, as_of)
),
received AS MATERIALIZED (
    SELECT s.company_id, s.level, s.account_id, s.as_of, count(*) AS inquiries,
        count(*) FILTER (WHERE r.outcome = 'excluded') AS excluded
    FROM span s JOIN received_by r USING (company_id, level, account_id, as_of)
    WHERE r.day BETWEEN s.first_day AND s.last_day
    GROUP BY s.company_id, s.level, s.account_id, s.as_of
),
measured AS MATERIALIZED (
    SELECT s.company_id, s.level, s.account_id, s.as_of,
        count(*) FILTER (WHERE u.outcome = 'timely') AS timely,
        count(*) FILTER (WHERE u.outcome = 'late') AS late,
        count(*) FILTER (WHERE u.outcome = 'unanswered') AS unanswered,
        count(*) FILTER (WHERE u.outcome = 'unmeasured') AS unmeasured,
        count(*) FILTER (WHERE u.outcome = 'pending') AS pending,
        count(*) FILTER (WHERE u.covered AND u.outcome IN ('timely', 'late', 'unanswered', 'unmeasured')) AS covered,
        CASE %(average_over)s WHEN 'answered' THEN avg(u.reply_seconds) ELSE (
            SELECT avg(seconds) FROM unnest(
                (array_agg(u.reply_seconds ORDER BY u.reply_seconds) FILTER (WHERE u.reply_seconds IS NOT NULL))
                [1:ceil(0.8 * count(u.reply_seconds))::integer]
            ) fastest (seconds)
        ) END::double precision AS mean_seconds,
        percentile_cont(ARRAY[0.5, 0.9, 0.95]) WITHIN GROUP (ORDER BY u.reply_seconds::double precision) AS percentiles,
        array_agg(u.bucket) FILTER (WHERE u.reply_seconds IS NOT NULL) AS hours
    FROM span s JOIN unit_of u USING (company_id, level, account_id, as_of)
    WHERE u.day BETWEEN s.first_day AND s.last_day
    GROUP BY s.company_id, s.level, s.account_id, s.as_of
),
row AS MATERIALIZED (
    SELECT s.company_id, s.level, s.account_id, s.as_of, s.first_day AS window_start,
        s.last_day AS window_end, coalesce(r.inquiries, 0) AS inquiries, coalesce(r.excluded, 0) AS excluded,
        coalesce(m.timely + m.late + m.unanswered, 0) AS counted, coalesce(m.timely, 0) AS timely,
        coalesce(m.late, 0) AS late, coalesce(m.unanswered, 0) AS unanswered, coalesce(m.unmeasured, 0) AS unmeasured,
        coalesce(m.pending, 0) AS pending, m.mean_seconds, m.percentiles,
        m.covered::numeric / nullif(m.timely + m.late + m.unanswered + m.unmeasured, 0) AS coverage,
        (SELECT array_agg(coalesce(h.answered, 0) ORDER BY b.bucket) FROM generate_series(1, 25) b (bucket)
            LEFT JOIN (SELECT hour, count(*)::integer AS answered FROM unnest(m.hours) hour GROUP BY hour) h
            ON h.hour = b.bucket) AS buckets,
        s.state, s.over_at
    FROM span s
    LEFT JOIN received r USING (company_id, level, account_id, as_of)
    LEFT JOIN measured m USING (company_id, level, account_id, as_of)
),
rated AS MATERIALIZED (
    SELECT row.*, CASE WHEN coverage >= %(min_coverage)s AND (%(small_sample)s <> 'hide' OR counted >= %(min_counted)s)
        THEN timely::numeric / nullif(counted, 0) END AS rate
    FROM row
)
SELECT company_id, level, account_id, as_of, window_start, window_end, inquiries, excluded, counted, timely, late, unanswered,
    unmeasured, pending, rate, mean_seconds, percentiles[1], percentiles[2], percentiles[3],
    CASE %(rounding)s WHEN 'down-1' THEN trunc(100 * rate, 1) WHEN 'half-up-0' THEN round(100 * rate) ELSE 100 * rate END,
    coverage, buckets, state, over_at
FROM rated

-- name: vanished
-- An account that no fact names any more has no row: an erase took them, or an earlier record of the inquiry names another
-- one. What was shown of it stays as history, but after an erase.
WITH gone AS MATERIALIZED (
    SELECT held.company_id, held.account_id, held.as_of, held.valid_from, held.state, w.cause,
        w.cause <> 'erase' AND held.computed_at >= day.over_at AS stays
    FROM counted day
    JOIN rates held ON held.rule_set = %(rule_set)s AND held.company_id = ANY (%(companies)s)
        AND held.company_id = day.company_id AND held.level = 'account' AND held.as_of = day.as_of AND held.valid_to IS NULL
    JOIN unnest(%(each_company)s::text[], %(each_cause)s::text[]) w (company_id, cause) ON w.company_id = day.company_id
    WHERE day.level = 'company' AND NOT EXISTS (
        SELECT FROM counted n WHERE n.company_id = held.company_id AND n.level = 'account'
            AND n.account_id = held.account_id AND n.as_of = held.as_of
    )
),
told AS (
    INSERT INTO corrections (rule_set, rule_version, level, company_id, account_id, as_of, column_name, cause, changed_at)
    SELECT %(rule_set)s, %(identity)s, 'account', company_id, account_id, as_of, '*', cause, %(now)s
    FROM gone WHERE state = 'final' ORDER BY company_id, as_of, account_id
),
retired AS (
    UPDATE rates r SET valid_to = %(now)s FROM gone g
    WHERE g.stays AND r.rule_set = %(rule_set)s AND r.company_id = ANY (%(companies)s) AND r.company_id = g.company_id
        AND r.level = 'account' AND r.account_id = g.account_id AND r.as_of = g.as_of AND r.valid_from = g.valid_from
)
DELETE FROM rates r USING gone g
WHERE NOT g.stays AND r.rule_set = %(rule_set)s AND r.company_id = ANY (%(companies)s) AND r.company_id = g.company_id
    AND r.level = 'account' AND r.account_id = g.account_id AND r.as_of = g.as_of AND r.valid_from = g.valid_from

-- name: unchanged
-- What is shown already need not be written. The companies stand in each condition for the index: joined as sets, the
-- whole table would be read.
DELETE FROM counted n USING rates held
WHERE held.rule_set = %(rule_set)s AND held.company_id = ANY (%(companies)s) AND held.company_id = n.company_id
    AND held.level = n.level AND held.account_id = n.account_id AND held.as_of = n.as_of AND held.valid_to IS NULL
    AND (held.rule_version, held.window_start, held.window_end, held.inquiries, held.excluded, held.counted, held.timely,
            held.late, held.unanswered, held.unmeasured, held.pending, held.rate, held.mean_seconds, held.median_seconds,
            held.p90_seconds, held.p95_seconds, held.coverage, held.buckets, held.state)
        IS NOT DISTINCT FROM (%(identity)s, n.window_start, n.window_end, n.inquiries, n.excluded, n.counted, n.timely, n.late,
            n.unanswered, n.unmeasured, n.pending, n.rate, n.mean_seconds, n.median_seconds, n.p90_seconds, n.p95_seconds,
            n.coverage, n.buckets, n.state)

-- name: correct
-- A final number changes only with a line of its own. What an erase took is not told again. Held is the newest version,
-- also one that is not shown now (its rule set was switched off meanwhile).
WITH newest AS MATERIALIZED (
    SELECT DISTINCT ON (company_id, level, account_id, as_of) * FROM rates
    WHERE rule_set = %(rule_set)s AND company_id = ANY (%(companies)s)
    ORDER BY company_id, level, account_id, as_of, valid_from DESC
)
INSERT INTO corrections
    (rule_set, rule_version, level, company_id, account_id, as_of, column_name, old_value, new_value, cause, changed_at)
SELECT %(rule_set)s, %(identity)s, n.level, n.company_id, n.account_id, n.as_of, c.name,
    CASE WHEN w.cause <> 'erase' THEN c.old END, c.new, w.cause, %(now)s
FROM counted n
JOIN newest held ON held.company_id = n.company_id AND held.level = n.level AND held.account_id = n.account_id
    AND held.as_of = n.as_of AND held.state = 'final'
JOIN unnest(%(each_company)s::text[], %(each_cause)s::text[]) w (company_id, cause) ON w.company_id = n.company_id
CROSS JOIN LATERAL (VALUES
    (1, 'window_start', held.window_start::text, n.window_start::text),
    (2, 'window_end', held.window_end::text, n.window_end::text),
    (3, 'inquiries', held.inquiries::text, n.inquiries::text), (4, 'excluded', held.excluded::text, n.excluded::text),
    (5, 'counted', held.counted::text, n.counted::text), (6, 'timely', held.timely::text, n.timely::text),
    (7, 'late', held.late::text, n.late::text), (8, 'unanswered', held.unanswered::text, n.unanswered::text),
    (9, 'unmeasured', held.unmeasured::text, n.unmeasured::text), (10, 'pending', held.pending::text, n.pending::text),
    (11, 'rate', trim_scale(held.rate)::text, trim_scale(n.rate)::text),
    (12, 'mean_seconds', held.mean_seconds::text, n.mean_seconds::text),
    (13, 'median_seconds', held.median_seconds::text, n.median_seconds::text),
    (14, 'p90_seconds', held.p90_seconds::text, n.p90_seconds::text),
    (15, 'p95_seconds', held.p95_seconds::text, n.p95_seconds::text),
    (16, 'rate_shown', trim_scale(held.rate_shown)::text, trim_scale(n.rate_shown)::text),
    (17, 'coverage', trim_scale(held.coverage)::text, trim_scale(n.coverage)::text),
    (18, 'state', held.state, n.state)
) c (place, name, old, new)
WHERE c.old IS DISTINCT FROM c.new
ORDER BY n.company_id, n.as_of, n.level DESC, n.account_id, c.place

-- name: retire
-- A version that held after its day was over stays as history, but for what an erase took.
UPDATE rates held SET valid_to = %(now)s
FROM counted n JOIN unnest(%(each_company)s::text[], %(each_cause)s::text[]) w (company_id, cause) ON w.company_id = n.company_id
WHERE w.cause <> 'erase' AND held.rule_set = %(rule_set)s AND held.company_id = ANY (%(companies)s) AND held.company_id = n.company_id
    AND held.level = n.level AND held.account_id = n.account_id AND held.as_of = n.as_of AND held.valid_to IS NULL AND held.computed_at >= n.over_at

-- name: replace
-- One of the running day was never a day's number.
DELETE FROM rates held USING counted n
WHERE held.rule_set = %(rule_set)s AND held.company_id = ANY (%(companies)s) AND held.company_id = n.company_id
    AND held.level = n.level AND held.account_id = n.account_id AND held.as_of = n.as_of AND held.valid_to IS NULL

-- name: add
-- New versions of rows of reply_rate.
INSERT INTO rates (
    rule_set, rule_version, level, company_id, account_id, as_of, window_start, window_end, inquiries, excluded, counted,
    timely, late, unanswered, unmeasured, pending, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds,
    rate_shown, coverage, buckets, state, computed_at, valid_from
)
SELECT %(rule_set)s, %(identity)s, level, company_id, account_id, as_of, window_start, window_end, inquiries, excluded, counted,
    timely, late, unanswered, unmeasured, pending, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds, rate_shown,
    coverage, buckets, state, %(now)s, %(now)s
FROM counted

-- name: forget_before
-- A company has no rate before its first known inquiry: an erase took what it was counted from.
WITH gone AS (
    DELETE FROM rates r USING unnest(%(each_company)s::text[], %(each_begin)s::date[]) b (company_id, begin)
    WHERE r.rule_set = %(rule_set)s AND r.company_id = ANY (%(companies)s) AND r.company_id = b.company_id AND r.as_of < b.begin
    RETURNING r.company_id, r.level, r.account_id, r.as_of, r.state, r.valid_to
)
INSERT INTO corrections (rule_set, rule_version, level, company_id, account_id, as_of, column_name, cause, changed_at)
SELECT %(rule_set)s, %(identity)s, level, company_id, account_id, as_of, '*', 'erase', %(now)s
FROM gone WHERE state = 'final' AND valid_to IS NULL
ORDER BY company_id, as_of, level DESC, account_id
