-- by hand
-- name: companies
-- The newest rates of every company, under each rule set.
SELECT * FROM report_v1.reply_rate_latest WHERE level = 'company' ORDER BY company_id

-- name: histogram
-- How many units were answered within each hour, over all companies.
SELECT bucket, label, sum(answered)::bigint AS answered
FROM report_v1.reply_time_histogram JOIN report_v1.reply_rate_latest USING (rule_set, level, company_id, as_of)
WHERE rule_set = 'default' AND level = 'company' GROUP BY bucket, label ORDER BY bucket

-- name: stories
-- The figures behind each rate: mailboxes, addresses, mail that was seen, replies that were matched.
SELECT c.company_id,
    (SELECT count(*) FROM report_v1.mailbox_health h WHERE h.company_id = c.company_id) AS mailboxes,
    (SELECT string_agg(DISTINCT h.state || coalesce(' (' || h.state_reason || ')', ''), ', ')
        FROM report_v1.mailbox_health h WHERE h.company_id = c.company_id) AS mailbox_states,
    (SELECT string_agg(a.role || CASE WHEN EXISTS (
            SELECT FROM registry.mailboxes m WHERE m.company_id = a.company_id AND m.account_id = a.account_id
                AND m.role = a.role AND m.address_hash = a.address_hash AND m.state = 'active'
        ) THEN ' connected' ELSE ' not connected' END, ', ' ORDER BY a.role DESC)
        FROM registry.addresses a WHERE a.company_id = c.company_id) AS addresses,
    (SELECT jsonb_object_agg(k.kind, k.messages) FROM (
        SELECT kind, sum(messages) AS messages FROM registry.message_counts m
        WHERE m.company_id = c.company_id GROUP BY kind) k) AS seen,
    (SELECT count(DISTINCT r.reply_id) FROM ledger.replies r
        WHERE r.company_id = c.company_id AND r.source = 'mail') AS matched,
    (SELECT count(DISTINCT r.reply_id) FROM ledger.replies r
        WHERE r.company_id = c.company_id AND r.source = 'platform') AS platform_replies,
    (SELECT max(h.complete_through) FROM report_v1.mailbox_health h WHERE h.company_id = c.company_id) AS complete_through,
    (SELECT min(synced_by_platform_from) FROM registry.accounts a WHERE a.company_id = c.company_id) AS synced_from,
    (SELECT rate FROM report_v1.reply_rate_latest l
        WHERE l.company_id = c.company_id AND l.level = 'company' AND l.rule_set = 'default') AS rate
FROM registry.companies c ORDER BY c.company_id
