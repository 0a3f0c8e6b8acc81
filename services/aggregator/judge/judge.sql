-- name: workspace
-- Where companies are judged: a row for each judgement and inquiry, gone with the transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS judged (
    company_id text COLLATE "C", as_of date, inquiry_id text COLLATE "C", account_id text COLLATE "C", owner text COLLATE "C",
    buyer_id text COLLATE "C", own_day date, unit_day date, unit_inquiry_id text COLLATE "C", received_at timestamptz,
    first_reply_at timestamptz, reply_seconds numeric, outcome text COLLATE "C", reason text COLLATE "C",
    reply_source text COLLATE "C", matched_by text COLLATE "C", mailbox_id text COLLATE "C", evidence text COLLATE "C",
    covered boolean, due_at timestamptz, state text COLLATE "C"
) ON COMMIT DELETE ROWS

-- name: forget_last
-- What another rule set left in this transaction; cheaper than TRUNCATE for so few rows.
DELETE FROM judged

-- name: planner
-- The steps below are joined as sets; Postgres cannot know their sizes and would look up row by row (12 times slower), or
-- merge by the judgement alone and compare all of its rows with each other.
SELECT set_config('enable_nestloop', 'off', true), set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true)

-- name: into
-- Outcomes and rates without a schema are those of `ledger`, which are shown, or of `shadow`, a recompute's.
SELECT set_config('search_path', %(schema)s, true)

-- name: span
-- Of each company: its first known receipt and how many inquiries it has, what was judged last, from which day on rows are not final, through which
-- day it was settled, how far the mailboxes that should be read are complete (`mailboxes` 0: there are none), from which
-- receipt on outcomes can be other ones now without any fact, and up to when everything that was published has been counted.
SELECT c.company_id, least(%(now)s, p.passed_at) AS passed_at,
    (SELECT min(i.received_at) FROM ledger.inquiries i
        WHERE i.company_id = c.company_id AND i.received_at < %(now)s) AS first_at,
    (SELECT count(*) FROM ledger.inquiries i
        WHERE i.company_id = c.company_id AND i.received_at < %(now)s) AS inquiries,
    (SELECT max(r.as_of) FROM rates r
        WHERE r.company_id = c.company_id AND r.rule_set = %(rule_set)s AND r.valid_to IS NULL) AS last_as_of,
    (SELECT min(r.as_of) FROM rates r WHERE r.company_id = c.company_id AND r.rule_set = %(rule_set)s
        AND r.level = 'company' AND r.valid_to IS NULL AND r.state = 'provisional') AS provisional_from,
    (SELECT max(s.through) FROM (SELECT * FROM settled UNION ALL SELECT * FROM ledger.settled) s
        WHERE s.company_id = c.company_id AND s.rule_set = %(rule_set)s AND s.rule_version = %(identity)s) AS settled,
    (SELECT count(*) FROM registry.mailboxes m
        WHERE m.company_id = c.company_id AND m.state IN ('active', 'needs_reconnect')) AS mailboxes,
    (SELECT CASE WHEN bool_and(w.through_at IS NOT NULL) THEN min(w.through_at) END
        FROM registry.mailboxes m
        CROSS JOIN LATERAL (SELECT CASE WHEN m.last_success_at > p.passed_at
            -- What the last poll found may not have been counted yet.
            THEN (SELECT max(v.through_at) FROM registry.coverage v WHERE v.company_id = m.company_id
                AND v.account_id = m.account_id AND v.mailbox_id = m.mailbox_id AND v.recorded_at <= p.passed_at)
            ELSE m.complete_through END AS through_at) w
        WHERE m.company_id = c.company_id AND m.state IN ('active', 'needs_reconnect')) AS complete_through,
    (SELECT min(o.received_at) FROM outcomes o WHERE o.company_id = c.company_id AND o.rule_set = %(rule_set)s
        AND (o.state = 'provisional' OR o.outcome = 'pending')) AS open_from,
    -- What was told beforehand and happened since the company was judged.
    l.judged_at IS NULL AS unjudged, least(
        (SELECT min(i.received_at) FROM ledger.inquiries i WHERE i.company_id = c.company_id AND i.received_at >= l.judged_at),
        (SELECT min(i.received_at) FROM ledger.statuses s JOIN ledger.inquiries i USING (company_id, inquiry_id)
            WHERE s.company_id = c.company_id AND i.company_id = c.company_id AND s.at >= l.judged_at),
        (SELECT min(i.received_at) FROM ledger.replies r JOIN ledger.inquiries i USING (company_id, inquiry_id)
            WHERE r.company_id = c.company_id AND i.company_id = c.company_id AND r.replied_at >= l.judged_at)
    ) AS come_from
FROM unnest(%(companies)s::text[]) c (company_id)
LEFT JOIN ledger.companies l ON l.company_id = c.company_id COLLATE "C"
LEFT JOIN ledger.passed p ON p.company_id = c.company_id COLLATE "C"

-- name: judgement
-- Every known inquiry at each of the given judgements, step by step. Not a statement: `judge` and explain.sql go on from
-- here, so that an explanation is made of what the number was made of. k numbers the judgements of all companies.
-- Up to `passed` everything that was published has been counted.
WITH at AS MATERIALIZED (
    SELECT at.company_id COLLATE "C" AS company_id, as_of, now, reach, until, settled, k, coalesce(p.passed_at, 'infinity') AS passed
    FROM unnest(%(each)s::text[], %(as_ofs)s::date[], %(nows)s::timestamptz[], %(reaches)s::date[], %(untils)s::date[],
        %(settled)s::date[]) WITH ORDINALITY at (company_id, as_of, now, reach, until, settled, k)
    LEFT JOIN ledger.passed p ON p.company_id = at.company_id COLLATE "C"
),
exclusion AS MATERIALIZED (
    SELECT ord, entry ->> 'when' AS cause, (entry ->> 'within_seconds')::bigint AS within
    FROM jsonb_array_elements(%(parameters)s::jsonb -> 'exclude') WITH ORDINALITY e (entry, ord)
),
-- Conversations of which an inquiry lies among the days of a judgement: all of their inquiries matter, however old.
near AS MATERIALIZED (
    SELECT DISTINCT at.k, i.buyer_id, i.thread_id
    FROM at JOIN ledger.inquiries i ON i.company_id = at.company_id AND i.received_at < at.now
    WHERE %(unit)s = 'first-per-thread' AND at.reach > date '1970-01-01' AND i.thread_id IS NOT NULL
        AND i.company_id = ANY (%(companies)s) AND (i.received_at AT TIME ZONE %(zone)s)::date BETWEEN at.reach AND at.until
),
known AS MATERIALIZED (
    SELECT at.k, at.company_id, at.now, i.inquiry_id, i.account_id AS receiver, i.buyer_id, i.thread_id, i.received_at,
        (i.received_at AT TIME ZONE %(zone)s)::date AS day,
        ((CASE %(period_by)s WHEN 'deadline' THEN i.received_at + make_interval(secs => %(target)s) ELSE i.received_at END)
            AT TIME ZONE %(zone)s)::date AS period,
        i.buyer_region = 'CN' OR i.buyer_sent_from_region = 'CN' AS from_china
    FROM at JOIN ledger.inquiries i ON i.company_id = at.company_id AND i.received_at < at.now
    LEFT JOIN near ON near.k = at.k AND near.buyer_id = i.buyer_id AND near.thread_id = i.thread_id
    WHERE i.company_id = ANY (%(companies)s)
        AND ((i.received_at AT TIME ZONE %(zone)s)::date BETWEEN at.reach AND at.until OR near.k IS NOT NULL)
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
        JOIN ledger.statuses s ON s.company_id = k.company_id AND s.inquiry_id = k.inquiry_id AND s.at < k.now
        WHERE s.company_id = ANY (%(companies)s)
    ) s WHERE s.exists
),
moved AS MATERIALIZED (
    SELECT DISTINCT ON (k, inquiry_id) k, inquiry_id, account_id FROM status
    WHERE status = 'reassigned' AND %(attribution)s = 'current-owner'
    ORDER BY k, inquiry_id, at DESC, account_id DESC
),
hit AS MATERIALIZED (
    SELECT DISTINCT ON (k, inquiry_id) k, inquiry_id, ord, cause FROM (
        SELECT s.k, s.inquiry_id, e.ord, e.cause FROM status s JOIN exclusion e ON e.cause = s.status
        WHERE e.within IS NULL OR s.at <= s.received_at + make_interval(secs => e.within)
        UNION ALL
        SELECT k.k, k.inquiry_id, e.ord, e.cause FROM known k JOIN exclusion e ON e.cause = 'mainland-china-buyer'
        WHERE k.from_china
    ) h ORDER BY k, inquiry_id, ord
),
fate AS MATERIALIZED (
    SELECT k.k, k.company_id, k.now, k.inquiry_id, k.buyer_id, k.thread_id, k.received_at, k.day, k.period,
        coalesce(m.account_id, k.receiver) AS owner, h.cause AS excluded_by, h.ord AS exclusion
    FROM known k LEFT JOIN moved m USING (k, inquiry_id) LEFT JOIN hit h USING (k, inquiry_id)
),
member AS MATERIALIZED (
    SELECT f.k, f.company_id, f.now, f.inquiry_id, f.buyer_id, f.received_at, f.period, f.owner,
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
-- What may have stopped the clock; `unfit` says why it cannot, null that it can.
considered AS MATERIALIZED (
    SELECT m.k, m.unit_inquiry_id, m.inquiry_id, m.start_at, r.replied_at AS at, r.source, r.reply_id, r.account_id,
        r.mailbox_id, r.kind_reason, r.evidence, r.kind, r.matched_by,
        CASE WHEN r.replied_at < m.start_at - interval '300 s' THEN 'before-the-inquiry'
            WHEN r.kind IN ('bulk', 'bounce') THEN r.kind
            WHEN r.kind = 'automatic' THEN CASE WHEN 'automatic-reply' = ANY (%(answered_by)s) THEN NULL ELSE 'automatic' END
            WHEN r.source = 'mail' AND 'human-reply' = ANY (%(answered_by)s) THEN NULL
            WHEN r.source = 'platform' AND 'platform-reply' = ANY (%(answered_by)s) THEN NULL
            ELSE 'not-an-answer-here' END AS unfit
    FROM member m JOIN ledger.replies r ON r.company_id = m.company_id AND r.inquiry_id = m.inquiry_id
        AND r.replied_at < m.now
    WHERE r.company_id = ANY (%(companies)s)
    UNION ALL
    SELECT m.k, m.unit_inquiry_id, m.inquiry_id, m.start_at, s.at, 'status', s.status, s.account_id, '', '', '', 'human', '',
        CASE WHEN s.at < m.start_at - interval '300 s' THEN 'before-the-inquiry' END
    FROM member m JOIN status s USING (k, inquiry_id)
    WHERE s.status IN ('rejected', 'declined') AND s.status = ANY (%(answered_by)s)
        OR s.status = 'spam' AND 'spam-report' = ANY (%(answered_by)s)
),
silent AS MATERIALIZED (
    SELECT k, unit_inquiry_id FROM considered
    WHERE source <> 'status' AND unfit IS DISTINCT FROM 'before-the-inquiry'
    GROUP BY k, unit_inquiry_id HAVING bool_and(kind = 'automatic')
),
way AS MATERIALIZED (
    SELECT k, unit_inquiry_id, reply_id, min(array_position(%(ways)s::text[], matched_by)) AS strength
    FROM considered WHERE source = 'mail' AND unfit IS DISTINCT FROM 'before-the-inquiry'
    GROUP BY k, unit_inquiry_id, reply_id
),
-- The earliest; where only verified mail makes a unit timely, the earliest of what does, if there is such a thing.
answer AS MATERIALIZED (
    SELECT DISTINCT ON (c.k, c.unit_inquiry_id) c.*,
        %(evidence)s = 'any' OR c.source <> 'mail' OR c.evidence = 'verified' AS accepted
    FROM considered c WHERE c.unfit IS NULL
    ORDER BY c.k, c.unit_inquiry_id,
        (%(evidence)s = 'any' OR c.source <> 'mail' OR c.evidence = 'verified')
            AND c.at <= c.start_at + make_interval(secs => %(target)s) DESC,
        c.at, array_position(ARRAY['mail', 'platform', 'status'], c.source), c.reply_id,
        c.account_id, c.mailbox_id, c.kind_reason, c.evidence
),
-- Coverage has a row for every good poll. Rows that begin alike and became known between the same two judgements are
-- one line here, so the work below depends on days and not on polls. What was sent before a row became known may not have
-- been counted yet: the row waits until it has.
moments AS MATERIALIZED (SELECT array_agg(DISTINCT now ORDER BY now) AS list FROM at),
line AS MATERIALIZED (
    SELECT c.company_id, c.account_id, c.mailbox_id, c.from_at, width_bucket(c.recorded_at, m.list) AS known_after,
        max(c.through_at) AS through_at, max(c.recorded_at) AS recorded_at,
        (array_agg(c.coverage_id ORDER BY c.recorded_at DESC, c.coverage_id DESC))[1] AS coverage_id,
        (array_agg(c.connected_at ORDER BY c.recorded_at DESC, c.coverage_id DESC))[1] AS connected_at,
        (array_agg(c.removed_at ORDER BY c.recorded_at DESC, c.coverage_id DESC))[1] AS removed_at
    FROM registry.coverage c JOIN (SELECT DISTINCT company_id, passed FROM at) p USING (company_id) CROSS JOIN moments m
    WHERE c.company_id = ANY (%(companies)s) AND c.recorded_at <= p.passed
    GROUP BY c.company_id, c.account_id, c.mailbox_id, c.from_at, known_after
),
-- Mailboxes of the company as they were known at the judgement, and what they were complete for.
mailbox AS MATERIALIZED (
    SELECT at.k, c.account_id, c.mailbox_id,
        (array_agg(c.connected_at ORDER BY c.recorded_at DESC, c.coverage_id DESC))[1] AS connected_at,
        (array_agg(c.removed_at ORDER BY c.recorded_at DESC, c.coverage_id DESC))[1] AS removed_at,
        -- A later row without it only states the connection, or its end.
        (array_agg(c.from_at ORDER BY c.recorded_at DESC, c.coverage_id DESC) FILTER (WHERE c.from_at IS NOT NULL))[1] AS from_at,
        range_agg(tstzrange(c.from_at, c.through_at, '[]'))
            FILTER (WHERE c.from_at IS NOT NULL AND c.through_at IS NOT NULL) AS complete
    FROM at CROSS JOIN moments m
    JOIN line c ON c.company_id = at.company_id AND c.known_after < array_position(m.list, at.now)
    GROUP BY at.k, c.account_id, c.mailbox_id
),
unit AS MATERIALIZED (
    SELECT m.k, m.unit_inquiry_id, m.account_id, m.start_at, a.at AS answered_at, a.source, a.reply_id, a.mailbox_id,
        a.evidence, a.accepted, CASE WHEN %(attribution)s = 'responder' THEN nullif(a.account_id, '') END AS responder,
        CASE WHEN a.at IS NOT NULL THEN greatest(0, extract(epoch FROM a.at - m.start_at)) END AS seconds,
        m.start_at + make_interval(secs => %(target)s) AS due_at
    FROM member m LEFT JOIN answer a USING (k, unit_inquiry_id)
    WHERE m.inquiry_id = m.unit_inquiry_id
),
-- Which mailbox (or the platform: mailbox_id null) covers a unit without an answer; `due`: it was connected in time.
watch AS MATERIALIZED (
    SELECT u.k, u.unit_inquiry_id, m.mailbox_id,
        m.connected_at <= u.due_at AND (m.removed_at IS NULL OR m.removed_at >= u.due_at) AS due,
        CASE WHEN m.mailbox_id IS NULL
            THEN m.from_at <= u.start_at AND (m.removed_at IS NULL OR m.removed_at >= u.due_at)
            ELSE m.complete @> tstzrange(u.start_at, u.due_at, '[]') END IS TRUE AS covers
    FROM unit u JOIN mailbox m ON m.k = u.k AND m.account_id = u.account_id WHERE u.answered_at IS NULL
),
-- Covered: synced by the platform, or by every mailbox that was connected in time, or, where none was, by any.
covered AS MATERIALIZED (
    SELECT w.k, w.unit_inquiry_id FROM watch w
    GROUP BY w.k, w.unit_inquiry_id
    HAVING bool_or(w.covers) FILTER (WHERE w.mailbox_id IS NULL) IS TRUE
        OR coalesce(
            bool_and(w.covers) FILTER (WHERE w.due AND w.mailbox_id IS NOT NULL),
            bool_or(w.covers) FILTER (WHERE w.mailbox_id IS NOT NULL)
        ) IS TRUE
),
result AS MATERIALIZED (
    SELECT at.company_id, at.as_of, m.inquiry_id, coalesce(r.responder, m.account_id) AS account_id,
        coalesce(r.responder, m.owner) AS owner, m.buyer_id, m.period AS own_day, m.unit_day, m.unit_inquiry_id, m.received_at,
        u.answered_at AS first_reply_at, u.seconds AS reply_seconds,
        CASE WHEN u.k IS NULL THEN 'merged'
            WHEN u.answered_at IS NOT NULL THEN CASE WHEN u.accepted AND u.seconds <= %(target)s THEN 'timely' ELSE 'late' END
            WHEN least(m.now, at.passed) < u.due_at THEN 'pending'
            WHEN c.k IS NULL AND %(unmeasured)s = 'separate' THEN 'unmeasured'
            ELSE 'unanswered' END AS outcome,
        CASE WHEN q.k IS NOT NULL AND u.answered_at IS NULL AND least(m.now, at.passed) >= u.due_at
            AND (c.k IS NOT NULL OR %(unmeasured)s <> 'separate') THEN 'only-automatic-replies' END AS reason,
        u.source AS reply_source,
        CASE u.source WHEN 'platform' THEN 'platform' WHEN 'mail' THEN (%(ways)s::text[])[w.strength] END AS matched_by,
        CASE WHEN u.source = 'mail' THEN u.mailbox_id END AS mailbox_id,
        CASE WHEN u.source = 'mail' THEN u.evidence END AS evidence,
        CASE WHEN u.k IS NOT NULL THEN u.answered_at IS NOT NULL OR c.k IS NOT NULL END AS covered,
        u.due_at, CASE WHEN m.unit_day <= at.settled THEN 'final' ELSE 'provisional' END AS state
    FROM member m
    JOIN at USING (k)
    LEFT JOIN unit u ON u.k = m.k AND u.unit_inquiry_id = m.inquiry_id
    LEFT JOIN unit r ON r.k = m.k AND r.unit_inquiry_id = m.unit_inquiry_id
    LEFT JOIN covered c ON c.k = u.k AND c.unit_inquiry_id = u.unit_inquiry_id
    LEFT JOIN silent q ON q.k = u.k AND q.unit_inquiry_id = u.unit_inquiry_id
    LEFT JOIN way w ON w.k = u.k AND w.unit_inquiry_id = u.unit_inquiry_id AND w.reply_id = u.reply_id
    UNION ALL
    SELECT at.company_id, at.as_of, f.inquiry_id, f.owner, f.owner, f.buyer_id, f.period, f.period, NULL, f.received_at, NULL,
        NULL, 'excluded', f.excluded_by, NULL, NULL, NULL, NULL, NULL, NULL,
        CASE WHEN f.period <= at.settled THEN 'final' ELSE 'provisional' END
    FROM fate f JOIN at USING (k) WHERE f.excluded_by IS NOT NULL
)

-- name: judge
-- Goes on from `judgement`: what became of each inquiry at each judgement.
SELECT company_id, as_of, inquiry_id, account_id, owner, buyer_id, own_day, unit_day, unit_inquiry_id, received_at, first_reply_at,
    reply_seconds, outcome, reason, reply_source, matched_by, mailbox_id, evidence, covered, due_at, state
FROM result

-- name: keep
-- Goes before `judgement` and `judge`: keeps what they find.
INSERT INTO judged

-- name: outcomes
-- Outcomes as they are now; revision and changed_at move only where something changed, and what was goes into the history.
WITH new AS MATERIALIZED (SELECT * FROM judged WHERE as_of IS NULL),
before AS (
    INSERT INTO outcome_history (rule_set, company_id, inquiry_id, revision, rule_version, account_id, outcome, reason,
        first_reply_at, state, changed_at)
    SELECT held.rule_set, held.company_id, held.inquiry_id, held.revision, held.rule_version, held.account_id, held.outcome,
        held.reason, held.first_reply_at, held.state, held.changed_at
    FROM outcomes held JOIN new USING (company_id, inquiry_id)
    WHERE held.rule_set = %(rule_set)s AND held.company_id = ANY (%(companies)s)
        AND (held.rule_version, held.account_id, held.outcome, held.reason, held.first_reply_at, held.state)
            IS DISTINCT FROM (%(identity)s, new.account_id, new.outcome, new.reason, new.first_reply_at, new.state)
    ON CONFLICT DO NOTHING
)
INSERT INTO outcomes AS held (
    rule_set, company_id, inquiry_id, rule_version, account_id, buyer_id, unit_day, unit_inquiry_id, received_at,
    first_reply_at, reply_seconds, outcome, reason, reply_source, matched_by, mailbox_id, evidence, covered, due_at, state,
    owner, own_day, changed_at
)
SELECT %(rule_set)s, j.company_id, j.inquiry_id, %(identity)s, j.account_id, j.buyer_id, j.unit_day, j.unit_inquiry_id,
    j.received_at, j.first_reply_at, j.reply_seconds, j.outcome, j.reason, j.reply_source, j.matched_by, j.mailbox_id,
    j.evidence, j.covered, j.due_at, j.state, j.owner, j.own_day, %(now)s
FROM new j
ON CONFLICT (rule_set, company_id, inquiry_id) DO UPDATE SET
    rule_version = excluded.rule_version, account_id = excluded.account_id, buyer_id = excluded.buyer_id,
    unit_day = excluded.unit_day, unit_inquiry_id = excluded.unit_inquiry_id, received_at = excluded.received_at,
    first_reply_at = excluded.first_reply_at, reply_seconds = excluded.reply_seconds, outcome = excluded.outcome,
    reason = excluded.reason, reply_source = excluded.reply_source, matched_by = excluded.matched_by,
    mailbox_id = excluded.mailbox_id, evidence = excluded.evidence, covered = excluded.covered, due_at = excluded.due_at,
    state = excluded.state, owner = excluded.owner, own_day = excluded.own_day, changed_at = excluded.changed_at, revision = held.revision + 1
WHERE (held.rule_version, held.account_id, held.buyer_id, held.unit_day, held.unit_inquiry_id, held.received_at,
        held.first_reply_at, held.reply_seconds, held.outcome, held.reason, held.reply_source, held.matched_by,
        held.mailbox_id, held.evidence, held.covered, held.due_at, held.state, held.owner, held.own_day)
    IS DISTINCT FROM (excluded.rule_version, excluded.account_id, excluded.buyer_id, excluded.unit_day,
        excluded.unit_inquiry_id, excluded.received_at, excluded.first_reply_at, excluded.reply_seconds, excluded.outcome,
        excluded.reason, excluded.reply_source, excluded.matched_by, excluded.mailbox_id, excluded.evidence,
        excluded.covered, excluded.due_at, excluded.state, excluded.owner, excluded.own_day)

-- name: gone
-- Outcomes of inquiries that are not known any more (an erase).
DELETE FROM outcomes o
WHERE o.rule_set = %(rule_set)s AND o.company_id = ANY (%(companies)s)
    AND NOT EXISTS (SELECT FROM judged j WHERE j.as_of IS NULL AND j.company_id = o.company_id AND j.inquiry_id = o.inquiry_id)

-- name: settle
-- Through which day each company is settled.
INSERT INTO settled AS held (rule_set, company_id, rule_version, through)
SELECT %(rule_set)s, c.company_id, %(identity)s, c.through
FROM unnest(%(each_company)s::text[], %(each_settled)s::date[]) c (company_id, through)
ON CONFLICT (rule_set, company_id) DO UPDATE SET rule_version = excluded.rule_version, through = excluded.through
WHERE (held.rule_version, held.through) IS DISTINCT FROM (excluded.rule_version, excluded.through)

-- name: next_due
-- When time alone changes something: a pending unit is due, or something happens that was told of beforehand.
SELECT c.company_id, least(
    (SELECT min(o.due_at) FROM outcomes o
        WHERE o.rule_set = %(rule_set)s AND o.company_id = c.company_id AND o.outcome = 'pending'),
    (SELECT min(i.received_at) FROM ledger.inquiries i WHERE i.company_id = c.company_id AND i.received_at >= %(now)s),
    (SELECT min(s.at) FROM ledger.statuses s WHERE s.company_id = c.company_id AND s.at >= %(now)s),
    (SELECT min(r.replied_at) FROM ledger.replies r WHERE r.company_id = c.company_id AND r.replied_at >= %(now)s)
) AS due_at
FROM unnest(%(companies)s::text[]) c (company_id)
