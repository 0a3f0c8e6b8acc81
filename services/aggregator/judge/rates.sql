-- name: workspace
-- Rows of reply_rate as they are counted from `judged`: all columns of ledger.rates, in its order. Emptied at the end of the
-- transaction.
CREATE TEMPORARY TABLE counted (LIKE ledger.rates) ON COMMIT DELETE ROWS

-- name: day_end_workspace
-- When the day of each of these rows ends in the zone of the rule set.
CREATE TEMPORARY TABLE day_end (company_id text COLLATE "C", as_of date, over_at timestamptz) ON COMMIT DELETE ROWS

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
registered_account AS MATERIALIZED (SELECT company_id, account_id FROM registry.accounts WHERE company_id = ANY (%(companies)s)),
-- Accounts, and from when on a fact of a known inquiry names them; registered ones always.
named_account AS MATERIALIZED (
    SELECT company_id, account_id, min(at) AS named_at FROM (
        SELECT company_id, account_id, timestamptz '-infinity' AS at FROM registered_account
        UNION ALL
        SELECT company_id, account_id, received_at FROM ledger.inquiries
        WHERE company_id = ANY (%(companies)s) AND (company_id, account_id) NOT IN (SELECT * FROM registered_account)
        UNION ALL
        SELECT company_id, reply.account_id, greatest(reply.replied_at, inquiry.received_at)
        FROM ledger.replies reply JOIN ledger.inquiries inquiry USING (company_id, inquiry_id)
        WHERE reply.company_id = ANY (%(companies)s) AND inquiry.company_id = ANY (%(companies)s)
            AND inquiry.received_at IS NOT NULL AND (reply.company_id, reply.account_id) NOT IN (SELECT * FROM registered_account)
        UNION ALL
        SELECT company_id, status.account_id, greatest(status.at, inquiry.received_at)
        FROM ledger.statuses status JOIN ledger.inquiries inquiry USING (company_id, inquiry_id)
        WHERE status.company_id = ANY (%(companies)s) AND inquiry.company_id = ANY (%(companies)s)
            AND inquiry.received_at IS NOT NULL AND status.account_id <> ''
            AND (status.company_id, status.account_id) NOT IN (SELECT * FROM registered_account)
        UNION ALL
        SELECT company_id, account_id, named_at FROM ledger.archived_accounts WHERE company_id = ANY (%(companies)s)
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
row_range AS MATERIALIZED (
    SELECT company_id, min(as_of) AS first_as_of, max(as_of) AS last_as_of FROM judgement GROUP BY company_id
),
-- An inquiry or unit counts for the rows of the as_of days for which its outcome is valid and whose windows contain its day. Windows
-- move with as_of, so these days are consecutive: `counts_from` to `counts_until`.
counted_inquiry AS MATERIALIZED (
    SELECT company_id, owner AS account_id, own_day AS day, outcome, first_as_of, last_as_of,
        greatest(first_as_of, own_day + %(settle_days)s) AS counts_from,
        least(last_as_of, own_day + %(settle_days)s + %(window_days)s - 1) AS counts_until
    FROM judged WHERE first_as_of IS NOT NULL
),
-- `is_whole`: its outcome is valid on all of the days whose windows contain it.
counted_unit AS MATERIALIZED (
    SELECT unit.*, least(days.last_as_of, unit.day + %(settle_days)s + %(window_days)s - 1) = unit.counts_until
        AND greatest(days.first_as_of, unit.day + %(settle_days)s) = unit.counts_from AS is_whole
    FROM (
        SELECT company_id, account_id, unit_day AS day, outcome, covered, received_at, inquiry_id, reply_seconds,
            first_as_of, last_as_of, greatest(first_as_of, unit_day + %(settle_days)s) AS counts_from,
            least(last_as_of, unit_day + %(settle_days)s + %(window_days)s - 1) AS counts_until
        FROM judged WHERE first_as_of IS NOT NULL AND inquiry_id = unit_inquiry_id
    ) unit JOIN row_range days USING (company_id)
),
-- Where a small sample widens the window: the day of the min_counted-th most recent counted unit within reach_days. In a window
-- that counts enough units that day is not before the window's first day.
widened_window AS MATERIALIZED (
    SELECT recent.company_id, recent.level, recent.account_id, recent.as_of, recent.window_from, min(recent.day) AS first_day
    FROM (
        SELECT key.company_id, key.level, key.account_id, key.as_of, key.first_day AS window_from, unit.day, row_number() OVER (
                PARTITION BY key.company_id, key.level, key.account_id, key.as_of
                ORDER BY unit.received_at DESC, unit.inquiry_id DESC
            ) AS position
        FROM rate_key key JOIN counted_unit unit ON unit.company_id = key.company_id
            AND key.as_of BETWEEN unit.first_as_of AND unit.last_as_of
            AND unit.day BETWEEN key.last_day - (%(reach_days)s - 1) AND key.last_day
        WHERE %(small_sample)s = 'widen' AND unit.outcome IN ('timely', 'late', 'unanswered')
            AND (key.level = 'company' OR key.account_id = unit.account_id)
    ) recent WHERE recent.position <= %(min_counted)s
    GROUP BY recent.company_id, recent.level, recent.account_id, recent.as_of, recent.window_from
    HAVING min(recent.day) < recent.window_from
),
-- What counts for one row more because its window is wider.
widened_inquiry AS MATERIALIZED (
    SELECT span.company_id, span.level, span.account_id, span.as_of, inquiry.outcome
    FROM widened_window span JOIN counted_inquiry inquiry ON inquiry.company_id = span.company_id
        AND span.as_of BETWEEN inquiry.first_as_of AND inquiry.last_as_of
        AND inquiry.day >= span.first_day AND inquiry.day < span.window_from
    WHERE span.level = 'company' OR span.account_id = inquiry.account_id
),
widened_unit AS MATERIALIZED (
    SELECT span.company_id, span.level, span.account_id, span.as_of, unit.outcome, unit.covered, unit.reply_seconds
    FROM widened_window span JOIN counted_unit unit ON unit.company_id = span.company_id
        AND span.as_of BETWEEN unit.first_as_of AND unit.last_as_of
        AND unit.day >= span.first_day AND unit.day < span.window_from
    WHERE span.level = 'company' OR span.account_id = unit.account_id
),
-- Counts by account, and by the rows for which they count.
daily_count AS MATERIALIZED (
    SELECT company_id, account_id, counts_from, counts_until, count(*)::integer AS inquiries,
        (count(*) FILTER (WHERE outcome = 'excluded'))::integer AS excluded, 0 AS timely, 0 AS late, 0 AS unanswered, 0 AS unmeasured,
        0 AS pending, 0 AS covered, 0 AS answered, 0 AS whole, 0::numeric AS seconds
    FROM counted_inquiry WHERE counts_from <= counts_until
    GROUP BY company_id, account_id, counts_from, counts_until
    UNION ALL
    SELECT company_id, account_id, counts_from, counts_until, 0, 0,
        (count(*) FILTER (WHERE outcome = 'timely'))::integer, (count(*) FILTER (WHERE outcome = 'late'))::integer,
        (count(*) FILTER (WHERE outcome = 'unanswered'))::integer, (count(*) FILTER (WHERE outcome = 'unmeasured'))::integer,
        (count(*) FILTER (WHERE outcome = 'pending'))::integer,
        (count(*) FILTER (WHERE covered AND outcome IN ('timely', 'late', 'unanswered', 'unmeasured')))::integer,
        count(reply_seconds)::integer, (count(reply_seconds) FILTER (WHERE is_whole))::integer, coalesce(sum(reply_seconds), 0)
    FROM counted_unit WHERE counts_from <= counts_until
    GROUP BY company_id, account_id, counts_from, counts_until
),
-- By row of reply_rate: how each count differs from the row of the day before. `begun` and `ended` count answered units of `is_whole`.
count_step AS MATERIALIZED (
    SELECT company_id, level, account_id, as_of, sum(inquiries)::integer AS inquiries, sum(excluded)::integer AS excluded,
        sum(timely)::integer AS timely, sum(late)::integer AS late, sum(unanswered)::integer AS unanswered,
        sum(unmeasured)::integer AS unmeasured, sum(pending)::integer AS pending, sum(covered)::integer AS covered,
        sum(answered)::integer AS answered, sum(begun)::integer AS begun, sum(ended)::integer AS ended, sum(seconds) AS seconds
    FROM (
        SELECT daily.company_id, key.level, key.account_id, step.as_of, step.sign * inquiries AS inquiries, step.sign * excluded AS excluded,
            step.sign * timely AS timely, step.sign * late AS late, step.sign * unanswered AS unanswered, step.sign * unmeasured AS unmeasured,
            step.sign * pending AS pending, step.sign * covered AS covered, step.sign * answered AS answered,
            CASE step.sign WHEN 1 THEN whole ELSE 0 END AS begun, CASE step.sign WHEN 1 THEN 0 ELSE whole END AS ended, step.sign * seconds AS seconds
        FROM daily_count daily
        CROSS JOIN LATERAL (VALUES ('company', '' COLLATE "C"), ('account', daily.account_id)) key (level, account_id)
        CROSS JOIN LATERAL (VALUES (daily.counts_from, 1), (daily.counts_until + 1, -1)) step (as_of, sign)
        UNION ALL
        SELECT span.company_id, span.level, span.account_id, step.as_of, step.sign, step.sign * (outcome = 'excluded')::integer, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0
        FROM widened_inquiry span CROSS JOIN LATERAL (VALUES (span.as_of, 1), (span.as_of + 1, -1)) step (as_of, sign)
        UNION ALL
        SELECT span.company_id, span.level, span.account_id, step.as_of, 0, 0, step.sign * (outcome = 'timely')::integer,
            step.sign * (outcome = 'late')::integer, step.sign * (outcome = 'unanswered')::integer, step.sign * (outcome = 'unmeasured')::integer,
            step.sign * (outcome = 'pending')::integer,
            step.sign * (covered AND outcome IN ('timely', 'late', 'unanswered', 'unmeasured'))::integer,
            step.sign * (reply_seconds IS NOT NULL)::integer, 0, 0, step.sign * coalesce(reply_seconds, 0)
        FROM widened_unit span CROSS JOIN LATERAL (VALUES (span.as_of, 1), (span.as_of + 1, -1)) step (as_of, sign)
    ) part
    GROUP BY company_id, level, account_id, as_of
),
window_sum AS MATERIALIZED (
    SELECT key.*, sum(inquiries) OVER through_day AS inquiries, sum(excluded) OVER through_day AS excluded,
        sum(timely) OVER through_day AS timely, sum(late) OVER through_day AS late, sum(unanswered) OVER through_day AS unanswered,
        sum(unmeasured) OVER through_day AS unmeasured, sum(pending) OVER through_day AS pending, sum(covered) OVER through_day AS covered,
        sum(answered) OVER through_day AS answered, sum(begun) OVER through_day AS begun, sum(ended) OVER through_day AS ended,
        sum(seconds) OVER through_day AS seconds
    FROM rate_key key LEFT JOIN count_step USING (company_id, level, account_id, as_of)
    WINDOW through_day AS (PARTITION BY company_id, level, account_id ORDER BY as_of)
),
-- Times to the answer. Those of `is_whole` once for each company and account, ordered so that each row needs consecutive ones:
-- those that have begun to count and not ended. Any others once for each row.
whole_time AS MATERIALIZED (
    SELECT unit.company_id, key.level, key.account_id, array_agg(unit.reply_seconds::double precision ORDER BY unit.counts_from, unit.counts_until) AS seconds,
        array_agg(unit.reply_seconds ORDER BY unit.counts_from, unit.counts_until) FILTER (WHERE %(average_over)s <> 'answered') AS exact_seconds
    FROM counted_unit unit CROSS JOIN LATERAL (VALUES ('company', '' COLLATE "C"), ('account', unit.account_id)) key (level, account_id)
    WHERE unit.reply_seconds IS NOT NULL AND unit.counts_from <= unit.counts_until AND unit.is_whole
    GROUP BY unit.company_id, key.level, key.account_id
),
single_time AS MATERIALIZED (
    SELECT company_id, level, account_id, as_of, array_agg(reply_seconds::double precision) AS seconds, array_agg(reply_seconds) AS exact_seconds
    FROM (
        SELECT unit.company_id, key.level, key.account_id, unit.counts_from + day_no AS as_of, unit.reply_seconds
        FROM counted_unit unit CROSS JOIN LATERAL generate_series(0, unit.counts_until - unit.counts_from) day_no
        CROSS JOIN LATERAL (VALUES ('company', '' COLLATE "C"), ('account', unit.account_id)) key (level, account_id)
        WHERE unit.reply_seconds IS NOT NULL AND unit.counts_from <= unit.counts_until AND NOT unit.is_whole
        UNION ALL
        SELECT company_id, level, account_id, as_of, reply_seconds FROM widened_unit WHERE reply_seconds IS NOT NULL
    ) answered GROUP BY company_id, level, account_id, as_of
),
-- A company's row in which every answer is of one account has the times of that account's row: they are sorted once. (Windows that a
-- small sample widens can differ.)
time_source AS MATERIALIZED (
    SELECT span.*, CASE WHEN sole.account_id IS NULL THEN span.level ELSE 'account' END AS source_level,
        coalesce(sole.account_id, span.account_id) AS source_account_id
    FROM window_sum span
    LEFT JOIN (
        SELECT company_id, as_of, answered, account_id FROM window_sum
        WHERE level = 'account' AND answered > 0 AND %(small_sample)s <> 'widen'
    ) sole ON span.level = 'company' AND sole.company_id = span.company_id AND sole.as_of = span.as_of AND sole.answered = span.answered
),
sorted_time AS MATERIALIZED (
    SELECT span.company_id, span.level, span.account_id, span.as_of,
        ARRAY(SELECT unnest(whole.seconds[span.ended + 1:span.begun] || single.seconds) AS seconds ORDER BY seconds) AS sorted_seconds,
        CASE WHEN %(average_over)s <> 'answered' THEN (
            SELECT avg(seconds) FROM (
                SELECT seconds FROM unnest(whole.exact_seconds[span.ended + 1:span.begun] || single.exact_seconds) seconds
                ORDER BY seconds LIMIT ceil(0.8 * span.answered)
            ) fastest
        ) END AS fastest_mean
    FROM time_source span
    LEFT JOIN whole_time whole USING (company_id, level, account_id)
    LEFT JOIN single_time single USING (company_id, level, account_id, as_of)
    WHERE span.answered > 0 AND span.level = span.source_level
),
row_time AS MATERIALIZED (
    SELECT span.*, times.sorted_seconds, times.fastest_mean
    FROM time_source span LEFT JOIN sorted_time times ON times.company_id = span.company_id AND times.level = span.source_level
        AND times.account_id = span.source_account_id AND times.as_of = span.as_of
),
counts AS MATERIALIZED (
    SELECT span.company_id, span.level, span.account_id, span.as_of, coalesce(widened.first_day, span.first_day) AS window_start,
        span.last_day AS window_end, coalesce(span.inquiries, 0) AS inquiries, coalesce(span.excluded, 0) AS excluded,
        coalesce(span.timely + span.late + span.unanswered, 0) AS counted, coalesce(span.timely, 0) AS timely,
        coalesce(span.late, 0) AS late, coalesce(span.unanswered, 0) AS unanswered, coalesce(span.unmeasured, 0) AS unmeasured,
        coalesce(span.pending, 0) AS pending,
        CASE %(average_over)s WHEN 'answered' THEN span.seconds / nullif(span.answered, 0) ELSE span.fastest_mean END::double precision
            AS mean_seconds,
        -- As percentile_cont interpolates.
        ARRAY(
            SELECT lower_value + (place - floor(place)) * (upper_value - lower_value)
            FROM unnest(ARRAY[0.5, 0.9, 0.95]::double precision[]) WITH ORDINALITY percentile (fraction, position)
            CROSS JOIN LATERAL (SELECT fraction * (span.answered - 1)) at (place)
            CROSS JOIN LATERAL (
                SELECT span.sorted_seconds[floor(place)::integer + 1], span.sorted_seconds[ceil(place)::integer + 1]
            ) neighbour (lower_value, upper_value)
            ORDER BY position
        ) AS percentiles,
        span.covered::numeric / nullif(span.timely + span.late + span.unanswered + span.unmeasured, 0) AS coverage,
        ARRAY(
            SELECT coalesce(CASE hour WHEN 25 THEN span.answered ELSE width_bucket(3600.0::double precision * hour, span.sorted_seconds) END
                - CASE hour WHEN 1 THEN 0 ELSE width_bucket(3600.0::double precision * (hour - 1), span.sorted_seconds) END, 0)::integer
            FROM generate_series(1, 25) hour ORDER BY hour
        ) AS buckets,
        span.state
    FROM row_time span
    LEFT JOIN widened_window widened USING (company_id, level, account_id, as_of)
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
