-- name: rule_set
-- A rule set that is or was active.
SELECT name, identity, active FROM ledger.rule_sets WHERE name = %(name)s

-- name: active
-- The active rule sets. Locked for share, so that none is deactivated before the end of a refresh.
SELECT parameters::text FROM ledger.rule_sets WHERE active ORDER BY name FOR SHARE

-- name: active_unless_locked
-- The same, or an error at once while another process activates or deactivates one of them.
SELECT parameters::text FROM ledger.rule_sets WHERE active ORDER BY name FOR SHARE NOWAIT

-- name: active_readonly
-- The active rule sets, for readers without the right to lock.
SELECT parameters::text FROM ledger.rule_sets WHERE active ORDER BY name

-- name: stored_rule_sets
-- Every rule set that is or was active.
SELECT name, active AS is_active, parameters::text AS parameters FROM ledger.rule_sets ORDER BY name

-- name: corrections_since
-- by hand: what `rules` shows.
-- How many corrections recomputes and new versions of a rule set have recorded since an instant.
SELECT count(*) FROM ledger.corrections WHERE rule_set = %(name)s AND changed_at >= %(since)s
    AND cause IN ('recompute', 'rule-version')

-- name: activate
-- The rule set is active from now on.
INSERT INTO ledger.rule_sets AS stored (name, identity, parameters) VALUES (%(name)s, %(identity)s, %(parameters)s)
ON CONFLICT (name) DO UPDATE SET identity = excluded.identity, parameters = excluded.parameters, active = true,
    activated_at = CASE WHEN stored.identity = excluded.identity AND stored.active THEN stored.activated_at ELSE clock_timestamp() END

-- name: deactivate
-- The rule set is not active any more.
UPDATE ledger.rule_sets SET active = false WHERE name = %(name)s AND active RETURNING name

-- name: retire_rates
-- rare: a rule set is deactivated.
-- A number that is no longer refreshed would soon be wrong: it stays only in the history, and there only if it was shown after
-- its day had ended. All of them end at the same instant: a range of days has one.
WITH running AS (
    DELETE FROM ledger.rates rate USING ledger.rule_sets rules
    WHERE rate.rule_set = %(name)s AND rules.name = rate.rule_set AND rate.valid_to IS NULL
        AND rate.computed_at < (rate.as_of + 1)::timestamp AT TIME ZONE (rules.parameters ->> 'time_zone')
)
UPDATE ledger.rates rate SET valid_to = statement_timestamp() FROM ledger.rule_sets rules
WHERE rate.rule_set = %(name)s AND rules.name = rate.rule_set AND rate.valid_to IS NULL
    AND rate.computed_at >= (rate.as_of + 1)::timestamp AT TIME ZONE (rules.parameters ->> 'time_zone')

-- name: delete_outcomes
-- rare: a rule set is deactivated.
-- Outcomes are judged again when the rule set is activated again; those of archived units are not.
WITH history AS (DELETE FROM ledger.outcome_history WHERE rule_set = %(name)s),
    days AS (DELETE FROM ledger.archived_days WHERE rule_set = %(name)s)
DELETE FROM ledger.outcomes WHERE rule_set = %(name)s

-- name: unfinished
-- The recompute of a rule set that has not been published yet.
SELECT identity, from_day, to_day FROM ledger.recomputes WHERE rule_set = %(name)s FOR UPDATE

-- name: start
-- Starts a recompute unless the rule set has one.
INSERT INTO ledger.recomputes (rule_set, identity, parameters, from_day, to_day)
VALUES (%(name)s, %(identity)s, %(parameters)s, %(from_day)s, %(to_day)s)
ON CONFLICT (rule_set) DO NOTHING RETURNING rule_set

-- name: end
-- A recompute has ended; the list of companies that it has judged goes with it.
DELETE FROM ledger.recomputes WHERE rule_set = %(name)s

-- name: clear_shadow
-- rare: a recompute starts or ends.
-- Deletes what a recompute has written to the shadow schema.
WITH rates AS (DELETE FROM shadow.rates WHERE rule_set = %(name)s),
    outcomes AS (DELETE FROM shadow.outcomes WHERE rule_set = %(name)s),
    corrections AS (DELETE FROM shadow.corrections WHERE rule_set = %(name)s),
    history AS (DELETE FROM shadow.outcome_history WHERE rule_set = %(name)s)
DELETE FROM shadow.settled WHERE rule_set = %(name)s

-- name: all_unfinished
-- The recomputes that have not been published yet. Locked for share, so that none is published before the end of a judgement.
SELECT parameters::text AS parameters, from_day, to_day FROM ledger.recomputes ORDER BY rule_set FOR SHARE

-- name: all_unfinished_unless_locked
-- The same, or an error at once while another process publishes or ends one of them.
SELECT parameters::text AS parameters, from_day, to_day FROM ledger.recomputes ORDER BY rule_set FOR SHARE NOWAIT

-- name: all_unpublished
-- The same without those that another process publishes at this moment: nothing is left to judge of them.
SELECT parameters::text AS parameters, from_day, to_day FROM ledger.recomputes ORDER BY rule_set FOR SHARE SKIP LOCKED

-- name: progress
-- by hand: what `rules` shows.
-- How many companies each recompute has judged.
SELECT recompute.rule_set, recompute.identity, recompute.begun_at, (SELECT count(*) FROM ledger.companies) AS companies,
    (SELECT count(*) FROM ledger.recomputed company WHERE company.rule_set = recompute.rule_set) AS done
FROM ledger.recomputes recompute ORDER BY recompute.rule_set

-- name: remaining
-- rare: while a recompute runs.
-- Companies not judged again yet, except those that another process has locked.
SELECT company.company_id FROM ledger.companies company
WHERE NOT EXISTS (
        SELECT FROM ledger.recomputed done WHERE done.rule_set = %(name)s AND done.company_id = company.company_id
    )
    AND NOT company.company_id = ANY (%(quarantined)s)
ORDER BY company.company_id LIMIT %(most)s FOR UPDATE OF company SKIP LOCKED

-- name: lacking
-- rare: while a recompute runs.
-- Which of these companies a recompute lacks: not judged yet, or not since archived units were restored.
SELECT company.company_id FROM unnest(%(companies)s::text[]) company (company_id)
WHERE NOT EXISTS (
    SELECT FROM ledger.recomputed done WHERE done.rule_set = %(name)s AND done.company_id = company.company_id COLLATE "C"
)

-- name: is_complete
-- rare: while a recompute runs.
-- Whether every company has been judged again.
SELECT NOT EXISTS (
    SELECT FROM ledger.companies company
    WHERE NOT EXISTS (
        SELECT FROM ledger.recomputed done WHERE done.rule_set = %(name)s AND done.company_id = company.company_id
    )
) AS complete

-- name: mark_done
-- These companies have been judged again; each is due no later than its new numbers are.
WITH recomputed AS (
    INSERT INTO ledger.recomputed (rule_set, company_id) SELECT %(name)s, unnest(%(companies)s::text[]) ON CONFLICT DO NOTHING
)
UPDATE ledger.companies company SET due_at = least(company.due_at, done.due_at)
FROM unnest(%(companies)s::text[], %(due_ats)s::timestamptz[]) done (company_id, due_at)
WHERE company.company_id = done.company_id AND done.due_at < coalesce(company.due_at, 'infinity')

-- name: extend_timeouts
-- To publish or to end a large recompute, or to deactivate a rule set of many companies, takes longer than other statements are
-- allowed to.
SELECT set_config('statement_timeout', '3600s', true), set_config('idle_in_transaction_session_timeout', '3600s', true)

-- name: load_counted
-- rare: a recompute is published.
-- Rates from the shadow schema.
INSERT INTO counted SELECT * FROM shadow.rates WHERE rule_set = %(name)s AND valid_to IS NULL

-- name: stamp_counted
-- As if they had been counted now.
UPDATE counted SET computed_at = %(now)s, valid_from = %(now)s

-- name: load_day_ends
-- When the days of these rates end.
INSERT INTO day_end
SELECT DISTINCT company_id, as_of, (as_of + 1)::timestamp AT TIME ZONE %(zone)s FROM counted

-- name: waiting
-- Companies whose facts wait for a refresh: their numbers differ because of these facts and not because of the recompute.
SELECT company_id, CASE WHEN bool_or(cause = 'erase') THEN 'erase' ELSE 'late-fact' END AS cause
FROM ledger.dirty GROUP BY company_id

-- name: companies
-- rare: a recompute is published.
-- The last day settled in the shadow schema and the first known receipt of each company.
SELECT settled.company_id, settled.through, least((
    SELECT min(inquiry.received_at) FROM ledger.inquiries inquiry
    WHERE inquiry.company_id = settled.company_id AND inquiry.received_at < %(now)s
), (SELECT min(part.first_received_at) FROM ledger.archive_parts part WHERE part.company_id = settled.company_id)) AS first_received_at
FROM shadow.settled settled WHERE settled.rule_set = %(name)s
