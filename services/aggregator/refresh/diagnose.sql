-- name: undiagnosed
-- Companies that were judged, or whose rule sets changed, since they were last diagnosed; and, once an hour, those with a
-- diagnosis, since a login can break without any new fact. Locked; other aggregators skip them.
WITH candidate AS MATERIALIZED (
    (SELECT company_id FROM ledger.companies
    WHERE judged_at IS NOT NULL AND (diagnosed_at IS NULL OR diagnosed_at < judged_at)
        AND NOT company_id = ANY (%(quarantined)s)
    ORDER BY judged_at LIMIT 16 * %(most)s)
    UNION
    (SELECT company_id FROM ledger.companies
    WHERE diagnosed_at < (SELECT max(rules.activated_at) FROM ledger.rule_sets rules WHERE rules.active)
        AND judged_at IS NOT NULL AND NOT company_id = ANY (%(quarantined)s)
    ORDER BY diagnosed_at LIMIT 16 * %(most)s)
    UNION
    (SELECT company_id FROM ledger.companies
    WHERE diagnose_again_at < statement_timestamp() AND NOT company_id = ANY (%(quarantined)s)
    ORDER BY diagnose_again_at LIMIT 16 * %(most)s)
)
SELECT company.company_id FROM ledger.companies company
WHERE company.company_id = ANY (ARRAY(SELECT candidate.company_id FROM candidate))
ORDER BY company.diagnosed_at NULLS FIRST, company.company_id
LIMIT %(most)s FOR UPDATE OF company SKIP LOCKED

-- name: mark_diagnosed
-- The companies have been diagnosed; those with a diagnosis are diagnosed again in an hour.
UPDATE ledger.companies company SET diagnosed_at = %(now)s, diagnose_again_at = (
    SELECT %(now)s::timestamptz + interval '1 hour' FROM ledger.diagnoses diagnosis
    WHERE diagnosis.company_id = company.company_id LIMIT 1
)
WHERE company.company_id = ANY (%(companies)s)
