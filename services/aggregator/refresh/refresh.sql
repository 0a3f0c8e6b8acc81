-- name: due
-- Companies that wait to be judged: facts changed, time has passed, coverage reached what it was wanted for, or a mailbox came
-- or went. Locked; others skip them. Coverage and time count once what was published until then has been counted (passage.py);
-- until then nobody looks again.
SELECT c.company_id FROM ledger.companies c JOIN ledger.passed p USING (company_id)
WHERE NOT c.company_id = ANY (%(aside)s) AND (
    EXISTS (SELECT FROM ledger.dirty d WHERE d.company_id = c.company_id)
    OR c.due_at <= least(clock_timestamp(), p.passed_at)
    OR CASE
        WHEN c.coverage_wanted > clock_timestamp() THEN false
        -- While everything waits, the first row says so for all of them.
        WHEN (
            SELECT v.recorded_at FROM registry.coverage v WHERE v.company_id = c.company_id AND v.coverage_id > c.coverage_seen
            ORDER BY v.coverage_id LIMIT 1
        ) <= p.passed_at THEN EXISTS (
            SELECT FROM registry.coverage v
            WHERE v.company_id = c.company_id AND v.coverage_id > c.coverage_seen AND v.recorded_at <= p.passed_at
                AND v.through_at >= c.coverage_wanted
        )
        ELSE false
    END
    OR EXISTS (
        SELECT FROM registry.coverage v
        WHERE v.company_id = c.company_id AND v.coverage_id > c.coverage_seen AND v.recorded_at <= p.passed_at
            AND (v.from_at IS NULL OR v.removed_at IS NOT NULL OR v.mailbox_id IS NULL)
    )
    OR EXISTS (SELECT FROM registry.accounts a WHERE a.company_id = c.company_id AND a.created_at > c.judged_at)
)
ORDER BY c.judged_at NULLS FIRST, c.company_id
LIMIT %(most)s FOR UPDATE OF c SKIP LOCKED

-- name: snapshot
-- One look at everything: an erase that comes meanwhile is wholly in it or not at all.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- name: seen
-- What this refresh takes into account of each company.
SELECT c.company_id, coalesce(d.ids, '{}') AS dirty, d.earliest,
    coalesce(d.everything, false) OR EXISTS (
        SELECT FROM registry.accounts a JOIN ledger.companies l USING (company_id)
        WHERE a.company_id = c.company_id AND a.created_at > l.judged_at
    ) AS everything,
    d.erased_since, d.received_from, v.covered_from, coalesce(v.coverage, (
        SELECT l.coverage_seen FROM ledger.companies l WHERE l.company_id = c.company_id
    )) AS coverage
FROM unnest(%(companies)s::text[]) c (company_id)
-- Lines of coverage since the last refresh, and the earliest time that they say something about: some ids more, since a line
-- may be committed after one with a higher id was seen.
LEFT JOIN LATERAL (
    SELECT max(v.coverage_id) AS coverage, least(min(v.from_at), min(v.connected_at), min(v.removed_at)) AS covered_from
    FROM registry.coverage v JOIN ledger.companies l USING (company_id) JOIN ledger.passed p USING (company_id)
    WHERE v.company_id = c.company_id AND v.coverage_id > l.coverage_seen - 1000 AND v.recorded_at <= p.passed_at
) v ON true
LEFT JOIN (
    SELECT company_id, array_agg(dirty_id) AS ids,
        min(received_from) FILTER (WHERE received_from > '-infinity' AND received_from < 'infinity') AS received_from,
        min(earliest) FILTER (WHERE earliest > '-infinity') AS earliest,
        bool_or(earliest = '-infinity') AS everything, min(since) FILTER (WHERE cause = 'erase') AS erased_since
    FROM ledger.dirty WHERE company_id = ANY (%(companies)s) GROUP BY company_id
) d USING (company_id)

-- name: forget
-- An erase leaves nothing of how numbers came to be, not even of rule sets that do not count any more.
WITH rates AS (
        DELETE FROM ledger.rates r WHERE r.company_id = %(company_id)s AND (
            r.valid_to IS NOT NULL
            OR NOT EXISTS (SELECT FROM ledger.rule_sets s WHERE s.name = r.rule_set AND s.active)
        )
    ),
    history AS (DELETE FROM ledger.outcome_history WHERE company_id = %(company_id)s),
    diagnoses AS (DELETE FROM ledger.diagnoses WHERE company_id = %(company_id)s),
    shadow_history AS (DELETE FROM shadow.outcome_history WHERE company_id = %(company_id)s),
    -- What a recompute that was shown since the erase said of it stays, without what was before.
    told AS (
        UPDATE ledger.corrections SET old_value = NULL, cause = 'erase'
        WHERE company_id = %(company_id)s AND changed_at >= %(since)s
    )
DELETE FROM ledger.corrections WHERE company_id = %(company_id)s AND changed_at < %(since)s

-- name: clean
-- The rows that were seen are done.
DELETE FROM ledger.dirty WHERE dirty_id = ANY (%(dirty)s)

-- name: judged
-- When the companies were judged, when each is due next by time alone, and how far coverage must reach to change something: to
-- the end of a first scan, the deadline of a unit that nobody covers, or what lets a day settle.
UPDATE ledger.companies c SET judged_at = %(now)s, due_at = d.due_at, coverage_seen = d.coverage,
    coverage_wanted = CASE WHEN EXISTS (
        SELECT FROM registry.mailboxes m
        WHERE m.company_id = c.company_id AND m.state IN ('active', 'needs_reconnect') AND m.complete_through IS NULL
    ) THEN '-infinity' ELSE coalesce(least(d.settles_at, (
        SELECT min(o.due_at) FROM ledger.outcomes o JOIN ledger.rule_sets s ON s.name = o.rule_set AND s.active
        WHERE o.company_id = c.company_id AND o.state = 'provisional' AND o.outcome IN ('unmeasured', 'unanswered')
            AND o.covered IS NOT TRUE
    )), 'infinity') END
FROM unnest(%(companies)s::text[], %(due_ats)s::timestamptz[], %(coverages)s::bigint[], %(settles)s::timestamptz[])
    d (company_id, due_at, coverage, settles_at)
WHERE c.company_id = d.company_id

-- name: waiting
-- How many companies wait, and for how long the first of them.
SELECT count(DISTINCT company_id) AS companies,
    coalesce(extract(epoch FROM clock_timestamp() - min(since)), 0)::float8 AS seconds
FROM ledger.dirty
