-- name: held
-- A rule set as it counts, or counted.
SELECT name, identity, active FROM ledger.rule_sets WHERE name = %(name)s

-- name: active
-- The rule sets that count. Shared, so that none is switched off between here and the end of a refresh.
SELECT parameters::text FROM ledger.rule_sets WHERE active ORDER BY name FOR SHARE

-- name: counting
-- The rule sets that count, for somebody who only reads.
SELECT parameters::text FROM ledger.rule_sets WHERE active ORDER BY name

-- name: stored
-- Every rule set that is or was active.
SELECT name, active AS is_active, parameters::text AS parameters FROM ledger.rule_sets ORDER BY name

-- name: corrections_since
-- Corrections of a rule set that a recompute or a new version of it made.
SELECT count(*) FROM ledger.corrections WHERE rule_set = %(name)s AND changed_at >= %(since)s
    AND cause IN ('recompute', 'rule-version')

-- name: count
-- The rule set counts from now on.
INSERT INTO ledger.rule_sets AS held (name, identity, parameters) VALUES (%(name)s, %(identity)s, %(parameters)s)
ON CONFLICT (name) DO UPDATE SET identity = excluded.identity, parameters = excluded.parameters, active = true,
    activated_at = CASE WHEN held.identity = excluded.identity AND held.active THEN held.activated_at ELSE clock_timestamp() END

-- name: deactivate
-- Does not count any more.
UPDATE ledger.rule_sets SET active = false WHERE name = %(name)s AND active RETURNING name

-- name: retire_rates
-- A number that nobody refreshes would soon be false: it stays in the history only, and there only if it held when its
-- day was over.
WITH running AS (
    DELETE FROM ledger.rates r USING ledger.rule_sets s
    WHERE r.rule_set = %(name)s AND s.name = r.rule_set AND r.valid_to IS NULL
        AND r.computed_at < (r.as_of + 1)::timestamp AT TIME ZONE (s.parameters ->> 'time_zone')
)
UPDATE ledger.rates r SET valid_to = clock_timestamp() FROM ledger.rule_sets s
WHERE r.rule_set = %(name)s AND s.name = r.rule_set AND r.valid_to IS NULL
    AND r.computed_at >= (r.as_of + 1)::timestamp AT TIME ZONE (s.parameters ->> 'time_zone')

-- name: retire_outcomes
-- Outcomes are judged anew when the rule set counts again.
WITH gone AS (DELETE FROM ledger.outcome_history WHERE rule_set = %(name)s)
DELETE FROM ledger.outcomes WHERE rule_set = %(name)s

-- name: under_way
-- A recompute of the rule set, if there is one.
SELECT identity, from_day, to_day FROM ledger.recomputes WHERE rule_set = %(name)s FOR UPDATE

-- name: begin
-- A recompute begins; one under way for other parameters or days ends.
INSERT INTO ledger.recomputes (rule_set, identity, parameters, from_day, to_day)
VALUES (%(name)s, %(identity)s, %(parameters)s, %(from_day)s, %(to_day)s)
ON CONFLICT (rule_set) DO NOTHING RETURNING rule_set

-- name: end
-- A recompute is over; with it goes the list of companies that have been.
DELETE FROM ledger.recomputes WHERE rule_set = %(name)s

-- name: clear
-- Nothing of it stays in the shadow.
WITH rates AS (DELETE FROM shadow.rates WHERE rule_set = %(name)s),
    outcomes AS (DELETE FROM shadow.outcomes WHERE rule_set = %(name)s),
    corrections AS (DELETE FROM shadow.corrections WHERE rule_set = %(name)s),
    history AS (DELETE FROM shadow.outcome_history WHERE rule_set = %(name)s)
DELETE FROM shadow.settled WHERE rule_set = %(name)s

-- name: all
-- Recomputes under way. Shared, so that none is shown between here and the end of a judgement.
SELECT parameters::text AS parameters, from_day, to_day FROM ledger.recomputes ORDER BY rule_set FOR SHARE

-- name: progress
-- How far they are.
SELECT r.rule_set, r.identity, r.begun_at, (SELECT count(*) FROM ledger.companies) AS companies,
    (SELECT count(*) FROM ledger.recomputed d WHERE d.rule_set = r.rule_set) AS done
FROM ledger.recomputes r ORDER BY r.rule_set

-- name: lacking
-- Companies that have not been judged anew; those that somebody is at are left to him.
SELECT c.company_id FROM ledger.companies c
WHERE NOT EXISTS (SELECT FROM ledger.recomputed d WHERE d.rule_set = %(name)s AND d.company_id = c.company_id)
    AND NOT c.company_id = ANY (%(aside)s)
ORDER BY c.company_id LIMIT %(most)s FOR UPDATE OF c SKIP LOCKED

-- name: whole
-- Whether every company has been.
SELECT NOT EXISTS (
    SELECT FROM ledger.companies c
    WHERE NOT EXISTS (SELECT FROM ledger.recomputed d WHERE d.rule_set = %(name)s AND d.company_id = c.company_id)
) AS whole

-- name: done
-- These companies have been judged anew, and are due at the latest when the new numbers are.
WITH recomputed AS (
    INSERT INTO ledger.recomputed (rule_set, company_id) SELECT %(name)s, unnest(%(companies)s::text[]) ON CONFLICT DO NOTHING
)
UPDATE ledger.companies c SET due_at = least(c.due_at, d.due_at)
FROM unnest(%(companies)s::text[], %(due_ats)s::timestamptz[]) d (company_id, due_at)
WHERE c.company_id = d.company_id AND d.due_at < coalesce(c.due_at, 'infinity')

-- name: patience
-- Showing a large recompute takes longer than a statement may.
SELECT set_config('statement_timeout', '3600s', true), set_config('idle_in_transaction_session_timeout', '3600s', true)

-- name: judged
-- What was judged in the shadow, as if it had been now.
INSERT INTO judged (company_id, inquiry_id, account_id, owner, own_day, buyer_id, unit_day, unit_inquiry_id, received_at, first_reply_at,
    reply_seconds, outcome, reason, reply_source, matched_by, mailbox_id, evidence, covered, due_at, state)
SELECT company_id, inquiry_id, account_id, owner, own_day, buyer_id, unit_day, unit_inquiry_id, received_at, first_reply_at, reply_seconds,
    outcome, reason, reply_source, matched_by, mailbox_id, evidence, covered, due_at, state
FROM shadow.outcomes WHERE rule_set = %(name)s

-- name: counted
-- What was counted in the shadow, as if it had been now. A row that is final stays so while its rule set is the same.
INSERT INTO counted (company_id, level, account_id, as_of, window_start, window_end, inquiries, excluded, counted, timely, late,
    unanswered, unmeasured, pending, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds, rate_shown, coverage,
    buckets, state, over_at)
SELECT company_id, level, account_id, as_of, window_start, window_end, inquiries, excluded, counted, timely, late, unanswered,
    unmeasured, pending, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds, rate_shown, coverage, buckets, state,
    (as_of + 1)::timestamp AT TIME ZONE %(zone)s
FROM shadow.rates WHERE rule_set = %(name)s AND valid_to IS NULL

-- name: waiting
-- Companies whose facts wait for a refresh: what is shown of them differs for that, and not for the recompute.
SELECT company_id, CASE WHEN bool_or(cause = 'erase') THEN 'erase' ELSE 'late-fact' END AS cause
FROM ledger.dirty GROUP BY company_id

-- name: companies
-- Through which day each company was settled in the shadow, and its first known receipt.
SELECT s.company_id, s.through, (
    SELECT min(i.received_at) FROM ledger.inquiries i WHERE i.company_id = s.company_id AND i.received_at < %(now)s
) AS first_at
FROM shadow.settled s WHERE s.rule_set = %(name)s
