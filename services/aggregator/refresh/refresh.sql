-- name: due
-- Companies to judge: facts changed, a deadline passed, coverage reached what the company waits for, or a mailbox was connected
-- or removed. Locked; other aggregators skip them. Coverage and time count only up to the watermark, the instant up to which
-- every published record has been counted (watermark.py); until then the company is not looked at again.
SELECT company.company_id FROM ledger.companies company JOIN ledger.passed partition USING (company_id)
WHERE NOT company.company_id = ANY (%(quarantined)s) AND (
    EXISTS (SELECT FROM ledger.dirty fact WHERE fact.company_id = company.company_id)
    OR company.due_at <= least(clock_timestamp(), partition.passed_at)
    OR CASE
        WHEN company.coverage_wanted > clock_timestamp() THEN false
        -- While everything waits, the first row says so for all of them.
        WHEN (
            SELECT poll.recorded_at FROM registry.coverage poll
            WHERE poll.company_id = company.company_id AND poll.coverage_id > company.coverage_seen
            ORDER BY poll.coverage_id LIMIT 1
        ) <= partition.passed_at THEN EXISTS (
            SELECT FROM registry.coverage poll
            WHERE poll.company_id = company.company_id AND poll.coverage_id > company.coverage_seen
                AND poll.recorded_at <= partition.passed_at AND poll.through_at >= company.coverage_wanted
        )
        ELSE false
    END
    OR EXISTS (
        SELECT FROM registry.coverage poll
        WHERE poll.company_id = company.company_id AND poll.coverage_id > company.coverage_seen
            AND poll.recorded_at <= partition.passed_at
            AND (poll.from_at IS NULL OR poll.removed_at IS NOT NULL OR poll.mailbox_id IS NULL)
    )
    OR EXISTS (
        SELECT FROM registry.accounts account
        WHERE account.company_id = company.company_id AND account.created_at > company.judged_at
    )
)
ORDER BY company.judged_at NULLS FIRST, company.company_id
LIMIT %(most)s FOR UPDATE OF company SKIP LOCKED

-- name: snapshot
-- One snapshot for the whole refresh: it sees a concurrent erase completely or not at all.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- name: changes
-- What has changed for each company since its last refresh.
SELECT company.company_id, coalesce(facts.ids, '{}') AS dirty, facts.earliest,
    coalesce(facts.everything, false) OR EXISTS (
        SELECT FROM registry.accounts account JOIN ledger.companies judged USING (company_id)
        WHERE account.company_id = company.company_id AND account.created_at > judged.judged_at
    ) AS everything,
    facts.erased_since, facts.received_from, polls.covered_from, coalesce(polls.connected, false) AS connected, coalesce(polls.coverage, (
        SELECT judged.coverage_seen FROM ledger.companies judged WHERE judged.company_id = company.company_id
    )) AS coverage
FROM unnest(%(companies)s::text[]) company (company_id)
-- Rows of coverage since the last refresh, and the earliest time that they say something about. A few ids before it are read
-- again, since a row may be committed after one with a higher id was seen.
LEFT JOIN LATERAL (
    SELECT max(poll.coverage_id) AS coverage, least(min(poll.from_at), min(poll.connected_at), min(poll.removed_at)) AS covered_from,
        bool_or(poll.mailbox_id IS NOT NULL AND poll.from_at IS NULL AND poll.removed_at IS NULL) AS connected
    FROM registry.coverage poll JOIN ledger.companies judged USING (company_id) JOIN ledger.passed partition USING (company_id)
    WHERE poll.company_id = company.company_id AND poll.coverage_id > judged.coverage_seen - 1000
        AND poll.recorded_at <= partition.passed_at
) polls ON true
LEFT JOIN (
    SELECT company_id, array_agg(dirty_id) AS ids,
        min(received_from) FILTER (WHERE received_from > '-infinity' AND received_from < 'infinity') AS received_from,
        min(earliest) FILTER (WHERE earliest > '-infinity') AS earliest,
        bool_or(earliest = '-infinity') AS everything, min(since) FILTER (WHERE cause = 'erase') AS erased_since
    FROM ledger.dirty WHERE company_id = ANY (%(companies)s) GROUP BY company_id
) facts USING (company_id)

-- name: erase_history
-- After an erase nothing remains of how numbers were computed, also of inactive rule sets.
WITH rates AS (
        DELETE FROM ledger.rates rate WHERE rate.company_id = %(company_id)s AND (
            rate.valid_to IS NOT NULL
            OR NOT EXISTS (SELECT FROM ledger.rule_sets rules WHERE rules.name = rate.rule_set AND rules.active)
        )
    ),
    history AS (DELETE FROM ledger.outcome_history WHERE company_id = %(company_id)s),
    diagnoses AS (DELETE FROM ledger.diagnoses WHERE company_id = %(company_id)s),
    shadow_history AS (DELETE FROM shadow.outcome_history WHERE company_id = %(company_id)s),
    -- Corrections of a recompute published since the erase stay, without the old values.
    corrections AS (
        UPDATE ledger.corrections SET old_value = NULL, cause = 'erase'
        WHERE company_id = %(company_id)s AND changed_at >= %(since)s
    )
DELETE FROM ledger.corrections WHERE company_id = %(company_id)s AND changed_at < %(since)s

-- name: clean
-- The changes that this refresh has seen are done.
DELETE FROM ledger.dirty WHERE dirty_id = ANY (%(dirty)s)

-- name: mark_judged
-- When the companies were judged, when each is due next by time alone, and how far coverage must reach to change something: to
-- the end of a first scan, to the deadline of a unit that is not covered, or to where a day settles.
UPDATE ledger.companies company SET judged_at = %(now)s, due_at = judged.due_at, coverage_seen = judged.coverage,
    coverage_wanted = CASE WHEN EXISTS (
        SELECT FROM registry.mailboxes mailbox
        WHERE mailbox.company_id = company.company_id AND mailbox.state IN ('active', 'needs_reconnect')
            AND mailbox.complete_through IS NULL
    ) THEN '-infinity' ELSE coalesce(least(judged.read_through_needed, (
        SELECT min(outcome.due_at) FROM ledger.outcomes outcome
        JOIN ledger.rule_sets rules ON rules.name = outcome.rule_set AND rules.active
        WHERE outcome.company_id = company.company_id AND outcome.state = 'provisional'
            AND outcome.outcome IN ('unmeasured', 'unanswered') AND outcome.covered IS NOT TRUE
    )), 'infinity') END
FROM unnest(%(companies)s::text[], %(due_ats)s::timestamptz[], %(coverages)s::bigint[], %(read_through_needed)s::timestamptz[])
    judged (company_id, due_at, coverage, read_through_needed)
WHERE company.company_id = judged.company_id

-- name: waiting
-- How many companies wait, and the seconds for which the first of them has waited.
SELECT count(DISTINCT company_id) AS companies,
    coalesce(extract(epoch FROM clock_timestamp() - min(since)), 0)::float8 AS seconds
FROM ledger.dirty
