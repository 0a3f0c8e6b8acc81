-- name: workspace_is_ours
-- Whether this session has the temporary tables in the form of this release. Behind a pooler in transaction mode it may have those
-- of another, which runs during an upgrade or ran before.
SELECT coalesce(obj_description(to_regclass('pg_temp.judged'), 'pg_class') = %(form)s, false) AND NOT EXISTS (
    SELECT FROM (VALUES ('pg_temp.counted', 'ledger.rates'), ('pg_temp.loaded_range', 'ledger.rate_ranges')) copy (name, original)
    WHERE (SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(copy.name) AND attnum > 0 AND NOT attisdropped)
        <> (SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(copy.original) AND attnum > 0 AND NOT attisdropped)
)

-- name: drop_workspace
-- Removes temporary tables of another form.
DROP TABLE IF EXISTS pg_temp.judged, pg_temp.counted, pg_temp.day_end, pg_temp.touched_rates, pg_temp.loaded_range, pg_temp.new_range

-- name: mark_workspace
-- Notes the form of the temporary tables.
COMMENT ON TABLE pg_temp.judged IS {form}

-- name: workspace
-- Results of judging companies: outcomes of inquiries, each for the as_of days during which it stays the same, and whether it is
-- the outcome now. Emptied at the end of the transaction.
CREATE TEMPORARY TABLE judged (
    company_id text COLLATE "C", first_as_of date, last_as_of date, is_current boolean, inquiry_id text COLLATE "C",
    account_id text COLLATE "C", owner text COLLATE "C",
    buyer_id text COLLATE "C", own_day date, unit_day date, unit_inquiry_id text COLLATE "C", received_at timestamptz,
    first_reply_at timestamptz, reply_seconds numeric, outcome text COLLATE "C", reason text COLLATE "C",
    reply_source text COLLATE "C", matched_by text COLLATE "C", mailbox_id text COLLATE "C", evidence text COLLATE "C",
    covered boolean, due_at timestamptz, state text COLLATE "C"
) ON COMMIT DELETE ROWS

-- name: clear_workspace
-- Removes the rows of another rule set judged in this transaction; cheaper than TRUNCATE for few rows.
DELETE FROM judged

-- name: planner_settings
-- The steps below join sets whose sizes Postgres cannot estimate. Left to itself it would look up row by row (12 times
-- slower), or merge by the judgement alone and compare all of its rows with each other.
SELECT set_config('enable_nestloop', 'off', true), set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true)

-- name: use_schema
-- Tables named without a schema are those of `ledger` (shown) or of `shadow` (a recompute's).
SELECT set_config('search_path', %(schema)s, true)

-- name: planning_inputs
-- One row per company: up to when everything published has been counted (`passed_at`), the first known receipt, the number
-- of known inquiries, the last judged day, the first day whose row is not final, the last settled day, how many mailboxes
-- should be read (`mailboxes` 0: none) and how far all of them are complete, the first receipt whose outcome can still change
-- without a new fact (`open_from`), and that of a fact dated in the future that has happened since the last judgement
-- (`announced_from`).
SELECT company.company_id, least(%(now)s, partition.passed_at) AS passed_at,
    least(
        (SELECT min(inquiry.received_at) FROM ledger.inquiries inquiry
            WHERE inquiry.company_id = company.company_id AND inquiry.received_at < %(now)s),
        (SELECT min(part.first_received_at) FROM ledger.archive_parts part WHERE part.company_id = company.company_id)
    ) AS first_received_at,
    (SELECT count(*) FROM ledger.inquiries inquiry
        WHERE inquiry.company_id = company.company_id AND inquiry.received_at < %(now)s) AS inquiries,
    (SELECT max(rate.last_as_of) FROM rate_ends rate WHERE rate.company_id = company.company_id
        AND rate.rule_set = %(rule_set)s) AS last_as_of,
    (SELECT min(rate.first_as_of) FROM rate_ends rate WHERE rate.company_id = company.company_id AND rate.rule_set = %(rule_set)s
        AND rate.level = 'company' AND rate.state = 'provisional') AS provisional_from,
    (SELECT max(day.through) FROM (SELECT * FROM settled UNION ALL SELECT * FROM ledger.settled) day
        WHERE day.company_id = company.company_id AND day.rule_set = %(rule_set)s AND day.rule_version = %(identity)s) AS settled,
    (SELECT count(*) FROM registry.mailbox_reading mailbox
        WHERE mailbox.company_id = company.company_id AND mailbox.state IN ('active', 'needs_reconnect')) AS mailboxes,
    (SELECT CASE WHEN bool_and(counted.through_at IS NOT NULL) THEN min(counted.through_at) END
        FROM registry.mailbox_reading mailbox
        LEFT JOIN (
            SELECT step.account_id, step.mailbox_id, max(step.through_at) AS through_at FROM registry.coverage step
            WHERE step.company_id = company.company_id AND step.recorded_at <= partition.passed_at
                AND coalesce(step.superseded_at, 'infinity') BETWEEN partition.passed_at AND 'infinity'
            GROUP BY step.account_id, step.mailbox_id
        ) step ON step.account_id = mailbox.account_id AND step.mailbox_id = mailbox.mailbox_id
        CROSS JOIN LATERAL (SELECT CASE WHEN mailbox.last_success_at > partition.passed_at
            -- Messages of the last poll may not have been counted yet.
            THEN step.through_at ELSE mailbox.complete_through END AS through_at) counted
        WHERE mailbox.company_id = company.company_id AND mailbox.state IN ('active', 'needs_reconnect')) AS complete_through,
    (SELECT min(outcome.received_at) FROM outcomes outcome WHERE outcome.company_id = company.company_id
        AND outcome.rule_set = %(rule_set)s AND (outcome.state = 'provisional' OR outcome.outcome = 'pending')) AS open_from,
    judged_company.judged_at IS NULL AS never_judged, least(
        (SELECT min(inquiry.received_at) FROM ledger.inquiries inquiry
            WHERE inquiry.company_id = company.company_id AND inquiry.received_at >= judged_company.judged_at),
        (SELECT min(inquiry.received_at) FROM ledger.statuses status JOIN ledger.inquiries inquiry USING (company_id, inquiry_id)
            WHERE status.company_id = company.company_id AND inquiry.company_id = company.company_id
                AND status.at >= judged_company.judged_at),
        (SELECT min(inquiry.received_at) FROM ledger.replies reply JOIN ledger.inquiries inquiry USING (company_id, inquiry_id)
            WHERE reply.company_id = company.company_id AND inquiry.company_id = company.company_id
                AND reply.replied_at >= judged_company.judged_at)
    ) AS announced_from
FROM unnest(%(companies)s::text[]) company (company_id)
-- The list of companies once more, for the index: joined as sets, the whole table would be read.
LEFT JOIN ledger.companies judged_company ON judged_company.company_id = company.company_id COLLATE "C"
    AND judged_company.company_id = ANY (%(companies)s)
LEFT JOIN ledger.passed partition ON partition.company_id = company.company_id COLLATE "C"
    AND partition.company_id = ANY (%(companies)s)

-- name: every_inquiry
-- Goes before `steps`: the inquiries that are judged, all of them, with their statuses and replies.
WITH ledger_inquiry AS NOT MATERIALIZED (SELECT * FROM ledger.inquiries),
ledger_status AS NOT MATERIALIZED (SELECT * FROM ledger.statuses),
ledger_reply AS NOT MATERIALIZED (SELECT * FROM ledger.replies),

-- name: recent_inquiries
-- Goes before `steps` in place of `every_inquiry`: the inquiries of each company since the first day of receipt that its judgements look
-- at. Looked up one by one, so that a judgement of some days costs the same however many inquiries the company had before.
WITH ledger_inquiry AS MATERIALIZED (
    SELECT inquiry.* FROM unnest(%(companies)s::text[], %(received_froms)s::timestamptz[]) company (company_id, received_from)
    CROSS JOIN LATERAL (
        SELECT * FROM ledger.inquiries inquiry
        WHERE inquiry.company_id = company.company_id COLLATE "C" AND inquiry.received_at >= company.received_from OFFSET 0
    ) inquiry
),
ledger_status AS MATERIALIZED (
    SELECT status.* FROM ledger_inquiry inquiry CROSS JOIN LATERAL (
        SELECT * FROM ledger.statuses status
        WHERE status.company_id = inquiry.company_id AND status.inquiry_id = inquiry.inquiry_id OFFSET 0
    ) status
),
ledger_reply AS MATERIALIZED (
    SELECT reply.* FROM ledger_inquiry inquiry CROSS JOIN LATERAL (
        SELECT * FROM ledger.replies reply
        WHERE reply.company_id = inquiry.company_id AND reply.inquiry_id = inquiry.inquiry_id OFFSET 0
    ) reply
),

-- name: steps
-- What each known inquiry is at each of the given judgements, step by step. Not a statement of its own: select_outcomes and
-- explain.sql continue from here, so that an explanation is made of the rows that made the number. The steps begin after
-- `every_inquiry`, or, for an explanation, after the inquiries that can share a unit.
--
-- An outcome changes at few instants: a receipt, a status, an answer, a deadline, a change of coverage. So inquiries are not judged
-- at every judgement, but at `judging_point`s: the first judgement that knows of such a change. The result is valid until the next
-- point. Inquiries that can share a unit (`unit_group`) are judged at the same points, and a point has one unit at most.
judgement AS MATERIALIZED (
    SELECT judgement.company_id COLLATE "C" AS company_id, as_of, now, receipt_from, receipt_until, settled_through,
        -- Up to here everything that was published has been counted.
        coalesce(partition.passed_at, 'infinity') AS watermark
    FROM unnest(%(judged_companies)s::text[], %(as_ofs)s::date[], %(nows)s::timestamptz[], %(receipts_from)s::date[],
        %(receipts_until)s::date[], %(settled_through)s::date[])
        judgement (company_id, as_of, now, receipt_from, receipt_until, settled_through)
    LEFT JOIN ledger.passed partition ON partition.company_id = judgement.company_id COLLATE "C"
        AND partition.company_id = ANY (%(companies)s)
),
-- The instants of a company's judgements, counted from 1. Several judgements can share one: today's row and the outcomes as they are.
judgement_instant AS MATERIALIZED (
    SELECT company_id, now, row_number() OVER (PARTITION BY company_id ORDER BY now) AS instant_no,
        min(as_of) AS first_as_of, max(as_of) AS last_as_of,
        min(receipt_from) FILTER (WHERE as_of IS NOT NULL) AS receipt_from, max(receipt_until) FILTER (WHERE as_of IS NOT NULL) AS receipt_until
    FROM judgement GROUP BY company_id, now
),
-- The same by company. Rows look at receipts of `receipts_from` to `receipts_until`, which increase; outcomes as they are at all since
-- `outcomes_from` (null: they are not judged).
company_judgement AS MATERIALIZED (
    SELECT company.*, row_number() OVER (ORDER BY company_id) AS company_no, instant.instants, instant.first_as_ofs, instant.last_as_ofs, instant.last_as_of, instant.receipts_from,
        instant.receipts_until, instant.last_now, instant.last_instant_no
    FROM (
        SELECT company_id, min(settled_through) AS settled_through, min(watermark) AS watermark,
            min(receipt_from) FILTER (WHERE as_of IS NULL) AS outcomes_from
        FROM judgement GROUP BY company_id
    ) company JOIN (
        SELECT company_id, array_agg(now ORDER BY instant_no) AS instants, array_agg(first_as_of ORDER BY instant_no) AS first_as_ofs,
            array_agg(last_as_of ORDER BY instant_no) AS last_as_ofs, max(last_as_of) AS last_as_of,
            array_agg(receipt_from ORDER BY instant_no) FILTER (WHERE receipt_from IS NOT NULL) AS receipts_from,
            array_agg(receipt_until ORDER BY instant_no) FILTER (WHERE receipt_until IS NOT NULL) AS receipts_until,
            max(now) AS last_now, max(instant_no)::integer AS last_instant_no
        FROM judgement_instant GROUP BY company_id
    ) instant USING (company_id)
),
exclusion_rule AS MATERIALIZED (
    SELECT position, entry ->> 'when' AS cause, (entry ->> 'within_seconds')::bigint AS within_seconds
    FROM jsonb_array_elements(%(exclude)s::jsonb) WITH ORDINALITY rule (entry, position)
),
-- Inquiries, the instants to which each matters (null: to none), and the first that knows of it. Those without account or buyer were
-- merged from incomplete records before such became dead letters. OFFSET 0 keeps Postgres from computing the local day and the
-- positions again wherever they are named.
known_inquiry AS MATERIALIZED (
    SELECT company_no, company_id, inquiry_id, receiver, buyer_id, thread_id, received_at, receipt_day,
        CASE %(period_by)s
            WHEN 'deadline' THEN ((received_at + make_interval(secs => %(target_seconds)s)) AT TIME ZONE %(time_zone)s)::date
            ELSE receipt_day END AS period_day,
        from_mainland_china, has_address,
        -- Inquiries that are equal in these can share a unit.
        CASE %(unit)s WHEN 'each-inquiry' THEN inquiry_id ELSE buyer_id END AS group_text,
        CASE %(unit)s WHEN 'first-per-buyer-day' THEN receipt_day END AS group_day,
        CASE %(unit)s WHEN 'first-per-thread' THEN thread_id END AS group_thread,
        CASE WHEN %(unit)s = 'first-per-thread' AND thread_id IS NULL THEN inquiry_id END AS group_inquiry,
        is_current,
        CASE WHEN row_from <= row_until THEN row_from WHEN is_current THEN last_instant_no END AS first_no,
        CASE WHEN is_current THEN last_instant_no WHEN row_from <= row_until THEN row_until END AS last_no, received_no
    FROM (
        SELECT local.*, coalesce(receipt_day >= outcomes_from, false) AS is_current,
            coalesce(width_bucket(receipt_day - 1, receipts_until) + 1, 1) AS row_from,
            coalesce(width_bucket(receipt_day, receipts_from), 0) AS row_until,
            width_bucket(received_at, instants) + 1 AS received_no
        FROM (
            SELECT company.company_no, company.company_id, company.outcomes_from, company.receipts_from, company.receipts_until,
                company.instants, company.last_instant_no, inquiry.inquiry_id, inquiry.account_id AS receiver, inquiry.buyer_id,
                inquiry.thread_id, inquiry.received_at, (inquiry.received_at AT TIME ZONE %(time_zone)s)::date AS receipt_day,
                inquiry.buyer_region = 'CN' OR inquiry.buyer_sent_from_region = 'CN' AS from_mainland_china,
                cardinality(inquiry.buyer_addresses) + cardinality(inquiry.reply_addresses) > 0 AS has_address
            FROM company_judgement company
            JOIN ledger_inquiry inquiry ON inquiry.company_id = company.company_id AND inquiry.received_at < company.last_now
            WHERE inquiry.company_id = ANY (%(companies)s) AND inquiry.account_id IS NOT NULL AND inquiry.buyer_id IS NOT NULL
            OFFSET 0
        ) local
        OFFSET 0
    ) reach
    WHERE is_current OR row_from <= row_until OR %(unit)s = 'first-per-thread' AND thread_id IS NOT NULL
),
-- Inquiries in numbered groups, and the instants that matter to the group, from the first that knows of one of them. A thread with an
-- inquiry that matters to a judgement matters as a whole, however old the others are.
unit_group AS MATERIALIZED (
    SELECT company_no, company_id, row_number() OVER groups AS inquiry_no, inquiry_id, receiver, buyer_id, thread_id, received_at, receipt_day,
        period_day, from_mainland_china, has_address, received_no, dense_rank() OVER groups AS group_no, bool_or(is_current) OVER members AS is_current,
        greatest(min(received_no) OVER members, min(first_no) OVER members) AS first_no, max(last_no) OVER members AS last_no
    FROM known_inquiry
    WHERE first_no IS NOT NULL OR %(unit)s = 'first-per-thread' AND (company_no, buyer_id, thread_id) IN (
        SELECT inquiry.company_no, inquiry.buyer_id, inquiry.thread_id FROM known_inquiry inquiry
        WHERE inquiry.first_no IS NOT NULL AND inquiry.thread_id IS NOT NULL
    )
    WINDOW groups AS (ORDER BY company_no, group_text, group_day, group_thread, group_inquiry),
        members AS (PARTITION BY company_no, group_text, group_day, group_thread, group_inquiry)
),
-- What mailboxes were known to cover. Of rows that a later one supersedes, only those are read that the earliest of these
-- judgements still needs, so a judgement of today reads a few rows for each mailbox, however long it has been polled. Rows with the same
-- start that became known between the same two judgements are one step here. Messages sent before a row became known may not have
-- been counted yet: the row waits for the watermark.
coverage_instants AS MATERIALIZED (SELECT array_agg(DISTINCT now ORDER BY now) AS instants FROM judgement),
coverage_step AS MATERIALIZED (
    SELECT poll.company_id, poll.account_id, poll.mailbox_id, poll.from_at, poll.connected_at,
        width_bucket(poll.recorded_at, judgements.instants) AS known_after,
        max(poll.through_at) AS through_at, max(poll.recorded_at) AS recorded_at,
        (array_agg(poll.coverage_id ORDER BY poll.recorded_at DESC, poll.coverage_id DESC))[1] AS coverage_id,
        (array_agg(poll.removed_at ORDER BY poll.recorded_at DESC, poll.coverage_id DESC))[1] AS removed_at
    FROM registry.coverage poll JOIN (SELECT DISTINCT company_id, watermark FROM judgement) company USING (company_id)
    CROSS JOIN coverage_instants judgements
    WHERE poll.company_id = ANY (%(companies)s) AND poll.recorded_at <= company.watermark
        -- The upper bound is always true: it tells the planner that few rows remain.
        AND coalesce(poll.superseded_at, 'infinity') BETWEEN (SELECT min(least(now, watermark)) FROM judgement) AND 'infinity'
    GROUP BY poll.company_id, poll.account_id, poll.mailbox_id, poll.from_at, poll.connected_at, known_after
),
-- Mailboxes of the company as they were known at the judgement, when each was connected, and the intervals for which they were
-- complete: of each connection, from at most reach_back_days before it.
mailbox_coverage AS MATERIALIZED (
    SELECT instant.company_id, instant.instant_no, step.account_id, step.mailbox_id,
        (array_agg(step.connected_at ORDER BY step.recorded_at DESC, step.coverage_id DESC))[1] AS connected_at,
        (array_agg(step.removed_at ORDER BY step.recorded_at DESC, step.coverage_id DESC))[1] AS removed_at,
        -- A later row without it only states the connection, or its end.
        (array_agg(step.from_at ORDER BY step.recorded_at DESC, step.coverage_id DESC) FILTER (WHERE step.from_at IS NOT NULL))[1] AS from_at,
        array_agg(DISTINCT step.connected_at) AS connections,
        range_agg(tstzrange(greatest(step.from_at, step.connected_at - make_interval(secs => 86400.0 * %(reach_back_days)s)),
                step.through_at, '[]'))
            FILTER (WHERE step.from_at IS NOT NULL
                AND step.through_at >= step.connected_at - make_interval(secs => 86400.0 * %(reach_back_days)s)) AS complete
    FROM judgement_instant instant CROSS JOIN coverage_instants judgements
    JOIN coverage_step step ON step.company_id = instant.company_id
        AND step.known_after < array_position(judgements.instants, instant.now)
    GROUP BY instant.company_id, instant.instant_no, step.account_id, step.mailbox_id
),
-- When another connection of a mailbox became known: where connections reach back for some days only, it decides about older mail.
connection_change AS MATERIALIZED (
    SELECT company_id, account_id, mailbox_id, instant_no FROM (
        SELECT company_id, account_id, mailbox_id, instant_no, connections, lag(connections) OVER (
            PARTITION BY company_id, account_id, mailbox_id ORDER BY instant_no) AS connections_before
        FROM mailbox_coverage
    ) mailbox WHERE %(reach_back_days)s < %(reach_back_unlimited)s AND connections IS DISTINCT FROM connections_before
),
-- What happened to a group after the first instant, as the first instant that knows of it.
change AS MATERIALIZED (
    SELECT group_no, first_no, coalesce(lead(first_no) OVER (PARTITION BY group_no ORDER BY first_no) - 1, last_no) AS last_no FROM (
        SELECT group_no, received_no AS first_no, last_no FROM unit_group WHERE received_no > first_no AND received_no <= last_no
        UNION
        SELECT inquiry.group_no, width_bucket(status.at, company.instants) + 1, inquiry.last_no
        FROM ledger_status status JOIN unit_group inquiry USING (company_id, inquiry_id) JOIN company_judgement company USING (company_no)
        WHERE status.company_id = ANY (%(companies)s) AND status.at >= company.instants[inquiry.first_no]
            AND status.at < company.instants[inquiry.last_no]
        UNION
        SELECT inquiry.group_no, width_bucket(reply.replied_at, company.instants) + 1, inquiry.last_no
        FROM ledger_reply reply JOIN unit_group inquiry USING (company_id, inquiry_id) JOIN company_judgement company USING (company_no)
        WHERE reply.company_id = ANY (%(companies)s) AND reply.replied_at >= company.instants[inquiry.first_no]
            AND reply.replied_at < company.instants[inquiry.last_no]
        UNION
        SELECT inquiry.group_no, connection.instant_no, inquiry.last_no
        FROM ledger_reply reply JOIN unit_group inquiry USING (company_id, inquiry_id)
        JOIN connection_change connection ON connection.company_id = reply.company_id AND connection.account_id = reply.account_id
            AND connection.mailbox_id = reply.mailbox_id
        WHERE reply.company_id = ANY (%(companies)s) AND connection.instant_no > inquiry.first_no AND connection.instant_no <= inquiry.last_no
    ) point
),
-- Each inquiry at each judging point of its group.
inquiry_in_reach AS MATERIALIZED (
    SELECT inquiry.group_no * 1000000 + inquiry.first_no AS point_no, inquiry.first_no, inquiry.last_no, company.instants[inquiry.first_no] AS now,
        inquiry.is_current, company.settled_through, inquiry.company_id, inquiry.inquiry_no, inquiry.inquiry_id, inquiry.receiver,
        inquiry.buyer_id, inquiry.thread_id, inquiry.received_at, inquiry.receipt_day, inquiry.period_day, inquiry.from_mainland_china,
        inquiry.has_address
    FROM (
        SELECT inquiry.company_no, inquiry.company_id, inquiry.inquiry_no, inquiry.inquiry_id, inquiry.receiver, inquiry.buyer_id,
            inquiry.thread_id, inquiry.received_at, inquiry.receipt_day, inquiry.period_day, inquiry.from_mainland_china,
            inquiry.has_address, inquiry.group_no,
            inquiry.is_current, inquiry.first_no, coalesce(later.first_no - 1, inquiry.last_no) AS last_no
        FROM unit_group inquiry
        LEFT JOIN (SELECT group_no, min(first_no) AS first_no FROM change GROUP BY group_no) later USING (group_no)
        WHERE inquiry.received_no <= inquiry.first_no AND inquiry.first_no <= inquiry.last_no
        UNION ALL
        SELECT inquiry.company_no, inquiry.company_id, inquiry.inquiry_no, inquiry.inquiry_id, inquiry.receiver, inquiry.buyer_id,
            inquiry.thread_id, inquiry.received_at, inquiry.receipt_day, inquiry.period_day, inquiry.from_mainland_china,
            inquiry.has_address, inquiry.group_no,
            inquiry.is_current, change.first_no, change.last_no
        FROM change JOIN unit_group inquiry USING (group_no) WHERE inquiry.received_no <= change.first_no
    ) inquiry JOIN company_judgement company USING (company_no)
),
-- Statuses known at the judgement; of spam and spam-undone only the latest counts.
effective_status AS MATERIALIZED (
    SELECT * FROM (
        SELECT inquiry.point_no, inquiry.inquiry_no, inquiry.received_at, status.status, status.at, status.account_id,
            status.status NOT IN ('spam', 'spam-undone') OR 1 = row_number() OVER (
                PARTITION BY inquiry.point_no, inquiry.inquiry_no, status.status IN ('spam', 'spam-undone')
                ORDER BY status.at DESC, status.status DESC, status.account_id DESC
            ) AS effective
        FROM inquiry_in_reach inquiry
        JOIN ledger_status status ON status.company_id = inquiry.company_id AND status.inquiry_id = inquiry.inquiry_id
            AND status.at < inquiry.now
        WHERE status.company_id = ANY (%(companies)s)
    ) status WHERE status.effective
),
reassignment AS MATERIALIZED (
    SELECT DISTINCT ON (point_no, inquiry_no) point_no, inquiry_no, account_id FROM effective_status
    WHERE status = 'reassigned' AND %(attribution)s = 'current-owner'
    ORDER BY point_no, inquiry_no, at DESC, account_id DESC
),
exclusion_hit AS MATERIALIZED (
    SELECT DISTINCT ON (point_no, inquiry_no) point_no, inquiry_no, position, cause FROM (
        SELECT status.point_no, status.inquiry_no, rule.position, rule.cause
        FROM effective_status status JOIN exclusion_rule rule ON rule.cause = status.status
        WHERE rule.within_seconds IS NULL OR status.at <= status.received_at + make_interval(secs => rule.within_seconds)
        UNION ALL
        SELECT inquiry.point_no, inquiry.inquiry_no, rule.position, rule.cause
        FROM inquiry_in_reach inquiry JOIN exclusion_rule rule ON rule.cause = 'mainland-china-buyer'
        WHERE inquiry.from_mainland_china
    ) hit ORDER BY point_no, inquiry_no, position
),
-- Whose inquiry it is, and by which rule it is excluded (null: it counts).
attributed_inquiry AS MATERIALIZED (
    SELECT inquiry.point_no, inquiry.first_no, inquiry.last_no, inquiry.is_current, inquiry.settled_through, inquiry.company_id, inquiry.now,
        inquiry.inquiry_no, inquiry.inquiry_id, inquiry.buyer_id, inquiry.thread_id,
        inquiry.received_at, inquiry.receipt_day, inquiry.period_day, inquiry.has_address,
        coalesce(reassignment.account_id, inquiry.receiver) AS owner, hit.cause AS excluded_by, hit.position AS exclusion_position
    FROM inquiry_in_reach inquiry
    LEFT JOIN reassignment USING (point_no, inquiry_no)
    LEFT JOIN exclusion_hit hit USING (point_no, inquiry_no)
),
unit_member AS MATERIALIZED (
    SELECT inquiry.point_no, inquiry.first_no, inquiry.last_no, inquiry.is_current, inquiry.settled_through, inquiry.company_id, inquiry.now,
        inquiry.inquiry_no, inquiry.inquiry_id, inquiry.buyer_id, inquiry.received_at,
        inquiry.period_day, inquiry.owner, inquiry.has_address,
        first_value(inquiry.inquiry_id) OVER unit AS unit_inquiry_id,
        first_value(inquiry.received_at) OVER unit AS start_at,
        first_value(inquiry.period_day) OVER unit AS unit_day,
        first_value(inquiry.owner) OVER unit AS account_id
    FROM attributed_inquiry inquiry WHERE inquiry.excluded_by IS NULL
    WINDOW unit AS (PARTITION BY inquiry.point_no ORDER BY inquiry.received_at, inquiry.inquiry_id)
),
known_reply AS MATERIALIZED (
    SELECT member.point_no, member.company_id, member.first_no, member.unit_inquiry_id, member.inquiry_id, member.start_at, member.has_address, reply.replied_at AS at,
        reply.source, reply.reply_id, reply.account_id, reply.mailbox_id, reply.kind_reason, reply.evidence, reply.kind, reply.matched_by
    FROM unit_member member
    JOIN ledger_reply reply ON reply.company_id = member.company_id AND reply.inquiry_id = member.inquiry_id
        AND reply.replied_at < member.now
    WHERE reply.company_id = ANY (%(companies)s)
),
-- Mail that the buyer of the unit wrote.
mail_of_buyer AS MATERIALIZED (
    SELECT DISTINCT point_no, reply_id FROM known_reply WHERE source = 'mail' AND kind_reason = 'from-buyer'
),
-- Mail to the buyer, or to an address that was made for an inquiry of the unit.
mail_to_buyer AS MATERIALIZED (
    SELECT DISTINCT point_no, reply_id FROM known_reply
    WHERE %(answer_to)s = 'buyer-or-relay' AND source = 'mail' AND matched_by IN ('relay-address', 'buyer-address')
),
-- Replies and statuses that may have stopped the clock; `rejected_because` says why one cannot (null: it can).
candidate_answer AS MATERIALIZED (
    SELECT reply.point_no, reply.unit_inquiry_id, reply.inquiry_id, reply.start_at, reply.at, reply.source, reply.reply_id,
        reply.account_id, reply.mailbox_id, reply.kind_reason, reply.evidence, reply.kind, reply.matched_by,
        CASE WHEN reply.at < reply.start_at - interval '300 s' THEN 'before-the-inquiry'
            -- Mail from before the connection under which it was found, the next one after it.
            WHEN reply.source = 'mail' AND reply.evidence <> 'verified' AND %(reach_back_days)s < %(reach_back_unlimited)s
                    AND reply.at < (SELECT min(connected_at) FROM unnest(mailbox.connections) connected (connected_at)
                        WHERE connected_at > reply.at) - make_interval(secs => 86400.0 * %(reach_back_days)s)
                THEN 'before-the-connection'
            WHEN reply.source = 'mail' AND from_buyer.reply_id IS NOT NULL THEN 'from-the-buyer'
            WHEN reply.source = 'mail' AND %(answer_to)s = 'buyer-or-relay' AND reply.has_address AND to_buyer.reply_id IS NULL
                THEN 'to-somebody-else'
            WHEN reply.kind IN ('bulk', 'bounce') THEN reply.kind
            WHEN reply.kind = 'automatic'
                THEN CASE WHEN 'automatic-reply' = ANY (%(answered_by)s) THEN NULL ELSE 'automatic' END
            WHEN reply.source = 'mail' AND 'human-reply' = ANY (%(answered_by)s) THEN NULL
            WHEN reply.source = 'platform' AND 'platform-reply' = ANY (%(answered_by)s) THEN NULL
            ELSE 'not-an-answer-here' END AS rejected_because
    FROM known_reply reply
    LEFT JOIN mail_of_buyer from_buyer USING (point_no, reply_id)
    LEFT JOIN mail_to_buyer to_buyer USING (point_no, reply_id)
    LEFT JOIN mailbox_coverage mailbox ON mailbox.company_id = reply.company_id AND mailbox.instant_no = reply.first_no
        AND mailbox.account_id = reply.account_id AND mailbox.mailbox_id = reply.mailbox_id
    UNION ALL
    SELECT member.point_no, member.unit_inquiry_id, member.inquiry_id, member.start_at, status.at, 'status', status.status,
        status.account_id, '', '', '', 'human', '',
        CASE WHEN status.at < member.start_at - interval '300 s' THEN 'before-the-inquiry' END
    FROM unit_member member JOIN effective_status status USING (point_no, inquiry_no)
    WHERE status.status IN ('rejected', 'declined') AND status.status = ANY (%(answered_by)s)
        OR status.status = 'spam' AND 'spam-report' = ANY (%(answered_by)s)
),
-- Units with replies, all of them automatic. Mail of the buyer, to somebody else, or beyond the reach of a connection is no reply.
only_automatic AS MATERIALIZED (
    SELECT point_no FROM candidate_answer
    WHERE source <> 'status'
        AND coalesce(rejected_because, '') NOT IN ('before-the-inquiry', 'before-the-connection', 'from-the-buyer', 'to-somebody-else')
    GROUP BY point_no HAVING bool_and(kind = 'automatic')
),
-- The best way in which a mail was matched to a unit, as its position in `match_order`.
strongest_match AS MATERIALIZED (
    SELECT point_no, reply_id, min(array_position(%(match_order)s::text[], matched_by)) AS position
    FROM candidate_answer WHERE source = 'mail' AND rejected_because IS DISTINCT FROM 'before-the-inquiry'
    GROUP BY point_no, reply_id
),
-- The earliest answer. Where only verified mail makes a unit timely: the earliest that does, if there is one.
first_answer AS MATERIALIZED (
    SELECT DISTINCT ON (candidate.point_no) candidate.*,
        %(evidence)s = 'any' OR candidate.source <> 'mail' OR candidate.evidence = 'verified' AS accepted
    FROM candidate_answer candidate WHERE candidate.rejected_because IS NULL
    ORDER BY candidate.point_no,
        (%(evidence)s = 'any' OR candidate.source <> 'mail' OR candidate.evidence = 'verified')
            AND candidate.at <= candidate.start_at + make_interval(secs => %(target_seconds)s) DESC,
        candidate.at, array_position(ARRAY['mail', 'platform', 'status'], candidate.source), candidate.reply_id,
        candidate.account_id, candidate.mailbox_id, candidate.kind_reason, candidate.evidence
),
-- What became known of an account's mailboxes between two instants: the time that it says something about, or null for all of it.
coverage_change AS MATERIALIZED (
    SELECT company_id, account_id, instant_no, CASE WHEN is_same THEN (complete - complete_before) + (complete_before - complete) END AS affected
    FROM (
        SELECT company_id, account_id, instant_no, coalesce(complete, '{}') AS complete,
            coalesce(lag(complete) OVER earlier, '{}') AS complete_before, row_number() OVER earlier > 1
                AND (connected_at, removed_at, from_at) IS NOT DISTINCT FROM
                    (lag(connected_at) OVER earlier, lag(removed_at) OVER earlier, lag(from_at) OVER earlier) AS is_same
        FROM mailbox_coverage WINDOW earlier AS (PARTITION BY company_id, account_id, mailbox_id ORDER BY instant_no)
    ) mailbox
    WHERE NOT is_same OR complete <> complete_before
),
unit AS MATERIALIZED (
    SELECT member.point_no, member.company_id, member.first_no, member.last_no, member.is_current, member.settled_through,
        member.unit_inquiry_id, member.account_id, member.owner, member.buyer_id, member.unit_day, member.start_at, answer.at AS answered_at, answer.source,
        answer.reply_id, answer.mailbox_id, answer.evidence, answer.accepted,
        CASE WHEN %(attribution)s = 'responder' THEN nullif(answer.account_id, '') END AS responder,
        CASE WHEN answer.at IS NOT NULL THEN greatest(0, extract(epoch FROM answer.at - member.start_at)) END AS seconds,
        member.start_at + make_interval(secs => %(target_seconds)s) AS due_at
    FROM unit_member member LEFT JOIN first_answer answer USING (point_no)
    WHERE member.inquiry_id = member.unit_inquiry_id
),
-- Without an answer, a unit also changes with time and coverage: the instants, among those for which the point is valid.
open_unit AS MATERIALIZED (
    SELECT turn.point_no, turn.first_no,
        coalesce(lead(turn.first_no) OVER (PARTITION BY turn.point_no ORDER BY turn.first_no) - 1, turn.last_no) AS last_no
    FROM (
        SELECT point_no, first_no, last_no FROM unit WHERE answered_at IS NULL
        UNION
        SELECT unit.point_no, due.first_no, unit.last_no
        FROM unit JOIN company_judgement company USING (company_id)
        CROSS JOIN LATERAL (
            SELECT width_bucket(unit.due_at - interval '1 microsecond', company.instants) + 1 AS first_no
        ) due
        WHERE unit.answered_at IS NULL AND due.first_no BETWEEN unit.first_no AND unit.last_no
        UNION
        SELECT unit.point_no, change.instant_no, unit.last_no
        FROM unit JOIN coverage_change change USING (company_id, account_id)
        WHERE unit.answered_at IS NULL AND change.instant_no BETWEEN unit.first_no AND unit.last_no
            AND (change.affected IS NULL OR change.affected && tstzrange(unit.start_at, unit.due_at, '[]'))
    ) turn
),
-- Each mailbox of the account of a unit without an answer, and whether it covers the unit (mailbox_id null: the platform
-- syncs the account); `connected_in_time`: it was connected at the deadline.
unit_mailbox AS MATERIALIZED (
    SELECT turn.point_no, turn.first_no, mailbox.mailbox_id,
        mailbox.connected_at <= unit.due_at AND (mailbox.removed_at IS NULL OR mailbox.removed_at >= unit.due_at) AS connected_in_time,
        CASE WHEN mailbox.mailbox_id IS NULL
            THEN mailbox.from_at <= unit.start_at AND (mailbox.removed_at IS NULL OR mailbox.removed_at >= unit.due_at)
            ELSE mailbox.complete @> tstzrange(unit.start_at, unit.due_at, '[]') END IS TRUE AS covers
    FROM open_unit turn JOIN unit USING (point_no)
    JOIN mailbox_coverage mailbox ON mailbox.company_id = unit.company_id AND mailbox.instant_no = turn.first_no
        AND mailbox.account_id = unit.account_id
),
-- Covered: synced by the platform, or by every mailbox that was connected in time, or, where none was, by any.
covered_unit AS MATERIALIZED (
    SELECT mailbox.point_no, mailbox.first_no FROM unit_mailbox mailbox
    GROUP BY mailbox.point_no, mailbox.first_no
    HAVING bool_or(mailbox.covers) FILTER (WHERE mailbox.mailbox_id IS NULL) IS TRUE
        OR coalesce(
            bool_and(mailbox.covers) FILTER (WHERE mailbox.connected_in_time AND mailbox.mailbox_id IS NOT NULL),
            bool_or(mailbox.covers) FILTER (WHERE mailbox.mailbox_id IS NOT NULL)
        ) IS TRUE
),
-- What each unit is, from one instant to another.
judged_unit AS (
    SELECT unit.*, coalesce(turn.first_no, unit.first_no) AS judged_no, coalesce(turn.last_no, unit.last_no) AS judged_until_no,
        unit.answered_at IS NOT NULL OR covered.point_no IS NOT NULL AS covered,
        CASE WHEN unit.answered_at IS NOT NULL
                THEN CASE WHEN unit.accepted AND unit.seconds <= %(target_seconds)s THEN 'timely' ELSE 'late' END
            WHEN least(company.instants[turn.first_no], company.watermark) < unit.due_at THEN 'pending'
            WHEN covered.point_no IS NULL AND %(unmeasured)s = 'separate' THEN 'unmeasured'
            ELSE 'unanswered' END AS outcome
    FROM unit JOIN company_judgement company USING (company_id)
    LEFT JOIN open_unit turn USING (point_no)
    LEFT JOIN covered_unit covered ON covered.point_no = turn.point_no AND covered.first_no = turn.first_no
),
-- First members carry the outcome of their unit.
inquiry_outcome AS (
    SELECT unit.company_id, unit.is_current, unit.judged_no AS first_no, unit.judged_until_no AS last_no, unit.unit_inquiry_id AS inquiry_id,
        coalesce(unit.responder, unit.account_id) AS account_id, coalesce(unit.responder, unit.owner) AS owner, unit.buyer_id,
        unit.unit_day AS own_day, unit.unit_day, unit.unit_inquiry_id, unit.start_at AS received_at, unit.answered_at AS first_reply_at,
        unit.seconds AS reply_seconds, unit.outcome,
        CASE WHEN automatic.point_no IS NOT NULL AND unit.outcome = 'unanswered' THEN 'only-automatic-replies' END AS reason,
        unit.source AS reply_source,
        CASE unit.source WHEN 'platform' THEN 'platform' WHEN 'mail' THEN (%(match_order)s::text[])[match.position] END AS matched_by,
        CASE WHEN unit.source = 'mail' THEN unit.mailbox_id END AS mailbox_id,
        CASE WHEN unit.source = 'mail' THEN unit.evidence END AS evidence,
        unit.covered, unit.due_at, CASE WHEN unit.unit_day <= unit.settled_through THEN 'final' ELSE 'provisional' END AS state
    FROM judged_unit unit
    LEFT JOIN only_automatic automatic USING (point_no)
    LEFT JOIN strongest_match match USING (point_no, reply_id)
    UNION ALL
    SELECT member.company_id, member.is_current, member.first_no, member.last_no, member.inquiry_id,
        coalesce(unit.responder, member.account_id), coalesce(unit.responder, member.owner), member.buyer_id, member.period_day,
        member.unit_day, member.unit_inquiry_id, member.received_at, NULL, NULL, 'merged', NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        CASE WHEN member.unit_day <= member.settled_through THEN 'final' ELSE 'provisional' END
    FROM unit_member member JOIN unit USING (point_no) WHERE member.inquiry_id <> member.unit_inquiry_id
    UNION ALL
    SELECT inquiry.company_id, inquiry.is_current, inquiry.first_no, inquiry.last_no, inquiry.inquiry_id, inquiry.owner, inquiry.owner,
        inquiry.buyer_id, inquiry.period_day, inquiry.period_day, NULL, inquiry.received_at, NULL, NULL, 'excluded', inquiry.excluded_by,
        NULL, NULL, NULL, NULL, NULL, NULL,
        CASE WHEN inquiry.period_day <= inquiry.settled_through THEN 'final' ELSE 'provisional' END
    FROM attributed_inquiry inquiry WHERE inquiry.excluded_by IS NOT NULL
)

-- name: select_outcomes
-- Continues from `steps`: the outcomes of each inquiry, and the as_of days for which each is valid (null: for none). The last
-- instant of a company is the one at which outcomes are judged as they are.
SELECT outcome.company_id, company.first_as_ofs[outcome.first_no] AS first_as_of,
    coalesce(company.last_as_ofs[outcome.last_no], company.last_as_of) AS last_as_of,
    outcome.is_current AND outcome.last_no = company.last_instant_no AS is_current, outcome.inquiry_id, outcome.account_id, outcome.owner,
    outcome.buyer_id, outcome.own_day, outcome.unit_day, outcome.unit_inquiry_id, outcome.received_at, outcome.first_reply_at,
    outcome.reply_seconds, outcome.outcome, outcome.reason, outcome.reply_source, outcome.matched_by, outcome.mailbox_id, outcome.evidence,
    outcome.covered, outcome.due_at, outcome.state
FROM inquiry_outcome outcome JOIN company_judgement company USING (company_id)

-- name: insert_judged
-- Goes before `steps` and `select_outcomes`: stores their rows in the workspace.
INSERT INTO judged

-- name: judged_outcomes
-- Goes before `every_stored_outcome`, `looked_up_outcomes` and `delete_unknown_outcomes`: the outcomes as they were judged now.
WITH new AS (
    SELECT company_id, inquiry_id, account_id, owner, buyer_id, own_day, unit_day, unit_inquiry_id, received_at, first_reply_at, reply_seconds,
        outcome, reason, reply_source, matched_by, mailbox_id, evidence, covered, due_at, state
    FROM judged WHERE is_current
)

-- name: shadow_outcomes
-- The same for a recompute that is published: the outcomes as it has judged them.
WITH new AS (
    SELECT company_id, inquiry_id, account_id, owner, buyer_id, own_day, unit_day, unit_inquiry_id, received_at, first_reply_at, reply_seconds,
        outcome, reason, reply_source, matched_by, mailbox_id, evidence, covered, due_at, state
    FROM shadow.outcomes WHERE rule_set = %(rule_set)s
)

-- name: every_stored_outcome
-- Goes before `update_outcomes` and `add_outcomes`: the outcomes that are stored of these companies.
, stored_outcome AS NOT MATERIALIZED (
    SELECT ctid AS place, * FROM outcomes WHERE rule_set = %(rule_set)s AND company_id = ANY (%(companies)s)
)

-- name: looked_up_outcomes
-- Goes before `update_outcomes` and `add_outcomes`: the same where few outcomes are new, only those of their inquiries.
, stored_outcome AS MATERIALIZED (
    SELECT stored.* FROM new CROSS JOIN LATERAL (
        SELECT ctid AS place, * FROM outcomes outcome
        WHERE outcome.rule_set = %(rule_set)s AND outcome.company_id = new.company_id AND outcome.inquiry_id = new.inquiry_id OFFSET 0
    ) stored
)

-- name: update_outcomes
-- Outcomes that have changed; the previous ones go into the history. One that differs only in being provisional is noted in the
-- outcome itself (once: a second one goes into the history), since nearly every outcome becomes final like this.
, changed AS MATERIALIZED (
    SELECT new.*, stored.place, stored.revision, stored.rule_version AS rule_version_before, stored.account_id AS account_before,
        stored.outcome AS outcome_before, stored.reason AS reason_before, stored.first_reply_at AS first_reply_before,
        stored.state AS state_before, stored.changed_at AS changed_before,
        stored.provisional_revision IS NULL AND stored.state = 'provisional' AND new.state = 'final'
            AND (stored.rule_version, stored.account_id, stored.outcome, stored.reason, stored.first_reply_at)
                IS NOT DISTINCT FROM (%(identity)s, new.account_id, new.outcome, new.reason, new.first_reply_at) AS became_final
    FROM stored_outcome stored JOIN new ON new.company_id = stored.company_id AND new.inquiry_id = stored.inquiry_id
    WHERE (stored.rule_version, stored.account_id, stored.buyer_id, stored.unit_day, stored.unit_inquiry_id, stored.received_at,
            stored.first_reply_at, stored.reply_seconds, stored.outcome, stored.reason, stored.reply_source, stored.matched_by,
            stored.mailbox_id, stored.evidence, stored.covered, stored.due_at, stored.state, stored.owner, stored.own_day)
        IS DISTINCT FROM (%(identity)s, new.account_id, new.buyer_id, new.unit_day, new.unit_inquiry_id, new.received_at,
            new.first_reply_at, new.reply_seconds, new.outcome, new.reason, new.reply_source, new.matched_by,
            new.mailbox_id, new.evidence, new.covered, new.due_at, new.state, new.owner, new.own_day)
),
replaced AS (
    INSERT INTO outcome_history (rule_set, company_id, inquiry_id, revision, rule_version, account_id, outcome, reason,
        first_reply_at, state, changed_at)
    SELECT %(rule_set)s, company_id, inquiry_id, revision, rule_version_before, account_before, outcome_before, reason_before,
        first_reply_before, state_before, changed_before
    FROM changed
    WHERE (rule_version_before, account_before, outcome_before, reason_before, first_reply_before, state_before)
            IS DISTINCT FROM (%(identity)s, account_id, outcome, reason, first_reply_at, state)
        AND NOT became_final
    ON CONFLICT DO NOTHING
)
UPDATE outcomes stored SET
    rule_version = %(identity)s, account_id = new.account_id, buyer_id = new.buyer_id, unit_day = new.unit_day,
    unit_inquiry_id = new.unit_inquiry_id, received_at = new.received_at, first_reply_at = new.first_reply_at,
    reply_seconds = new.reply_seconds, outcome = new.outcome, reason = new.reason, reply_source = new.reply_source,
    matched_by = new.matched_by, mailbox_id = new.mailbox_id, evidence = new.evidence, covered = new.covered, due_at = new.due_at,
    state = new.state, owner = new.owner, own_day = new.own_day, changed_at = %(now)s, revision = stored.revision + 1,
    provisional_at = CASE WHEN new.became_final THEN stored.changed_at ELSE stored.provisional_at END,
    provisional_revision = CASE WHEN new.became_final THEN stored.revision ELSE stored.provisional_revision END
FROM changed new
-- By place: joined as sets, all outcomes of the companies would be read once more. Nobody else writes them meanwhile.
WHERE stored.ctid = ANY (ARRAY(SELECT place FROM changed)) AND stored.rule_set = %(rule_set)s
    AND stored.company_id = new.company_id AND stored.inquiry_id = new.inquiry_id

-- name: add_outcomes
-- Outcomes of inquiries that had none. A company is judged by one process at a time, so none of them appears meanwhile.
INSERT INTO outcomes (
    rule_set, company_id, inquiry_id, rule_version, account_id, buyer_id, unit_day, unit_inquiry_id, received_at,
    first_reply_at, reply_seconds, outcome, reason, reply_source, matched_by, mailbox_id, evidence, covered, due_at, state,
    owner, own_day, changed_at
)
SELECT %(rule_set)s, new.company_id, new.inquiry_id, %(identity)s, new.account_id, new.buyer_id, new.unit_day,
    new.unit_inquiry_id, new.received_at, new.first_reply_at, new.reply_seconds, new.outcome, new.reason, new.reply_source,
    new.matched_by, new.mailbox_id, new.evidence, new.covered, new.due_at, new.state, new.owner, new.own_day, %(now)s
FROM new
WHERE NOT EXISTS (
    SELECT FROM stored_outcome stored WHERE stored.company_id = new.company_id AND stored.inquiry_id = new.inquiry_id
)

-- name: delete_unknown_outcomes
-- Outcomes of inquiries that are no longer known, after an erase.
DELETE FROM outcomes stored
WHERE stored.rule_set = %(rule_set)s AND stored.company_id = ANY (%(companies)s)
    AND NOT EXISTS (SELECT FROM new WHERE new.company_id = stored.company_id AND new.inquiry_id = stored.inquiry_id)

-- name: store_settled
-- The last settled day of each company.
INSERT INTO settled AS stored (rule_set, company_id, rule_version, through)
SELECT %(rule_set)s, company.company_id, %(identity)s, company.through
FROM unnest(%(planned_companies)s::text[], %(settled_through)s::date[]) company (company_id, through)
ON CONFLICT (rule_set, company_id) DO UPDATE SET rule_version = excluded.rule_version, through = excluded.through
WHERE (stored.rule_version, stored.through) IS DISTINCT FROM (excluded.rule_version, excluded.through)

-- name: next_due
-- When time alone changes something: a pending unit reaches its deadline, or a fact dated in the future happens.
SELECT company.company_id, least(
    (SELECT min(outcome.due_at) FROM outcomes outcome WHERE outcome.rule_set = %(rule_set)s
        AND outcome.company_id = company.company_id AND outcome.outcome = 'pending'),
    (SELECT min(inquiry.received_at) FROM ledger.inquiries inquiry
        WHERE inquiry.company_id = company.company_id AND inquiry.received_at >= %(now)s),
    (SELECT min(status.at) FROM ledger.statuses status WHERE status.company_id = company.company_id AND status.at >= %(now)s),
    (SELECT min(reply.replied_at) FROM ledger.replies reply
        WHERE reply.company_id = company.company_id AND reply.replied_at >= %(now)s)
) AS due_at
FROM unnest(%(companies)s::text[]) company (company_id)
