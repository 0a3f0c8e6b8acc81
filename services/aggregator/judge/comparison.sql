-- by hand
-- name: companies
-- Companies with facts, in order.
SELECT DISTINCT company_id FROM ledger.inquiries
WHERE received_at IS NOT NULL AND (%(company_id)s::text IS NULL OR company_id = %(company_id)s) ORDER BY company_id

-- name: save_a
-- Results of the first rule set.
CREATE TEMPORARY TABLE judged_a AS SELECT * FROM judged WHERE is_current;
CREATE TEMPORARY TABLE counted_a AS SELECT * FROM counted

-- name: save_b
-- Results of the second rule set.
CREATE TEMPORARY TABLE judged_b AS SELECT * FROM judged WHERE is_current;
CREATE TEMPORARY TABLE counted_b AS SELECT * FROM counted

-- name: rates
-- Today's rows by both rule sets, of companies and accounts.
SELECT company_id, nullif(account_id, '') AS account_id, a.rate AS rate_a, b.rate AS rate_b,
    a.rate_shown AS rate_shown_a, b.rate_shown AS rate_shown_b,
    coalesce(a.counted, 0) AS counted_a, coalesce(b.counted, 0) AS counted_b,
    coalesce(a.unmeasured, 0) AS unmeasured_a, coalesce(b.unmeasured, 0) AS unmeasured_b
FROM counted_a a FULL JOIN counted_b b USING (company_id, level, account_id)
ORDER BY company_id, level DESC, account_id

-- name: outcomes
-- Inquiries that count differently: another outcome, account, day or unit, or in today's window of only one rule set.
SELECT company_id, inquiry_id, a.received_at, a.outcome AS outcome_a, a.reason AS reason_a, a.account_id AS account_a,
    a.unit_inquiry_id AS unit_a, a.unit_day AS day_a, a.unit_day BETWEEN rate_a.window_start AND rate_a.window_end AS in_window_a,
    b.outcome AS outcome_b, b.reason AS reason_b, b.account_id AS account_b, b.unit_inquiry_id AS unit_b, b.unit_day AS day_b,
    b.unit_day BETWEEN rate_b.window_start AND rate_b.window_end AS in_window_b
FROM judged_a a JOIN judged_b b USING (company_id, inquiry_id)
JOIN counted_a rate_a USING (company_id) JOIN counted_b rate_b USING (company_id)
WHERE rate_a.level = 'company' AND rate_b.level = 'company'
    AND (a.outcome, a.reason, a.account_id, a.unit_inquiry_id, a.unit_day BETWEEN rate_a.window_start AND rate_a.window_end)
        IS DISTINCT FROM (b.outcome, b.reason, b.account_id, b.unit_inquiry_id, b.unit_day BETWEEN rate_b.window_start AND rate_b.window_end)
ORDER BY company_id, a.received_at, inquiry_id
