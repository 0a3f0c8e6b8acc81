-- name: due
-- Companies to judge, the one that has waited longest first: facts changed (also by a new account), a deadline or a day has
-- passed, or coverage was recorded that may change a number. Locked; other aggregators skip them. Coverage and time count
-- only up to the watermark, the instant up to which every published record has been counted (watermark.py). Each branch
-- reads its index up to a number of companies, more than all aggregators lock at once.
WITH clock AS MATERIALIZED (
    SELECT partition, least(clock_timestamp(), passed_at) AS passed_at FROM ledger.pipeline
),
-- Companies whose partition is not known wait for the slowest one; without any (in a replay) everything has been counted.
slowest AS MATERIALIZED (SELECT least(clock_timestamp(), coalesce(min(passed_at), 'infinity')) AS passed_at FROM clock),
candidate AS MATERIALIZED (
    (SELECT fact.company_id, fact.since FROM ledger.dirty fact
    WHERE NOT fact.company_id = ANY (%(quarantined)s) AND NOT EXISTS (
        SELECT FROM ledger.dirty earlier WHERE earlier.company_id = fact.company_id AND earlier.dirty_id < fact.dirty_id
    ) ORDER BY fact.dirty_id LIMIT 16 * %(most)s)
    UNION ALL
    SELECT waiting.company_id, waiting.due_at FROM clock CROSS JOIN LATERAL (
        SELECT company.company_id, company.due_at FROM ledger.companies company
        WHERE company.partition = clock.partition AND company.due_at <= clock.passed_at
            AND NOT company.company_id = ANY (%(quarantined)s)
        ORDER BY company.due_at LIMIT 2 * %(most)s
    ) waiting
    UNION ALL
    (SELECT company.company_id, company.due_at FROM ledger.companies company
    WHERE company.partition IS NULL AND company.due_at <= (SELECT passed_at FROM slowest)
        AND NOT company.company_id = ANY (%(quarantined)s)
    ORDER BY company.due_at LIMIT 16 * %(most)s)
    UNION ALL
    SELECT waiting.company_id, waiting.recorded_at FROM clock CROSS JOIN LATERAL (
        SELECT reached.company_id, reached.recorded_at FROM ledger.coverage_reached reached
        WHERE reached.partition = clock.partition AND reached.recorded_at <= clock.passed_at
            AND NOT reached.company_id = ANY (%(quarantined)s)
        ORDER BY reached.recorded_at LIMIT 8 * %(most)s
    ) waiting
    UNION ALL
    (SELECT reached.company_id, reached.recorded_at FROM ledger.coverage_reached reached
    WHERE reached.partition IS NULL AND reached.recorded_at <= (SELECT passed_at FROM slowest)
        AND NOT reached.company_id = ANY (%(quarantined)s)
    ORDER BY reached.recorded_at LIMIT 64 * %(most)s)
),
longest_waiting AS MATERIALIZED (
    SELECT company_id, min(since) AS since FROM candidate GROUP BY company_id ORDER BY 2, 1 LIMIT 16 * %(most)s
)
SELECT company.company_id FROM longest_waiting JOIN ledger.companies company USING (company_id)
ORDER BY longest_waiting.since, company.company_id
LIMIT %(most)s FOR UPDATE OF company SKIP LOCKED

-- name: snapshot
-- One snapshot for the whole refresh: it sees a concurrent erase completely or not at all.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- name: changes
-- What has changed for each company since its last refresh.
SELECT company.company_id, coalesce(facts.ids, '{}') AS dirty, facts.earliest,
    coalesce(facts.everything, false) AS everything,
    facts.erased_since, facts.received_from, polls.covered_from, coalesce(polls.connected, false) AS connected, coalesce(polls.coverage, (
        SELECT judged.coverage_seen FROM ledger.companies judged WHERE judged.company_id = company.company_id
    )) AS coverage
FROM unnest(%(companies)s::text[]) company (company_id)
-- Rows of coverage since the last refresh, and the earliest time that they say something about. A few ids before it are read
-- again, since a row may be committed after one with a higher id was seen. Where units are archived, a poll that only continues an
-- earlier one says nothing about the time before that: it brings no archived unit back.
LEFT JOIN LATERAL (
    SELECT max(poll.coverage_id) AS coverage,
        least(min(poll.from_at) FILTER (WHERE continued.through_at IS NULL), min(poll.connected_at) FILTER (WHERE continued.through_at IS NULL),
            min(poll.removed_at) FILTER (WHERE continued.through_at IS NULL), min(continued.through_at)) AS covered_from,
        bool_or(poll.mailbox_id IS NOT NULL AND poll.from_at IS NULL AND poll.removed_at IS NULL) AS connected
    FROM registry.coverage poll JOIN ledger.companies judged USING (company_id) JOIN ledger.passed partition USING (company_id)
    LEFT JOIN LATERAL (
        SELECT max(earlier.through_at) AS through_at FROM registry.coverage earlier
        WHERE EXISTS (SELECT FROM ledger.archive_parts part WHERE part.company_id = company.company_id)
            AND earlier.company_id = poll.company_id AND earlier.account_id = poll.account_id AND earlier.mailbox_id = poll.mailbox_id
            AND earlier.coverage_id < poll.coverage_id AND earlier.connected_at = poll.connected_at
            AND earlier.removed_at IS NOT DISTINCT FROM poll.removed_at AND earlier.from_at <= poll.from_at
    ) continued ON true
    WHERE poll.company_id = company.company_id AND poll.coverage_id > judged.coverage_seen - 1000
        AND poll.recorded_at <= partition.passed_at
        AND (poll.coverage_id > judged.coverage_seen OR poll.recorded_at > judged.judged_at - interval '1 hour'
            OR NOT EXISTS (SELECT FROM ledger.archive_parts part WHERE part.company_id = company.company_id))
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
WITH stored AS MATERIALIZED (
        SELECT array_agg(name) AS rule_sets
        FROM (SELECT name FROM ledger.rule_sets UNION SELECT rule_set FROM ledger.recomputes) stored_or_recomputed
    ),
    rates AS (
        DELETE FROM ledger.rate_ranges rate WHERE rate.company_id = %(company_id)s AND (
            rate.valid_to IS NOT NULL
            OR NOT EXISTS (SELECT FROM ledger.rule_sets rules WHERE rules.name = rate.rule_set AND rules.active)
        )
    ),
    -- Those that an earlier release stored.
    rate_days AS (
        DELETE FROM ledger.rate_days rate WHERE rate.rule_set = ANY ((SELECT rule_sets FROM stored)::text[])
            AND rate.company_id = %(company_id)s AND (
            rate.valid_to IS NOT NULL
            OR NOT EXISTS (SELECT FROM ledger.rule_sets rules WHERE rules.name = rate.rule_set AND rules.active)
        )
    ),
    history AS (DELETE FROM ledger.outcome_history WHERE rule_set = ANY ((SELECT rule_sets FROM stored)::text[])
        AND company_id = %(company_id)s),
    final_outcomes AS (UPDATE ledger.outcomes SET provisional_at = NULL, provisional_revision = NULL
        WHERE rule_set = ANY ((SELECT rule_sets FROM stored)::text[]) AND company_id = %(company_id)s AND provisional_revision IS NOT NULL),
    diagnoses AS (DELETE FROM ledger.diagnoses WHERE company_id = %(company_id)s),
    shadow_history AS (DELETE FROM shadow.outcome_history
        WHERE rule_set = ANY ((SELECT rule_sets FROM stored)::text[]) AND company_id = %(company_id)s),
    -- Corrections of a recompute published since the erase stay, without the old values.
    corrections AS (
        UPDATE ledger.corrections SET old_value = NULL, cause = 'erase'
        WHERE company_id = %(company_id)s AND changed_at >= %(since)s
    )
DELETE FROM ledger.corrections WHERE company_id = %(company_id)s AND changed_at < %(since)s

-- name: clean
-- The changes that this refresh has seen are done. Coverage recorded after the watermark is still to be judged.
WITH covered AS (
    DELETE FROM ledger.coverage_reached reached USING ledger.passed partition
    WHERE reached.company_id = ANY (%(companies)s) AND partition.company_id = ANY (%(companies)s)
        AND partition.company_id = reached.company_id AND reached.recorded_at <= partition.passed_at
)
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
WHERE company.company_id = judged.company_id AND company.company_id = ANY (%(companies)s)

-- name: await_watermark
-- Coverage that these companies wait for and that was recorded after the watermark, before they waited for it: as the trigger
-- announced_insert announces it, also what was recorded before the company had an inquiry (an account that the platform syncs).
INSERT INTO ledger.coverage_reached (company_id, partition, recorded_at)
SELECT company.company_id, company.partition, behind.recorded_at
FROM ledger.companies company JOIN ledger.passed partition USING (company_id) CROSS JOIN LATERAL (
    SELECT min(poll.recorded_at) AS recorded_at FROM registry.coverage poll
    WHERE poll.company_id = company.company_id AND poll.coverage_id > company.coverage_seen
        AND poll.recorded_at > partition.passed_at AND (
            poll.from_at IS NULL OR poll.removed_at IS NOT NULL OR poll.mailbox_id IS NULL
            OR poll.through_at >= company.coverage_wanted AND company.coverage_wanted < 'infinity'
        )
) behind
WHERE company.company_id = ANY (%(companies)s) AND partition.company_id = ANY (%(companies)s)
    AND behind.recorded_at IS NOT NULL

-- name: waiting
-- How many companies wait, and the seconds for which the first of them has waited.
SELECT count(DISTINCT company_id) AS companies,
    coalesce(extract(epoch FROM clock_timestamp() - min(since)), 0)::float8 AS seconds
FROM ledger.dirty
