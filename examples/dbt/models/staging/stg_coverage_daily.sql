SELECT company_id, account_id, mailbox_id, day, expected_seconds, covered_seconds, waiting_seconds, gap_seconds, gaps
FROM {{ source('report_v1', 'coverage_daily') }}
