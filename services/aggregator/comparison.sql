-- name: companies
-- Companies with facts, in order.
SELECT DISTINCT company_id FROM ledger.inquiries
WHERE received_at IS NOT NULL AND (%(company_id)s::text IS NULL OR company_id = %(company_id)s) ORDER BY company_id

-- name: clock
-- The database's now.
SELECT clock_timestamp() AS now

-- name: keep_a
-- What the first rule set says.
CREATE TEMPORARY TABLE judged_a AS SELECT * FROM judged WHERE as_of IS NULL;
CREATE TEMPORARY TABLE counted_a AS SELECT * FROM counted WHERE level = 'company'

-- name: keep_b
-- What the second one says.
CREATE TEMPORARY TABLE judged_b AS SELECT * FROM judged WHERE as_of IS NULL;
CREATE TEMPORARY TABLE counted_b AS SELECT * FROM counted WHERE level = 'company'

-- name: rates
-- Today's row by both.
SELECT c.company_id, a.rate AS rate_a, b.rate AS rate_b, coalesce(a.counted, 0) AS counted_a, coalesce(b.counted, 0) AS counted_b,
    coalesce(a.unmeasured, 0) AS unmeasured_a, coalesce(b.unmeasured, 0) AS unmeasured_b
FROM unnest(%(companies)s::text[]) c (company_id)
LEFT JOIN counted_a a USING (company_id) LEFT JOIN counted_b b USING (company_id)
ORDER BY c.company_id COLLATE "C"

-- name: outcomes
-- Inquiries whose outcomes differ.
SELECT company_id, inquiry_id, a.received_at, a.outcome AS outcome_a, a.reason AS reason_a, b.outcome AS outcome_b, b.reason AS reason_b
FROM judged_a a JOIN judged_b b USING (company_id, inquiry_id)
WHERE (a.outcome, a.reason) IS DISTINCT FROM (b.outcome, b.reason)
ORDER BY company_id, a.received_at, inquiry_id
