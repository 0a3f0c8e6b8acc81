-- name: workspace
-- Results of judging companies: a row for each judgement and inquiry. Emptied at the end of the transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS judged (
    company_id text COLLATE "C", as_of date, inquiry_id text COLLATE "C", account_id text COLLATE "C", owner text COLLATE "C",
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
    (SELECT min(inquiry.received_at) FROM ledger.inquiries inquiry
        WHERE inquiry.company_id = company.company_id AND inquiry.received_at < %(now)s) AS first_received_at,
    (SELECT count(*) FROM ledger.inquiries inquiry
        WHERE inquiry.company_id = company.company_id AND inquiry.received_at < %(now)s) AS inquiries,
    (SELECT max(rate.as_of) FROM rates rate WHERE rate.company_id = company.company_id
        AND rate.rule_set = %(rule_set)s AND rate.valid_to IS NULL) AS last_as_of,
    (SELECT min(rate.as_of) FROM rates rate WHERE rate.company_id = company.company_id AND rate.rule_set = %(rule_set)s
        AND rate.level = 'company' AND rate.valid_to IS NULL AND rate.state = 'provisional') AS provisional_from,
    (SELECT max(day.through) FROM (SELECT * FROM settled UNION ALL SELECT * FROM ledger.settled) day
        WHERE day.company_id = company.company_id AND day.rule_set = %(rule_set)s AND day.rule_version = %(identity)s) AS settled,
    (SELECT count(*) FROM registry.mailboxes mailbox
        WHERE mailbox.company_id = company.company_id AND mailbox.state IN ('active', 'needs_reconnect')) AS mailboxes,
    (SELECT CASE WHEN bool_and(counted.through_at IS NOT NULL) THEN min(counted.through_at) END
        FROM registry.mailboxes mailbox
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
LEFT JOIN ledger.companies judged_company ON judged_company.company_id = company.company_id COLLATE "C"
LEFT JOIN ledger.passed partition ON partition.company_id = company.company_id COLLATE "C"

-- name: steps
-- What each known inquiry is at each of the given judgements, step by step. Not a statement of its own: select_outcomes and
-- explain.sql continue from here, so that an explanation is made of the rows that made the number. judgement_no numbers the
-- judgements of all companies; up to `watermark` everything that was published has been counted.
WITH judgement AS MATERIALIZED (
    SELECT judgement.company_id COLLATE "C" AS company_id, as_of, now, receipt_from, receipt_until, settled_through, judgement_no,
        coalesce(partition.passed_at, 'infinity') AS watermark
    FROM unnest(%(judged_companies)s::text[], %(as_ofs)s::date[], %(nows)s::timestamptz[], %(receipts_from)s::date[],
        %(receipts_until)s::date[], %(settled_through)s::date[])
        WITH ORDINALITY judgement (company_id, as_of, now, receipt_from, receipt_until, settled_through, judgement_no)
    LEFT JOIN ledger.passed partition ON partition.company_id = judgement.company_id COLLATE "C"
),
exclusion_rule AS MATERIALIZED (
    SELECT position, entry ->> 'when' AS cause, (entry ->> 'within_seconds')::bigint AS within_seconds
    FROM jsonb_array_elements(%(exclude)s::jsonb) WITH ORDINALITY rule (entry, position)
),
-- Threads with an inquiry among the days of a judgement: all of their inquiries matter, however old.
thread_in_reach AS MATERIALIZED (
    SELECT DISTINCT judgement.judgement_no, inquiry.buyer_id, inquiry.thread_id
    FROM judgement
    JOIN ledger.inquiries inquiry ON inquiry.company_id = judgement.company_id AND inquiry.received_at < judgement.now
    WHERE %(unit)s = 'first-per-thread' AND judgement.receipt_from > date '1970-01-01' AND inquiry.thread_id IS NOT NULL
        AND inquiry.company_id = ANY (%(companies)s)
        AND (inquiry.received_at AT TIME ZONE %(time_zone)s)::date BETWEEN judgement.receipt_from AND judgement.receipt_until
),
inquiry_in_reach AS MATERIALIZED (
    SELECT judgement.judgement_no, judgement.company_id, judgement.now, inquiry.inquiry_id, inquiry.account_id AS receiver,
        inquiry.buyer_id, inquiry.thread_id, inquiry.received_at,
        (inquiry.received_at AT TIME ZONE %(time_zone)s)::date AS receipt_day,
        ((CASE %(period_by)s
            WHEN 'deadline' THEN inquiry.received_at + make_interval(secs => %(target_seconds)s) ELSE inquiry.received_at END)
            AT TIME ZONE %(time_zone)s)::date AS period_day,
        inquiry.buyer_region = 'CN' OR inquiry.buyer_sent_from_region = 'CN' AS from_mainland_china,
        cardinality(inquiry.buyer_addresses) + cardinality(inquiry.reply_addresses) > 0 AS has_address
    FROM judgement
    JOIN ledger.inquiries inquiry ON inquiry.company_id = judgement.company_id AND inquiry.received_at < judgement.now
    LEFT JOIN thread_in_reach thread ON thread.judgement_no = judgement.judgement_no AND thread.buyer_id = inquiry.buyer_id
        AND thread.thread_id = inquiry.thread_id
    -- Without account or buyer: merged from an incomplete record before such records became dead letters.
    WHERE inquiry.company_id = ANY (%(companies)s) AND inquiry.account_id IS NOT NULL AND inquiry.buyer_id IS NOT NULL
        AND ((inquiry.received_at AT TIME ZONE %(time_zone)s)::date BETWEEN judgement.receipt_from AND judgement.receipt_until
            OR thread.judgement_no IS NOT NULL)
),
-- Statuses known at the judgement; of spam and spam-undone only the latest counts.
effective_status AS MATERIALIZED (
    SELECT * FROM (
        SELECT inquiry.judgement_no, inquiry.inquiry_id, inquiry.received_at, status.status, status.at, status.account_id,
            status.status NOT IN ('spam', 'spam-undone') OR 1 = row_number() OVER (
                PARTITION BY inquiry.judgement_no, inquiry.inquiry_id, status.status IN ('spam', 'spam-undone')
                ORDER BY status.at DESC, status.status DESC, status.account_id DESC
            ) AS effective
        FROM inquiry_in_reach inquiry
        JOIN ledger.statuses status ON status.company_id = inquiry.company_id AND status.inquiry_id = inquiry.inquiry_id
            AND status.at < inquiry.now
        WHERE status.company_id = ANY (%(companies)s)
    ) status WHERE status.effective
),
reassignment AS MATERIALIZED (
    SELECT DISTINCT ON (judgement_no, inquiry_id) judgement_no, inquiry_id, account_id FROM effective_status
    WHERE status = 'reassigned' AND %(attribution)s = 'current-owner'
    ORDER BY judgement_no, inquiry_id, at DESC, account_id DESC
),
exclusion_hit AS MATERIALIZED (
    SELECT DISTINCT ON (judgement_no, inquiry_id) judgement_no, inquiry_id, position, cause FROM (
        SELECT status.judgement_no, status.inquiry_id, rule.position, rule.cause
        FROM effective_status status JOIN exclusion_rule rule ON rule.cause = status.status
        WHERE rule.within_seconds IS NULL OR status.at <= status.received_at + make_interval(secs => rule.within_seconds)
        UNION ALL
        SELECT inquiry.judgement_no, inquiry.inquiry_id, rule.position, rule.cause
        FROM inquiry_in_reach inquiry JOIN exclusion_rule rule ON rule.cause = 'mainland-china-buyer'
        WHERE inquiry.from_mainland_china
    ) hit ORDER BY judgement_no, inquiry_id, position
),
-- Whose inquiry it is, and by which rule it is excluded (null: it counts).
attributed_inquiry AS MATERIALIZED (
    SELECT inquiry.judgement_no, inquiry.company_id, inquiry.now, inquiry.inquiry_id, inquiry.buyer_id, inquiry.thread_id,
        inquiry.received_at, inquiry.receipt_day, inquiry.period_day, inquiry.has_address,
        coalesce(reassignment.account_id, inquiry.receiver) AS owner, hit.cause AS excluded_by, hit.position AS exclusion_position
    FROM inquiry_in_reach inquiry
    LEFT JOIN reassignment USING (judgement_no, inquiry_id)
    LEFT JOIN exclusion_hit hit USING (judgement_no, inquiry_id)
),
unit_member AS MATERIALIZED (
    SELECT inquiry.judgement_no, inquiry.company_id, inquiry.now, inquiry.inquiry_id, inquiry.buyer_id, inquiry.received_at,
        inquiry.period_day, inquiry.owner, inquiry.has_address,
        first_value(inquiry.inquiry_id) OVER unit AS unit_inquiry_id,
        first_value(inquiry.received_at) OVER unit AS start_at,
        first_value(inquiry.period_day) OVER unit AS unit_day,
        first_value(inquiry.owner) OVER unit AS account_id
    FROM attributed_inquiry inquiry WHERE inquiry.excluded_by IS NULL
    WINDOW unit AS (
        PARTITION BY inquiry.judgement_no, CASE %(unit)s
            WHEN 'each-inquiry' THEN jsonb_build_array(inquiry.inquiry_id)
            WHEN 'first-per-buyer-day' THEN jsonb_build_array(inquiry.buyer_id, inquiry.receipt_day)
            ELSE jsonb_build_array(inquiry.buyer_id, inquiry.thread_id, CASE WHEN inquiry.thread_id IS NULL THEN inquiry.inquiry_id END)
        END
        ORDER BY inquiry.received_at, inquiry.inquiry_id
    )
),
-- What mailboxes were known to cover. Of rows that a later one supersedes, only those are read that the earliest of these
-- judgements still needs, so a judgement of today reads a few rows for each mailbox, however long it has been polled. Rows with the same
-- start that became known between the same two judgements are one step here. Messages sent before a row became known may not have
-- been counted yet: the row waits for the watermark.
judgement_instants AS MATERIALIZED (SELECT array_agg(DISTINCT now ORDER BY now) AS instants FROM judgement),
coverage_step AS MATERIALIZED (
    SELECT poll.company_id, poll.account_id, poll.mailbox_id, poll.from_at, poll.connected_at,
        width_bucket(poll.recorded_at, judgements.instants) AS known_after,
        max(poll.through_at) AS through_at, max(poll.recorded_at) AS recorded_at,
        (array_agg(poll.coverage_id ORDER BY poll.recorded_at DESC, poll.coverage_id DESC))[1] AS coverage_id,
        (array_agg(poll.removed_at ORDER BY poll.recorded_at DESC, poll.coverage_id DESC))[1] AS removed_at
    FROM registry.coverage poll JOIN (SELECT DISTINCT company_id, watermark FROM judgement) company USING (company_id)
    CROSS JOIN judgement_instants judgements
    WHERE poll.company_id = ANY (%(companies)s) AND poll.recorded_at <= company.watermark
        -- The upper bound is always true: it tells the planner that few rows remain.
        AND coalesce(poll.superseded_at, 'infinity') BETWEEN (SELECT min(least(now, watermark)) FROM judgement) AND 'infinity'
    GROUP BY poll.company_id, poll.account_id, poll.mailbox_id, poll.from_at, poll.connected_at, known_after
),
-- Mailboxes of the company as they were known at the judgement, when each was connected, and the intervals for which they were
-- complete: of each connection, from at most reach_back_days before it.
mailbox_coverage AS MATERIALIZED (
    SELECT judgement.judgement_no, step.account_id, step.mailbox_id,
        (array_agg(step.connected_at ORDER BY step.recorded_at DESC, step.coverage_id DESC))[1] AS connected_at,
        (array_agg(step.removed_at ORDER BY step.recorded_at DESC, step.coverage_id DESC))[1] AS removed_at,
        -- A later row without it only states the connection, or its end.
        (array_agg(step.from_at ORDER BY step.recorded_at DESC, step.coverage_id DESC) FILTER (WHERE step.from_at IS NOT NULL))[1] AS from_at,
        array_agg(DISTINCT step.connected_at) AS connections,
        range_agg(tstzrange(greatest(step.from_at, step.connected_at - make_interval(secs => 86400.0 * %(reach_back_days)s)),
                step.through_at, '[]'))
            FILTER (WHERE step.from_at IS NOT NULL
                AND step.through_at >= step.connected_at - make_interval(secs => 86400.0 * %(reach_back_days)s)) AS complete
    FROM judgement CROSS JOIN judgement_instants judgements
    JOIN coverage_step step ON step.company_id = judgement.company_id
        AND step.known_after < array_position(judgements.instants, judgement.now)
    GROUP BY judgement.judgement_no, step.account_id, step.mailbox_id
),
known_reply AS MATERIALIZED (
    SELECT member.judgement_no, member.unit_inquiry_id, member.inquiry_id, member.start_at, member.has_address, reply.replied_at AS at,
        reply.source, reply.reply_id, reply.account_id, reply.mailbox_id, reply.kind_reason, reply.evidence, reply.kind, reply.matched_by
    FROM unit_member member
    JOIN ledger.replies reply ON reply.company_id = member.company_id AND reply.inquiry_id = member.inquiry_id
        AND reply.replied_at < member.now
    WHERE reply.company_id = ANY (%(companies)s)
),
-- Mail that the buyer of the unit wrote.
mail_of_buyer AS MATERIALIZED (
    SELECT DISTINCT judgement_no, unit_inquiry_id, reply_id FROM known_reply WHERE source = 'mail' AND kind_reason = 'from-buyer'
),
-- Mail to the buyer, or to an address that was made for an inquiry of the unit.
mail_to_buyer AS MATERIALIZED (
    SELECT DISTINCT judgement_no, unit_inquiry_id, reply_id FROM known_reply
    WHERE %(answer_to)s = 'buyer-or-relay' AND source = 'mail' AND matched_by IN ('relay-address', 'buyer-address')
),
-- Replies and statuses that may have stopped the clock; `rejected_because` says why one cannot (null: it can).
candidate_answer AS MATERIALIZED (
    SELECT reply.judgement_no, reply.unit_inquiry_id, reply.inquiry_id, reply.start_at, reply.at, reply.source, reply.reply_id,
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
    LEFT JOIN mail_of_buyer from_buyer USING (judgement_no, unit_inquiry_id, reply_id)
    LEFT JOIN mail_to_buyer to_buyer USING (judgement_no, unit_inquiry_id, reply_id)
    LEFT JOIN mailbox_coverage mailbox USING (judgement_no, account_id, mailbox_id)
    UNION ALL
    SELECT member.judgement_no, member.unit_inquiry_id, member.inquiry_id, member.start_at, status.at, 'status', status.status,
        status.account_id, '', '', '', 'human', '',
        CASE WHEN status.at < member.start_at - interval '300 s' THEN 'before-the-inquiry' END
    FROM unit_member member JOIN effective_status status USING (judgement_no, inquiry_id)
    WHERE status.status IN ('rejected', 'declined') AND status.status = ANY (%(answered_by)s)
        OR status.status = 'spam' AND 'spam-report' = ANY (%(answered_by)s)
),
-- Units with replies, all of them automatic. Mail of the buyer, to somebody else, or beyond the reach of a connection is no reply.
only_automatic AS MATERIALIZED (
    SELECT judgement_no, unit_inquiry_id FROM candidate_answer
    WHERE source <> 'status'
        AND coalesce(rejected_because, '') NOT IN ('before-the-inquiry', 'before-the-connection', 'from-the-buyer', 'to-somebody-else')
    GROUP BY judgement_no, unit_inquiry_id HAVING bool_and(kind = 'automatic')
),
-- The best way in which a mail was matched to a unit, as its position in `match_order`.
strongest_match AS MATERIALIZED (
    SELECT judgement_no, unit_inquiry_id, reply_id, min(array_position(%(match_order)s::text[], matched_by)) AS position
    FROM candidate_answer WHERE source = 'mail' AND rejected_because IS DISTINCT FROM 'before-the-inquiry'
    GROUP BY judgement_no, unit_inquiry_id, reply_id
),
-- The earliest answer. Where only verified mail makes a unit timely: the earliest that does, if there is one.
first_answer AS MATERIALIZED (
    SELECT DISTINCT ON (candidate.judgement_no, candidate.unit_inquiry_id) candidate.*,
        %(evidence)s = 'any' OR candidate.source <> 'mail' OR candidate.evidence = 'verified' AS accepted
    FROM candidate_answer candidate WHERE candidate.rejected_because IS NULL
    ORDER BY candidate.judgement_no, candidate.unit_inquiry_id,
        (%(evidence)s = 'any' OR candidate.source <> 'mail' OR candidate.evidence = 'verified')
            AND candidate.at <= candidate.start_at + make_interval(secs => %(target_seconds)s) DESC,
        candidate.at, array_position(ARRAY['mail', 'platform', 'status'], candidate.source), candidate.reply_id,
        candidate.account_id, candidate.mailbox_id, candidate.kind_reason, candidate.evidence
),
unit AS MATERIALIZED (
    SELECT member.judgement_no, member.unit_inquiry_id, member.account_id, member.start_at, answer.at AS answered_at, answer.source,
        answer.reply_id, answer.mailbox_id, answer.evidence, answer.accepted,
        CASE WHEN %(attribution)s = 'responder' THEN nullif(answer.account_id, '') END AS responder,
        CASE WHEN answer.at IS NOT NULL THEN greatest(0, extract(epoch FROM answer.at - member.start_at)) END AS seconds,
        member.start_at + make_interval(secs => %(target_seconds)s) AS due_at
    FROM unit_member member LEFT JOIN first_answer answer USING (judgement_no, unit_inquiry_id)
    WHERE member.inquiry_id = member.unit_inquiry_id
),
-- Each mailbox of the account of a unit without an answer, and whether it covers the unit (mailbox_id null: the platform
-- syncs the account); `connected_in_time`: it was connected at the deadline.
unit_mailbox AS MATERIALIZED (
    SELECT unit.judgement_no, unit.unit_inquiry_id, mailbox.mailbox_id,
        mailbox.connected_at <= unit.due_at AND (mailbox.removed_at IS NULL OR mailbox.removed_at >= unit.due_at) AS connected_in_time,
        CASE WHEN mailbox.mailbox_id IS NULL
            THEN mailbox.from_at <= unit.start_at AND (mailbox.removed_at IS NULL OR mailbox.removed_at >= unit.due_at)
            ELSE mailbox.complete @> tstzrange(unit.start_at, unit.due_at, '[]') END IS TRUE AS covers
    FROM unit JOIN mailbox_coverage mailbox ON mailbox.judgement_no = unit.judgement_no AND mailbox.account_id = unit.account_id
    WHERE unit.answered_at IS NULL
),
-- Covered: synced by the platform, or by every mailbox that was connected in time, or, where none was, by any.
covered_unit AS MATERIALIZED (
    SELECT mailbox.judgement_no, mailbox.unit_inquiry_id FROM unit_mailbox mailbox
    GROUP BY mailbox.judgement_no, mailbox.unit_inquiry_id
    HAVING bool_or(mailbox.covers) FILTER (WHERE mailbox.mailbox_id IS NULL) IS TRUE
        OR coalesce(
            bool_and(mailbox.covers) FILTER (WHERE mailbox.connected_in_time AND mailbox.mailbox_id IS NOT NULL),
            bool_or(mailbox.covers) FILTER (WHERE mailbox.mailbox_id IS NOT NULL)
        ) IS TRUE
),
inquiry_outcome AS MATERIALIZED (
    SELECT judgement.company_id, judgement.as_of, member.inquiry_id, coalesce(whole.responder, member.account_id) AS account_id,
        coalesce(whole.responder, member.owner) AS owner, member.buyer_id, member.period_day AS own_day, member.unit_day,
        member.unit_inquiry_id, member.received_at, unit.answered_at AS first_reply_at, unit.seconds AS reply_seconds,
        CASE WHEN unit.judgement_no IS NULL THEN 'merged'
            WHEN unit.answered_at IS NOT NULL
                THEN CASE WHEN unit.accepted AND unit.seconds <= %(target_seconds)s THEN 'timely' ELSE 'late' END
            WHEN least(member.now, judgement.watermark) < unit.due_at THEN 'pending'
            WHEN covered.judgement_no IS NULL AND %(unmeasured)s = 'separate' THEN 'unmeasured'
            ELSE 'unanswered' END AS outcome,
        CASE WHEN automatic.judgement_no IS NOT NULL AND unit.answered_at IS NULL
            AND least(member.now, judgement.watermark) >= unit.due_at
            AND (covered.judgement_no IS NOT NULL OR %(unmeasured)s <> 'separate') THEN 'only-automatic-replies' END AS reason,
        unit.source AS reply_source,
        CASE unit.source WHEN 'platform' THEN 'platform' WHEN 'mail' THEN (%(match_order)s::text[])[match.position] END AS matched_by,
        CASE WHEN unit.source = 'mail' THEN unit.mailbox_id END AS mailbox_id,
        CASE WHEN unit.source = 'mail' THEN unit.evidence END AS evidence,
        CASE WHEN unit.judgement_no IS NOT NULL THEN unit.answered_at IS NOT NULL OR covered.judgement_no IS NOT NULL END AS covered,
        unit.due_at, CASE WHEN member.unit_day <= judgement.settled_through THEN 'final' ELSE 'provisional' END AS state
    FROM unit_member member
    JOIN judgement USING (judgement_no)
    -- The unit on the row of its first member only; `whole` is the unit of every member.
    LEFT JOIN unit ON unit.judgement_no = member.judgement_no AND unit.unit_inquiry_id = member.inquiry_id
    LEFT JOIN unit whole ON whole.judgement_no = member.judgement_no AND whole.unit_inquiry_id = member.unit_inquiry_id
    LEFT JOIN covered_unit covered ON covered.judgement_no = unit.judgement_no AND covered.unit_inquiry_id = unit.unit_inquiry_id
    LEFT JOIN only_automatic automatic ON automatic.judgement_no = unit.judgement_no
        AND automatic.unit_inquiry_id = unit.unit_inquiry_id
    LEFT JOIN strongest_match match ON match.judgement_no = unit.judgement_no AND match.unit_inquiry_id = unit.unit_inquiry_id
        AND match.reply_id = unit.reply_id
    UNION ALL
    SELECT judgement.company_id, judgement.as_of, inquiry.inquiry_id, inquiry.owner, inquiry.owner, inquiry.buyer_id,
        inquiry.period_day, inquiry.period_day, NULL, inquiry.received_at, NULL,
        NULL, 'excluded', inquiry.excluded_by, NULL, NULL, NULL, NULL, NULL, NULL,
        CASE WHEN inquiry.period_day <= judgement.settled_through THEN 'final' ELSE 'provisional' END
    FROM attributed_inquiry inquiry JOIN judgement USING (judgement_no) WHERE inquiry.excluded_by IS NOT NULL
)

-- name: select_outcomes
-- Continues from `steps`: the outcome of each inquiry at each judgement.
SELECT company_id, as_of, inquiry_id, account_id, owner, buyer_id, own_day, unit_day, unit_inquiry_id, received_at, first_reply_at,
    reply_seconds, outcome, reason, reply_source, matched_by, mailbox_id, evidence, covered, due_at, state
FROM inquiry_outcome

-- name: insert_judged
-- Goes before `steps` and `select_outcomes`: stores their rows in the workspace.
INSERT INTO judged

-- name: store_outcomes
-- Outcomes as they are now. `revision` and `changed_at` move only where something changed; the previous outcome goes into
-- the history.
WITH new AS MATERIALIZED (SELECT * FROM judged WHERE as_of IS NULL),
replaced AS (
    INSERT INTO outcome_history (rule_set, company_id, inquiry_id, revision, rule_version, account_id, outcome, reason,
        first_reply_at, state, changed_at)
    SELECT stored.rule_set, stored.company_id, stored.inquiry_id, stored.revision, stored.rule_version, stored.account_id,
        stored.outcome, stored.reason, stored.first_reply_at, stored.state, stored.changed_at
    FROM outcomes stored JOIN new USING (company_id, inquiry_id)
    WHERE stored.rule_set = %(rule_set)s AND stored.company_id = ANY (%(companies)s)
        AND (stored.rule_version, stored.account_id, stored.outcome, stored.reason, stored.first_reply_at, stored.state)
            IS DISTINCT FROM (%(identity)s, new.account_id, new.outcome, new.reason, new.first_reply_at, new.state)
    ON CONFLICT DO NOTHING
)
INSERT INTO outcomes AS stored (
    rule_set, company_id, inquiry_id, rule_version, account_id, buyer_id, unit_day, unit_inquiry_id, received_at,
    first_reply_at, reply_seconds, outcome, reason, reply_source, matched_by, mailbox_id, evidence, covered, due_at, state,
    owner, own_day, changed_at
)
SELECT %(rule_set)s, new.company_id, new.inquiry_id, %(identity)s, new.account_id, new.buyer_id, new.unit_day,
    new.unit_inquiry_id, new.received_at, new.first_reply_at, new.reply_seconds, new.outcome, new.reason, new.reply_source,
    new.matched_by, new.mailbox_id, new.evidence, new.covered, new.due_at, new.state, new.owner, new.own_day, %(now)s
FROM new
ON CONFLICT (rule_set, company_id, inquiry_id) DO UPDATE SET
    rule_version = excluded.rule_version, account_id = excluded.account_id, buyer_id = excluded.buyer_id,
    unit_day = excluded.unit_day, unit_inquiry_id = excluded.unit_inquiry_id, received_at = excluded.received_at,
    first_reply_at = excluded.first_reply_at, reply_seconds = excluded.reply_seconds, outcome = excluded.outcome,
    reason = excluded.reason, reply_source = excluded.reply_source, matched_by = excluded.matched_by,
    mailbox_id = excluded.mailbox_id, evidence = excluded.evidence, covered = excluded.covered, due_at = excluded.due_at,
    state = excluded.state, owner = excluded.owner, own_day = excluded.own_day, changed_at = excluded.changed_at,
    revision = stored.revision + 1
WHERE (stored.rule_version, stored.account_id, stored.buyer_id, stored.unit_day, stored.unit_inquiry_id, stored.received_at,
        stored.first_reply_at, stored.reply_seconds, stored.outcome, stored.reason, stored.reply_source, stored.matched_by,
        stored.mailbox_id, stored.evidence, stored.covered, stored.due_at, stored.state, stored.owner, stored.own_day)
    IS DISTINCT FROM (excluded.rule_version, excluded.account_id, excluded.buyer_id, excluded.unit_day,
        excluded.unit_inquiry_id, excluded.received_at, excluded.first_reply_at, excluded.reply_seconds, excluded.outcome,
        excluded.reason, excluded.reply_source, excluded.matched_by, excluded.mailbox_id, excluded.evidence,
        excluded.covered, excluded.due_at, excluded.state, excluded.owner, excluded.own_day)

-- name: delete_unknown_outcomes
-- Outcomes of inquiries that are no longer known, after an erase.
DELETE FROM outcomes stored
WHERE stored.rule_set = %(rule_set)s AND stored.company_id = ANY (%(companies)s)
    AND NOT EXISTS (SELECT FROM judged WHERE judged.as_of IS NULL AND judged.company_id = stored.company_id
        AND judged.inquiry_id = stored.inquiry_id)

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
