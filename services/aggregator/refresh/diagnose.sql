-- name: undiagnosed
-- Companies that were judged, or whose rule sets changed, since they were last diagnosed; and, once an hour, those with a
-- diagnosis, since a login can break without any new fact. Locked; other aggregators skip them.
SELECT company.company_id FROM ledger.companies company
WHERE company.judged_at IS NOT NULL AND NOT company.company_id = ANY (%(quarantined)s) AND (
    company.diagnosed_at IS NULL OR company.diagnosed_at < company.judged_at
    OR company.diagnosed_at < (SELECT max(rules.activated_at) FROM ledger.rule_sets rules WHERE rules.active)
    OR company.diagnosed_at < clock_timestamp() - interval '1 hour'
        AND EXISTS (SELECT FROM ledger.diagnoses diagnosis WHERE diagnosis.company_id = company.company_id)
)
ORDER BY company.diagnosed_at NULLS FIRST, company.company_id
LIMIT %(most)s FOR UPDATE OF company SKIP LOCKED

-- name: mark_diagnosed
-- The companies have been diagnosed.
UPDATE ledger.companies SET diagnosed_at = %(now)s WHERE company_id = ANY (%(companies)s)
