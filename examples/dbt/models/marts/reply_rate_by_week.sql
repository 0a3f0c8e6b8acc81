-- Weeks begin on Monday, in the time zone of the rule set. Counts are added up before they are divided; null: nothing was counted.
SELECT rule_set, company_id, date_trunc('week', day)::date AS week, sum(inquiries)::bigint AS inquiries, sum(counted)::bigint AS counted,
    sum(timely)::bigint AS timely, sum(late)::bigint AS late, sum(unanswered)::bigint AS unanswered,
    sum(unmeasured)::bigint AS unmeasured, sum(pending)::bigint AS pending,
    sum(timely)::numeric / nullif(sum(counted), 0) AS reply_rate, bool_and(state = 'final') AS is_final
FROM {{ ref('stg_reply_daily') }}
WHERE rule_set = '{{ var("rule_set") }}'
GROUP BY rule_set, company_id, week
