-- One level only: rows of companies and rows of accounts are the same inquiries twice.
SELECT rule_set, company_id, account_id, day, inquiries, excluded, counted, timely, late, unanswered, unmeasured, pending, state
FROM {{ source('report_v1', 'reply_daily') }}
WHERE level = 'account'
