-- by hand
-- name: rates
-- The newest rates of a company and its accounts.
SELECT rule_set, account_id, as_of, window_start, window_end, rate FROM report_v1.reply_rate_latest
WHERE company_id = %(company)s

-- name: backdating
-- Messages of each mailbox, how many have a time in doubt, and when those were sent.
SELECT m.account_id, c.mailbox_id, sum(c.messages)::bigint AS messages, sum(c.suspect)::bigint AS suspect,
    min(c.day) FILTER (WHERE c.suspect > 0) AS first_suspect_on, max(c.day) FILTER (WHERE c.suspect > 0) AS last_suspect_on
FROM registry.message_counts c JOIN registry.mailboxes m USING (company_id, mailbox_id)
WHERE c.company_id = %(company)s AND (%(account)s::text IS NULL OR m.account_id = %(account)s)
GROUP BY m.account_id, c.mailbox_id ORDER BY m.account_id, c.mailbox_id
