-- All days of each company, with what makes the number credible: the target and up to when it is complete.
SELECT week.rule_set, rules.title, rules.target_seconds, week.company_id, sum(week.inquiries)::bigint AS inquiries,
    sum(week.counted)::bigint AS counted, sum(week.timely)::bigint AS timely, sum(week.unmeasured)::bigint AS unmeasured,
    sum(week.timely)::numeric / nullif(sum(week.counted), 0) AS reply_rate, fresh.read_through, fresh.newest_final_as_of
FROM {{ ref('reply_rate_by_week') }} AS week
JOIN {{ source('report_v1', 'rule_sets') }} AS rules USING (rule_set)
LEFT JOIN {{ source('report_v1', 'freshness') }} AS fresh USING (company_id)
GROUP BY week.rule_set, rules.title, rules.target_seconds, week.company_id, fresh.read_through, fresh.newest_final_as_of
