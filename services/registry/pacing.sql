-- name: facts
-- When mailboxes were last active (the end of the last day with mail in them), and the next open deadlines of their accounts.
SELECT clock_timestamp() AS now,
    (SELECT max(day) + 1 FROM registry.message_counts counted
        WHERE counted.company_id = mailbox.company_id AND counted.mailbox_id = mailbox.mailbox_id)::timestamptz AS active_at,
    (SELECT min(due_at) FROM report_v1.due_soon
        WHERE rule_set = 'default' AND due_soon.company_id = mailbox.company_id AND due_soon.account_id = mailbox.account_id
            AND due_at > statement_timestamp()) AS due_at
FROM unnest(%(company_ids)s::text[], %(mailbox_ids)s::text[], %(account_ids)s::text[])
    WITH ORDINALITY mailbox (company_id, mailbox_id, account_id, place)
ORDER BY mailbox.place

-- name: before_deadline
-- Mailboxes whose next poll would come after an open deadline of their account, or too shortly before it; the nearest
-- deadline first. Only deadlines that became known lately (`new_seconds`): a poll that is planned later takes them into
-- account (`facts`). Mailboxes that are being read or that wait after a failure are left out.
WITH deadline AS MATERIALIZED (
    SELECT company_id, account_id, min(due_at) AS due_at FROM registry.open_deadlines
    WHERE rule_set = 'default' AND changed_at > statement_timestamp() - make_interval(secs => %(new_seconds)s)
        AND due_at > statement_timestamp() AND due_at <= statement_timestamp() + make_interval(secs => %(within_seconds)s)
    GROUP BY company_id, account_id
)
SELECT m.company_id, m.mailbox_id, m.host, m.last_attempt_at, m.next_poll_at, deadline.due_at, clock_timestamp() AS now
FROM deadline JOIN registry.mailboxes m USING (company_id, account_id)
WHERE m.state = 'active' AND m.failures = 0 AND m.next_poll_at > statement_timestamp()
    AND m.next_poll_at > deadline.due_at - make_interval(secs => %(lead_seconds)s)
    AND (m.lease_until IS NULL OR m.lease_until < statement_timestamp())
ORDER BY deadline.due_at, m.company_id, m.mailbox_id LIMIT %(most)s

-- name: advance
-- Advances polls; mailboxes that were leased, failed or advanced further in the meantime are left alone.
UPDATE registry.mailboxes m SET next_poll_at = new.poll_at
FROM unnest(%(company_ids)s::text[], %(mailbox_ids)s::text[], %(instants)s::timestamptz[]) new (company_id, mailbox_id, poll_at)
WHERE m.company_id = new.company_id AND m.mailbox_id = new.mailbox_id AND m.state = 'active' AND m.failures = 0
    AND m.next_poll_at > new.poll_at AND (m.lease_until IS NULL OR m.lease_until < clock_timestamp())
RETURNING m.mailbox_id
