-- name: stale
-- Companies that were judged, or whose rule sets changed, since they were looked at last; and those with a rate of 0 once an
-- hour, since a login can break without any fact coming. Locked; others skip them.
SELECT c.company_id FROM ledger.companies c
WHERE c.judged_at IS NOT NULL AND NOT c.company_id = ANY (%(aside)s) AND (
    c.diagnosed_at IS NULL OR c.diagnosed_at < c.judged_at
    OR c.diagnosed_at < (SELECT max(s.activated_at) FROM ledger.rule_sets s WHERE s.active)
    OR c.diagnosed_at < clock_timestamp() - interval '1 hour'
        AND EXISTS (SELECT FROM ledger.diagnoses d WHERE d.company_id = c.company_id)
)
ORDER BY c.diagnosed_at NULLS FIRST, c.company_id
LIMIT %(most)s FOR UPDATE OF c SKIP LOCKED

-- name: looked
-- They have been looked at.
UPDATE ledger.companies SET diagnosed_at = %(now)s WHERE company_id = ANY (%(companies)s)

-- name: write
-- What was found now; computed_at moves only where something changed.
INSERT INTO ledger.diagnoses AS held
    (rule_set, company_id, account_id, cause, as_of, confidence, facts, advice_en, advice_zh, computed_at)
SELECT %(rule_set)s, n.company_id, n.account_id, n.cause, n.as_of, n.confidence, n.facts, n.advice_en, n.advice_zh, %(now)s
FROM unnest(%(company_ids)s::text[], %(account_ids)s::text[], %(causes)s::text[], %(as_ofs)s::date[], %(confidences)s::text[],
    %(facts)s::jsonb[], %(advices_en)s::text[], %(advices_zh)s::text[])
    n (company_id, account_id, cause, as_of, confidence, facts, advice_en, advice_zh)
ON CONFLICT (rule_set, company_id, account_id, cause) DO UPDATE SET as_of = excluded.as_of, confidence = excluded.confidence,
    facts = excluded.facts, advice_en = excluded.advice_en, advice_zh = excluded.advice_zh, computed_at = excluded.computed_at
WHERE (held.as_of, held.confidence, held.facts, held.advice_en, held.advice_zh)
    IS DISTINCT FROM (excluded.as_of, excluded.confidence, excluded.facts, excluded.advice_en, excluded.advice_zh)

-- name: forget
-- What was found before and is not any more, and what rule sets said that do not count now.
DELETE FROM ledger.diagnoses d
WHERE d.company_id = ANY (%(companies)s) AND (
    NOT d.rule_set = ANY (%(active)s)
    OR d.rule_set = %(rule_set)s AND NOT EXISTS (
        SELECT FROM unnest(%(company_ids)s::text[], %(account_ids)s::text[], %(causes)s::text[]) n (company_id, account_id, cause)
        WHERE n.company_id = d.company_id AND n.account_id = d.account_id AND n.cause = d.cause
    )
)
