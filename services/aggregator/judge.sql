-- name: workspace
-- Where one company is judged: a row for each judgement and inquiry, gone with the transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS judged (
    as_of date, inquiry_id text COLLATE "C", account_id text COLLATE "C", owner text COLLATE "C",
    buyer_id text COLLATE "C", own_day date, unit_day date, unit_inquiry_id text COLLATE "C", received_at timestamptz, first_reply_at timestamptz,
    reply_seconds numeric, outcome text COLLATE "C", reason text COLLATE "C", reply_source text COLLATE "C",
    matched_by text COLLATE "C", mailbox_id text COLLATE "C", evidence text COLLATE "C", covered boolean, due_at timestamptz
) ON COMMIT DELETE ROWS

-- name: forget_last
-- What another rule set left in this transaction; cheaper than TRUNCATE for so few rows.
DELETE FROM judged

-- name: planner
-- The steps below are joined as sets; Postgres cannot know their sizes and would look up row by row (12 times slower), or
-- merge by the judgement alone and compare all of its rows with each other.
SELECT set_config('enable_nestloop', 'off', true), set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true)

-- name: span
-- First receipt of a company, what was judged last, and from which day on rows are not final.
SELECT (SELECT min(received_at) FROM ledger.inquiries WHERE company_id = %(company_id)s) AS first_at,
    (SELECT max(as_of) FROM ledger.rates
        WHERE company_id = %(company_id)s AND rule_set = %(rule_set)s) AS last_as_of,
    (SELECT min(as_of) FROM ledger.rates
        WHERE company_id = %(company_id)s AND rule_set = %(rule_set)s AND level = 'company'
            AND valid_to IS NULL AND state = 'provisional') AS provisional_from

-- name: judge
-- Every known inquiry at each of the given judgements: (as_of, now, and the days of receipt that matter to it).
INSERT INTO judged
WITH at AS MATERIALIZED (
    SELECT * FROM unnest(%(as_ofs)s::date[], %(nows)s::timestamptz[], %(reaches)s::date[], %(untils)s::date[])
        WITH ORDINALITY at (as_of, now, reach, until, k)
),
exclusion AS MATERIALIZED (
    SELECT ord, entry ->> 'when' AS cause, (entry ->> 'within_seconds')::bigint AS within
    FROM jsonb_array_elements(%(parameters)s::jsonb -> 'exclude') WITH ORDINALITY e (entry, ord)
),
known AS MATERIALIZED (
    SELECT at.k, at.now, i.inquiry_id, i.account_id AS receiver, i.buyer_id, i.thread_id, i.received_at,
        (i.received_at AT TIME ZONE %(zone)s)::date AS day,
        ((CASE %(period_by)s WHEN 'deadline' THEN i.received_at + make_interval(secs => %(target)s) ELSE i.received_at END)
            AT TIME ZONE %(zone)s)::date AS period,
        i.buyer_region = 'CN' OR i.buyer_sent_from_region = 'CN' AS from_china
    FROM at JOIN ledger.inquiries i ON i.company_id = %(company_id)s AND i.received_at < at.now
    WHERE (i.received_at AT TIME ZONE %(zone)s)::date BETWEEN at.reach AND at.until
),
-- Statuses known at the judgement; of spam and spam-undone only the latest exists.
status AS MATERIALIZED (
    SELECT * FROM (
        SELECT k.k, k.inquiry_id, k.received_at, s.status, s.at, s.account_id,
            s.status NOT IN ('spam', 'spam-undone') OR 1 = row_number() OVER (
                PARTITION BY k.k, k.inquiry_id, s.status IN ('spam', 'spam-undone')
                ORDER BY s.at DESC, s.status DESC, s.account_id DESC
            ) AS exists
        FROM known k
        JOIN ledger.statuses s ON s.company_id = %(company_id)s AND s.inquiry_id = k.inquiry_id AND s.at < k.now
    ) s WHERE s.exists
),
moved AS MATERIALIZED (
    SELECT DISTINCT ON (k, inquiry_id) k, inquiry_id, account_id FROM status
    WHERE status = 'reassigned' AND %(attribution)s = 'current-owner'
    ORDER BY k, inquiry_id, at DESC, account_id DESC
),
hit AS MATERIALIZED (
    SELECT DISTINCT ON (k, inquiry_id) k, inquiry_id, cause FROM (
        SELECT s.k, s.inquiry_id, e.ord, e.cause FROM status s JOIN exclusion e ON e.cause = s.status
        WHERE e.within IS NULL OR s.at <= s.received_at + make_interval(secs => e.within)
        UNION ALL
        SELECT k.k, k.inquiry_id, e.ord, e.cause FROM known k JOIN exclusion e ON e.cause = 'mainland-china-buyer'
        WHERE k.from_china
    ) h ORDER BY k, inquiry_id, ord
),
fate AS MATERIALIZED (
    SELECT k.k, k.now, k.inquiry_id, k.buyer_id, k.thread_id, k.received_at, k.day, k.period,
        coalesce(m.account_id, k.receiver) AS owner, h.cause AS excluded_by
    FROM known k LEFT JOIN moved m USING (k, inquiry_id) LEFT JOIN hit h USING (k, inquiry_id)
),
member AS MATERIALIZED (
    SELECT f.k, f.now, f.inquiry_id, f.buyer_id, f.received_at, f.period, f.owner,
        first_value(f.inquiry_id) OVER unit AS unit_inquiry_id,
        first_value(f.received_at) OVER unit AS start_at,
        first_value(f.period) OVER unit AS unit_day,
        first_value(f.owner) OVER unit AS account_id
    FROM fate f WHERE f.excluded_by IS NULL
    WINDOW unit AS (
        PARTITION BY f.k, CASE %(unit)s
            WHEN 'each-inquiry' THEN jsonb_build_array(f.inquiry_id)
            WHEN 'first-per-buyer-day' THEN jsonb_build_array(f.buyer_id, f.day)
            ELSE jsonb_build_array(f.buyer_id, f.thread_id, CASE WHEN f.thread_id IS NULL THEN f.inquiry_id END)
        END
        ORDER BY f.received_at, f.inquiry_id
    )
),
reply AS MATERIALIZED (
    SELECT m.k, m.unit_inquiry_id, m.start_at, r.replied_at AS at, r.source, r.reply_id, r.account_id, r.mailbox_id, r.kind_reason,
        r.evidence, r.kind, r.matched_by
    FROM member m JOIN ledger.replies r ON r.company_id = %(company_id)s AND r.inquiry_id = m.inquiry_id
        AND r.replied_at < m.now AND r.replied_at >= m.start_at - interval '300 s'
),
silent AS MATERIALIZED (
    SELECT k, unit_inquiry_id FROM reply GROUP BY k, unit_inquiry_id HAVING bool_and(kind = 'automatic')
),
way AS MATERIALIZED (
    SELECT k, unit_inquiry_id, reply_id, min(array_position(%(ways)s::text[], matched_by)) AS strength
    FROM reply WHERE source = 'mail' GROUP BY k, unit_inquiry_id, reply_id
),
-- The earliest; where only verified mail makes a unit timely, the earliest of what does, if there is such a thing.
answer AS MATERIALIZED (
    SELECT DISTINCT ON (c.k, c.unit_inquiry_id) c.*,
        %(evidence)s = 'any' OR c.source <> 'mail' OR c.evidence = 'verified' AS accepted
    FROM (
        SELECT k, unit_inquiry_id, start_at, at, source, reply_id, account_id, mailbox_id, kind_reason, evidence FROM reply
        WHERE (source = 'mail' AND kind IN ('human', 'forward') AND 'human-reply' = ANY (%(answered_by)s))
            OR (source = 'platform' AND kind = 'human' AND 'platform-reply' = ANY (%(answered_by)s))
            OR (kind = 'automatic' AND 'automatic-reply' = ANY (%(answered_by)s))
        UNION ALL
        SELECT m.k, m.unit_inquiry_id, m.start_at, s.at, 'status', s.status, s.account_id, '', '', ''
        FROM member m JOIN status s USING (k, inquiry_id)
        WHERE s.at >= m.start_at - interval '300 s' AND (
            s.status IN ('rejected', 'declined') AND s.status = ANY (%(answered_by)s)
            OR s.status = 'spam' AND 'spam-report' = ANY (%(answered_by)s)
        )
    ) c
    ORDER BY c.k, c.unit_inquiry_id,
        (%(evidence)s = 'any' OR c.source <> 'mail' OR c.evidence = 'verified')
            AND c.at <= c.start_at + make_interval(secs => %(target)s) DESC,
        c.at, array_position(ARRAY['mail', 'platform', 'status'], c.source), c.reply_id,
        c.account_id, c.mailbox_id, c.kind_reason, c.evidence
),
-- Coverage has a row for every good poll. Rows that begin alike and became known between the same two judgements are
-- one line here, so the work below depends on days and not on polls.
moments AS MATERIALIZED (SELECT array_agg(DISTINCT now ORDER BY now) AS list FROM at),
line AS MATERIALIZED (
    SELECT c.account_id, c.mailbox_id, c.from_at, width_bucket(c.recorded_at, m.list) AS known_after,
        max(c.through_at) AS through_at, max(c.recorded_at) AS recorded_at,
        (array_agg(c.coverage_id ORDER BY c.recorded_at DESC, c.coverage_id DESC))[1] AS coverage_id,
        (array_agg(c.connected_at ORDER BY c.recorded_at DESC, c.coverage_id DESC))[1] AS connected_at,
        (array_agg(c.removed_at ORDER BY c.recorded_at DESC, c.coverage_id DESC))[1] AS removed_at
    FROM registry.coverage c, moments m WHERE c.company_id = %(company_id)s
    GROUP BY c.account_id, c.mailbox_id, c.from_at, known_after
),
-- Mailboxes of the company as they were known at the judgement, and what they were complete for.
mailbox AS MATERIALIZED (
    SELECT at.k, c.account_id, c.mailbox_id,
        (array_agg(c.connected_at ORDER BY c.recorded_at DESC, c.coverage_id DESC))[1] AS connected_at,
        (array_agg(c.removed_at ORDER BY c.recorded_at DESC, c.coverage_id DESC))[1] AS removed_at,
        (array_agg(c.from_at ORDER BY c.recorded_at DESC, c.coverage_id DESC))[1] AS from_at,
        range_agg(tstzrange(c.from_at, c.through_at, '[]'))
            FILTER (WHERE c.from_at IS NOT NULL AND c.through_at IS NOT NULL) AS complete
    FROM at CROSS JOIN moments m JOIN line c ON c.known_after < array_position(m.list, at.now)
    GROUP BY at.k, c.account_id, c.mailbox_id
),
unit AS MATERIALIZED (
    SELECT m.k, m.unit_inquiry_id, m.account_id, m.start_at, a.at AS answered_at, a.source, a.reply_id, a.mailbox_id,
        a.evidence, a.accepted, CASE WHEN %(attribution)s = 'responder' THEN nullif(a.account_id, '') END AS responder, CASE WHEN a.at IS NOT NULL THEN greatest(0, extract(epoch FROM a.at - m.start_at)) END AS seconds,
        m.start_at + make_interval(secs => %(target)s) AS due_at
    FROM member m LEFT JOIN answer a USING (k, unit_inquiry_id)
    WHERE m.inquiry_id = m.unit_inquiry_id
),
-- Units without an answer that are covered: synced by the platform, or by every mailbox that was connected in time, or,
-- where none was, by any.
covered AS MATERIALIZED (
    SELECT b.k, b.unit_inquiry_id FROM (
        SELECT u.k, u.unit_inquiry_id, m.mailbox_id,
            m.connected_at <= u.due_at AND (m.removed_at IS NULL OR m.removed_at >= u.due_at) AS due,
            CASE WHEN m.mailbox_id IS NULL
                THEN m.from_at <= u.start_at AND (m.removed_at IS NULL OR m.removed_at >= u.due_at)
                ELSE m.complete @> tstzrange(u.start_at, u.due_at, '[]') END IS TRUE AS covers
        FROM unit u JOIN mailbox m ON m.k = u.k AND m.account_id = u.account_id WHERE u.answered_at IS NULL
    ) b
    GROUP BY b.k, b.unit_inquiry_id
    HAVING bool_or(b.covers) FILTER (WHERE b.mailbox_id IS NULL) IS TRUE
        OR coalesce(
            bool_and(b.covers) FILTER (WHERE b.due AND b.mailbox_id IS NOT NULL),
            bool_or(b.covers) FILTER (WHERE b.mailbox_id IS NOT NULL)
        ) IS TRUE
)
SELECT at.as_of, m.inquiry_id, coalesce(r.responder, m.account_id), coalesce(r.responder, m.owner), m.buyer_id, m.period, m.unit_day, m.unit_inquiry_id, m.received_at,
    u.answered_at, u.seconds,
    CASE WHEN u.k IS NULL THEN 'merged'
        WHEN u.answered_at IS NOT NULL THEN CASE WHEN u.accepted AND u.seconds <= %(target)s THEN 'timely' ELSE 'late' END
        WHEN m.now < u.due_at THEN 'pending'
        WHEN c.k IS NULL AND %(unmeasured)s = 'separate' THEN 'unmeasured'
        ELSE 'unanswered' END,
    CASE WHEN q.k IS NOT NULL AND u.answered_at IS NULL AND m.now >= u.due_at
        AND (c.k IS NOT NULL OR %(unmeasured)s <> 'separate') THEN 'only-automatic-replies' END,
    u.source,
    CASE u.source WHEN 'platform' THEN 'platform' WHEN 'mail' THEN (%(ways)s::text[])[w.strength] END,
    CASE WHEN u.source = 'mail' THEN u.mailbox_id END,
    CASE WHEN u.source = 'mail' THEN u.evidence END,
    CASE WHEN u.k IS NOT NULL THEN u.answered_at IS NOT NULL OR c.k IS NOT NULL END,
    u.due_at
FROM member m
JOIN at USING (k)
LEFT JOIN unit u ON u.k = m.k AND u.unit_inquiry_id = m.inquiry_id
LEFT JOIN unit r ON r.k = m.k AND r.unit_inquiry_id = m.unit_inquiry_id
LEFT JOIN covered c ON c.k = u.k AND c.unit_inquiry_id = u.unit_inquiry_id
LEFT JOIN silent q ON q.k = u.k AND q.unit_inquiry_id = u.unit_inquiry_id
LEFT JOIN way w ON w.k = u.k AND w.unit_inquiry_id = u.unit_inquiry_id AND w.reply_id = u.reply_id
UNION ALL
SELECT at.as_of, f.inquiry_id, f.owner, f.owner, f.buyer_id, f.period, f.period, NULL, f.received_at, NULL, NULL, 'excluded',
    f.excluded_by, NULL, NULL, NULL, NULL, NULL, NULL
FROM fate f JOIN at USING (k) WHERE f.excluded_by IS NOT NULL

-- name: outcomes
-- The company's outcomes as they are now; revision and changed_at move only where something changed.
INSERT INTO ledger.outcomes AS held (
    rule_set, company_id, inquiry_id, rule_version, account_id, buyer_id, unit_day, unit_inquiry_id, received_at,
    first_reply_at, reply_seconds, outcome, reason, reply_source, matched_by, mailbox_id, evidence, covered, due_at, state,
    changed_at
)
SELECT %(rule_set)s, %(company_id)s, j.inquiry_id, %(identity)s, j.account_id, j.buyer_id, j.unit_day, j.unit_inquiry_id,
    j.received_at, j.first_reply_at, j.reply_seconds, j.outcome, j.reason, j.reply_source, j.matched_by, j.mailbox_id,
    j.evidence, j.covered, j.due_at, CASE WHEN j.unit_day <= %(settled)s THEN 'final' ELSE 'provisional' END, %(now)s
FROM judged j WHERE j.as_of IS NULL
ON CONFLICT (rule_set, company_id, inquiry_id) DO UPDATE SET
    rule_version = excluded.rule_version, account_id = excluded.account_id, buyer_id = excluded.buyer_id,
    unit_day = excluded.unit_day, unit_inquiry_id = excluded.unit_inquiry_id, received_at = excluded.received_at,
    first_reply_at = excluded.first_reply_at, reply_seconds = excluded.reply_seconds, outcome = excluded.outcome,
    reason = excluded.reason, reply_source = excluded.reply_source, matched_by = excluded.matched_by,
    mailbox_id = excluded.mailbox_id, evidence = excluded.evidence, covered = excluded.covered, due_at = excluded.due_at,
    state = excluded.state, changed_at = excluded.changed_at, revision = held.revision + 1
WHERE (held.rule_version, held.account_id, held.buyer_id, held.unit_day, held.unit_inquiry_id, held.received_at,
        held.first_reply_at, held.reply_seconds, held.outcome, held.reason, held.reply_source, held.matched_by,
        held.mailbox_id, held.evidence, held.covered, held.due_at, held.state)
    IS DISTINCT FROM (excluded.rule_version, excluded.account_id, excluded.buyer_id, excluded.unit_day,
        excluded.unit_inquiry_id, excluded.received_at, excluded.first_reply_at, excluded.reply_seconds, excluded.outcome,
        excluded.reason, excluded.reply_source, excluded.matched_by, excluded.mailbox_id, excluded.evidence,
        excluded.covered, excluded.due_at, excluded.state)

-- name: gone
-- Outcomes of inquiries that are not known any more (an erase).
DELETE FROM ledger.outcomes o
WHERE o.rule_set = %(rule_set)s AND o.company_id = %(company_id)s
    AND NOT EXISTS (SELECT FROM judged j WHERE j.as_of IS NULL AND j.inquiry_id = o.inquiry_id)

-- name: rates
-- Rows of reply_rate for the given as_of days: counts by company and by account, also of accounts without inquiries.
WITH at AS MATERIALIZED (
    SELECT * FROM unnest(%(as_ofs)s::date[], %(nows)s::timestamptz[], %(firsts)s::date[], %(lasts)s::date[],
        %(states)s::text[], %(overs)s::timestamptz[]) at (as_of, now, first_day, last_day, state, over_at)
    WHERE as_of IS NOT NULL
),
account AS MATERIALIZED (
    SELECT account_id FROM registry.accounts WHERE company_id = %(company_id)s
    UNION SELECT account_id FROM ledger.inquiries WHERE company_id = %(company_id)s
    UNION SELECT account_id FROM judged
    UNION SELECT r.account_id FROM ledger.replies r JOIN ledger.inquiries i USING (company_id, inquiry_id)
        WHERE r.company_id = %(company_id)s
    UNION SELECT nullif(s.account_id, '') FROM ledger.statuses s JOIN ledger.inquiries i USING (company_id, inquiry_id)
        WHERE s.company_id = %(company_id)s AND s.account_id <> ''
),
-- Every inquiry for the company and for an account: an inquiry for its own owner's, a unit for the unit's.
received_by AS MATERIALIZED (
    SELECT 'company' AS level, '' AS account_id, j.as_of, j.own_day AS day, j.outcome FROM judged j WHERE j.as_of IS NOT NULL
    UNION ALL SELECT 'account', j.owner, j.as_of, j.own_day, j.outcome FROM judged j WHERE j.as_of IS NOT NULL
),
unit_of AS MATERIALIZED (
    SELECT 'company' AS level, '' AS account_id, j.as_of, j.unit_day AS day, j.outcome, j.covered, j.reply_seconds,
        j.received_at, j.inquiry_id
    FROM judged j WHERE j.as_of IS NOT NULL AND j.inquiry_id = j.unit_inquiry_id
    UNION ALL SELECT 'account', j.account_id, j.as_of, j.unit_day, j.outcome, j.covered, j.reply_seconds, j.received_at,
        j.inquiry_id
    FROM judged j WHERE j.as_of IS NOT NULL AND j.inquiry_id = j.unit_inquiry_id
),
who AS MATERIALIZED (
    SELECT 'company' AS level, '' AS account_id
    UNION ALL SELECT 'account', account_id FROM account WHERE account_id IS NOT NULL
),
-- The day of the last but so many counted unit of the days that a window may reach. It lies in a window that counts
-- enough, and before one that does not.
widened AS MATERIALIZED (
    SELECT c.level, c.account_id, c.as_of, min(c.day) AS first_day FROM (
        SELECT u.level, u.account_id, u.as_of, u.day, row_number() OVER (
                PARTITION BY u.level, u.account_id, u.as_of ORDER BY u.received_at DESC, u.inquiry_id DESC
            ) AS place
        FROM unit_of u JOIN at ON at.as_of = u.as_of
        WHERE %(small_sample)s = 'widen' AND u.outcome IN ('timely', 'late', 'unanswered')
            AND u.day BETWEEN at.last_day - (%(max_days)s - 1) AND at.last_day
    ) c WHERE c.place <= %(min_counted)s
    GROUP BY c.level, c.account_id, c.as_of
),
span AS MATERIALIZED (
    SELECT who.level, who.account_id, at.as_of, least(at.first_day, w.first_day) AS first_day, at.last_day, at.state, at.over_at
    FROM at CROSS JOIN who LEFT JOIN widened w USING (level, account_id, as_of)
),
received AS MATERIALIZED (
    SELECT s.level, s.account_id, s.as_of, count(*) AS inquiries, count(*) FILTER (WHERE r.outcome = 'excluded') AS excluded
    FROM span s JOIN received_by r USING (level, account_id, as_of)
    WHERE r.day BETWEEN s.first_day AND s.last_day
    GROUP BY s.level, s.account_id, s.as_of
),
measured AS MATERIALIZED (
    SELECT s.level, s.account_id, s.as_of,
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
        percentile_cont(ARRAY[0.5, 0.9, 0.95]) WITHIN GROUP (ORDER BY u.reply_seconds::double precision) AS percentiles
    FROM span s JOIN unit_of u USING (level, account_id, as_of)
    WHERE u.day BETWEEN s.first_day AND s.last_day
    GROUP BY s.level, s.account_id, s.as_of
),
row AS MATERIALIZED (
    SELECT s.level, s.account_id, s.as_of, s.first_day AS window_start,
        s.last_day AS window_end, coalesce(r.inquiries, 0) AS inquiries, coalesce(r.excluded, 0) AS excluded,
        coalesce(m.timely + m.late + m.unanswered, 0) AS counted, coalesce(m.timely, 0) AS timely,
        coalesce(m.late, 0) AS late, coalesce(m.unanswered, 0) AS unanswered, coalesce(m.unmeasured, 0) AS unmeasured,
        coalesce(m.pending, 0) AS pending, m.mean_seconds, m.percentiles[1] AS median_seconds,
        m.percentiles[2] AS p90_seconds, m.percentiles[3] AS p95_seconds,
        m.covered::numeric / nullif(m.timely + m.late + m.unanswered + m.unmeasured, 0) AS coverage, s.state, s.over_at
    FROM span s
    LEFT JOIN received r USING (level, account_id, as_of)
    LEFT JOIN measured m USING (level, account_id, as_of)
),
rated AS MATERIALIZED (
    SELECT row.*, CASE WHEN coverage >= %(min_coverage)s AND (%(small_sample)s <> 'hide' OR counted >= %(min_counted)s)
        THEN timely::numeric / nullif(counted, 0) END AS rate
    FROM row
),
changed AS MATERIALIZED (
    SELECT n.* FROM rated n
    LEFT JOIN ledger.rates held ON held.rule_set = %(rule_set)s AND held.company_id = %(company_id)s
        AND held.level = n.level AND held.account_id = n.account_id AND held.as_of = n.as_of AND held.valid_to IS NULL
    WHERE (held.rule_version, held.window_start, held.window_end, held.inquiries, held.excluded, held.counted, held.timely,
            held.late, held.unanswered, held.unmeasured, held.pending, held.rate, held.mean_seconds, held.median_seconds,
            held.p90_seconds, held.p95_seconds, held.coverage, held.state)
        IS DISTINCT FROM (%(identity)s, n.window_start, n.window_end, n.inquiries, n.excluded, n.counted, n.timely, n.late,
            n.unanswered, n.unmeasured, n.pending, n.rate, n.mean_seconds, n.median_seconds, n.p90_seconds, n.p95_seconds,
            n.coverage, n.state)
),
-- A version that held after its day was over stays as history; one of the running day was never a day's number.
ended AS (
    UPDATE ledger.rates held SET valid_to = %(now)s FROM changed n
    WHERE held.rule_set = %(rule_set)s AND held.company_id = %(company_id)s AND held.level = n.level
        AND held.account_id = n.account_id AND held.as_of = n.as_of AND held.valid_to IS NULL AND held.computed_at >= n.over_at
    RETURNING 1
),
replaced AS (
    DELETE FROM ledger.rates held USING changed n
    WHERE held.rule_set = %(rule_set)s AND held.company_id = %(company_id)s AND held.level = n.level
        AND held.account_id = n.account_id AND held.as_of = n.as_of AND held.valid_to IS NULL AND held.computed_at < n.over_at
    RETURNING 1
)
SELECT level, account_id, as_of, window_start, window_end, inquiries, excluded, counted, timely, late, unanswered,
    unmeasured, pending, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds, coverage, state,
    (SELECT count(*) FROM ended) + (SELECT count(*) FROM replaced) AS before
FROM changed

-- name: add_rates
-- New versions of rows of reply_rate.
INSERT INTO ledger.rates (
    rule_set, rule_version, level, company_id, account_id, as_of, window_start, window_end, inquiries, excluded, counted,
    timely, late, unanswered, unmeasured, pending, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds,
    rate_shown, coverage, state, computed_at, valid_from
) VALUES (
    %(rule_set)s, %(identity)s, %(level)s, %(company_id)s, %(account_id)s, %(as_of)s, %(window_start)s, %(window_end)s,
    %(inquiries)s, %(excluded)s, %(counted)s, %(timely)s, %(late)s, %(unanswered)s, %(unmeasured)s, %(pending)s, %(rate)s,
    %(mean_seconds)s, %(median_seconds)s, %(p90_seconds)s, %(p95_seconds)s, CASE %(rounding)s WHEN 'down-1' THEN trunc(100 * %(rate)s::numeric, 1)
        WHEN 'half-up-0' THEN round(100 * %(rate)s::numeric) ELSE 100 * %(rate)s::numeric END, %(coverage)s, %(state)s, %(now)s,
    %(now)s
)

-- name: forget_rates
-- A company without a known inquiry has no rate (an erase).
DELETE FROM ledger.rates WHERE rule_set = %(rule_set)s AND company_id = %(company_id)s

-- name: next_deadline
-- When the next pending unit is due.
SELECT min(due_at) AS due_at FROM judged WHERE as_of IS NULL AND outcome = 'pending' AND due_at > %(now)s

-- name: complete_through
-- Through when every mailbox of the company that should be read is complete; null when there is none.
SELECT count(*) AS mailboxes, CASE WHEN bool_and(complete_through IS NOT NULL) THEN min(complete_through) END AS through FROM registry.mailboxes
WHERE company_id = %(company_id)s AND state IN ('active', 'needs_reconnect')

-- name: activate
-- A rule set that counts from now on.
INSERT INTO ledger.rule_sets AS held (name, identity, parameters) VALUES (%(name)s, %(identity)s, %(parameters)s)
ON CONFLICT (name) DO UPDATE SET identity = excluded.identity, parameters = excluded.parameters, active = true,
    activated_at = CASE WHEN held.identity = excluded.identity AND held.active THEN held.activated_at ELSE clock_timestamp() END
WHERE (held.identity, held.active) IS DISTINCT FROM (excluded.identity, true)
RETURNING name

-- name: activate_at_start
-- A rule set that settings name: counts when it was never seen, follows its file when it is active, stays off when a
-- person has switched it off.
INSERT INTO ledger.rule_sets AS held (name, identity, parameters) VALUES (%(name)s, %(identity)s, %(parameters)s)
ON CONFLICT (name) DO UPDATE SET identity = excluded.identity, parameters = excluded.parameters,
    activated_at = clock_timestamp()
WHERE held.active AND held.identity <> excluded.identity
RETURNING name

-- name: active
-- The rule sets that count. Shared, so that none is switched off between here and the end of a refresh.
SELECT parameters::text FROM ledger.rule_sets WHERE active ORDER BY name FOR SHARE

-- name: stored
-- Every rule set that ever counted.
SELECT name, identity, active, activated_at, parameters::text AS parameters FROM ledger.rule_sets ORDER BY name

-- name: deactivate
-- Does not count any more.
UPDATE ledger.rule_sets SET active = false WHERE name = %(name)s AND active RETURNING name

-- name: retire_rates
-- A number that nobody refreshes would soon be false: it stays in the history only.
UPDATE ledger.rates SET valid_to = clock_timestamp() WHERE rule_set = %(name)s AND valid_to IS NULL

-- name: retire_outcomes
-- Outcomes have no history; they are judged anew when the rule set counts again.
DELETE FROM ledger.outcomes WHERE rule_set = %(name)s

-- name: judge_all_again
-- Every company must be judged again: a rule set is new.
INSERT INTO ledger.dirty (company_id) SELECT company_id FROM ledger.companies
