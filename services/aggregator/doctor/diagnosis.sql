-- name: store
-- The findings of now; computed_at moves only where something changed.
INSERT INTO ledger.diagnoses AS stored
    (rule_set, company_id, account_id, cause, as_of, confidence, facts, advice_en, advice_zh, computed_at)
SELECT %(rule_set)s, finding.company_id, finding.account_id, finding.cause, finding.as_of, finding.confidence, finding.facts,
    finding.advice_en, finding.advice_zh, %(now)s
FROM unnest(%(company_ids)s::text[], %(account_ids)s::text[], %(causes)s::text[], %(as_ofs)s::date[], %(confidences)s::text[],
    %(facts)s::jsonb[], %(advices_en)s::text[], %(advices_zh)s::text[])
    finding (company_id, account_id, cause, as_of, confidence, facts, advice_en, advice_zh)
ON CONFLICT (rule_set, company_id, account_id, cause) DO UPDATE SET as_of = excluded.as_of, confidence = excluded.confidence,
    facts = excluded.facts, advice_en = excluded.advice_en, advice_zh = excluded.advice_zh, computed_at = excluded.computed_at
WHERE (stored.as_of, stored.confidence, stored.facts, stored.advice_en, stored.advice_zh)
    IS DISTINCT FROM (excluded.as_of, excluded.confidence, excluded.facts, excluded.advice_en, excluded.advice_zh)

-- name: delete_outdated
-- Causes that are not found any more, and those of inactive rule sets.
DELETE FROM ledger.diagnoses stored
WHERE stored.company_id = ANY (%(companies)s) AND (
    NOT stored.rule_set = ANY (%(active)s)
    OR stored.rule_set = %(rule_set)s AND NOT EXISTS (
        SELECT FROM unnest(%(company_ids)s::text[], %(account_ids)s::text[], %(causes)s::text[])
            finding (company_id, account_id, cause)
        WHERE finding.company_id = stored.company_id AND finding.account_id = stored.account_id AND finding.cause = stored.cause
    )
)
