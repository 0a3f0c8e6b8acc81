-- name: companies
-- Companies with facts, in order.
SELECT DISTINCT company_id FROM ledger.inquiries
WHERE received_at IS NOT NULL AND (%(company_id)s::text IS NULL OR company_id = %(company_id)s) ORDER BY company_id

-- name: keep_a
-- What the first rule set says.
CREATE TEMPORARY TABLE judged_a AS SELECT * FROM judged WHERE as_of IS NULL;
CREATE TEMPORARY TABLE counted_a AS SELECT * FROM counted

-- name: keep_b
-- What the second one says.
CREATE TEMPORARY TABLE judged_b AS SELECT * FROM judged WHERE as_of IS NULL;
CREATE TEMPORARY TABLE counted_b AS SELECT * FROM counted

-- name: rates
-- Today's rows by both, of companies and accounts.
SELECT company_id, nullif(account_id, '') AS account_id, a.rate AS rate_a, b.rate AS rate_b,
    coalesce(a.counted, 0) AS counted_a, coalesce(b.counted, 0) AS counted_b,
    coalesce(a.unmeasured, 0) AS unmeasured_a, coalesce(b.unmeasured, 0) AS unmeasured_b
FROM counted_a a FULL JOIN counted_b b USING (company_id, level, account_id)
ORDER BY company_id, level DESC, account_id

-- name: outcomes
-- Inquiries that count differently: another outcome, another account or day, another unit, or in today's window of one only.
SELECT company_id, inquiry_id, a.received_at, a.outcome AS outcome_a, a.reason AS reason_a, a.account_id AS account_a,
    a.unit_day AS day_a, a.unit_day BETWEEN wa.window_start AND wa.window_end AS in_window_a, b.outcome AS outcome_b,
    b.reason AS reason_b, b.account_id AS account_b, b.unit_day AS day_b,
    b.unit_day BETWEEN wb.window_start AND wb.window_end AS in_window_b
FROM judged_a a JOIN judged_b b USING (company_id, inquiry_id)
JOIN counted_a wa USING (company_id) JOIN counted_b wb USING (company_id)
WHERE wa.level = 'company' AND wb.level = 'company'
    AND (a.outcome, a.reason, a.account_id, a.unit_inquiry_id, a.unit_day BETWEEN wa.window_start AND wa.window_end)
        IS DISTINCT FROM (b.outcome, b.reason, b.account_id, b.unit_inquiry_id, b.unit_day BETWEEN wb.window_start AND wb.window_end)
ORDER BY company_id, a.received_at, inquiry_id
