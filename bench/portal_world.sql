-- name: companies
-- Companies of the registry and of the ledger.
INSERT INTO registry.companies (company_id) SELECT 'company-' || company FROM generate_series(0, %(companies)s - 1) company

-- name: accounts
-- A main account and sub-accounts for each company.
INSERT INTO registry.accounts (company_id, account_id, kind)
SELECT company_id, 'account-' || account, CASE account WHEN 0 THEN 'main' ELSE 'sub' END
FROM registry.companies, generate_series(0, %(accounts)s - 1) account

-- name: mailboxes
-- A mailbox for each account; one in 50 needs its owner, one in 20 failed when it was last read.
INSERT INTO registry.mailboxes (company_id, mailbox_id, account_id, role, state, state_reason, address_masked, address_hash, host, port,
    login_hash, consent_by, consent_at, consent_text_version, connected_at, next_poll_at, last_success_at, last_attempt_at,
    complete_from, complete_through, failures)
SELECT company_id, 'mailbox-' || number, account_id, 'registered', CASE WHEN number %% 50 = 0 THEN 'needs_reconnect' ELSE 'active' END,
    CASE WHEN number %% 50 = 0 THEN 'password-refused' END, 'a***@mail.test', 'hash-' || number,
    (ARRAY['imap.qq.com', 'imap.exmail.qq.com', 'imap.163.com', 'outlook.office365.com', 'imap.gmail.com'])[number %% 5 + 1], 993,
    'login-' || number, 'bench', now(), '1', now() - interval '90 days', now() + number %% 600 * interval '1 second',
    now() - number %% 600 * interval '1 second', now() - number %% 600 * interval '1 second', now() - interval '90 days',
    now() - number %% 600 * interval '1 second', (number %% 20 = 0)::integer
FROM (SELECT company_id, account_id, row_number() OVER (ORDER BY company_id, account_id) AS number FROM registry.accounts) account

-- name: mailbox_history
-- How each mailbox came to its state.
INSERT INTO registry.mailbox_history (company_id, mailbox_id, to_state, changed_by)
SELECT company_id, mailbox_id, state, 'bench' FROM registry.mailboxes, generate_series(1, 5)

-- name: coverage
-- What each mailbox is complete for: the last rows of every day that later ones supersede, and the one in force.
INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at, through_at, recorded_at, superseded_at)
SELECT company_id, account_id, mailbox_id, connected_at, complete_from, complete_through - day * interval '1 day',
    complete_through - day * interval '1 day', CASE WHEN day > 0 THEN complete_through - (day - 1) * interval '1 day' END
FROM registry.mailboxes, generate_series(0, %(days)s - 1) day

-- name: counts
-- What triggers would have counted one by one.
INSERT INTO registry.mailbox_counts (state, change) SELECT state, count(*) FROM registry.mailboxes GROUP BY state

-- name: inquiries
-- Few companies have most inquiries: of 2,000 companies the largest has 15,000 of a million, half have fewer than 360. A buyer
-- asks three times.
INSERT INTO ledger.inquiries (company_id, inquiry_id, account_id, received_at, facts_id, buyer_id, buyer_region, channel, buyer_addresses)
SELECT 'company-' || (%(companies)s * power(chance, 2))::integer %% %(companies)s, 'inquiry-' || inquiry,
    'account-' || (%(accounts)s * power(abs(hashint4(inquiry + 1)::float8) / 2147483648, 2))::integer %% %(accounts)s,
    now() - inquiry * make_interval(days => %(days)s) / %(inquiries)s, md5(inquiry::text), 'buyer-' || inquiry / 3,
    'US', 'inquiry', ARRAY[md5('buyer-' || inquiry / 3)]
FROM (
    SELECT inquiry, abs(hashint4(inquiry / 3)::float8) / 2147483648 AS chance FROM generate_series(1, %(inquiries)s) inquiry
) drawn

-- name: statuses
-- The platform says of each inquiry that it was read.
INSERT INTO ledger.statuses (company_id, inquiry_id, status, at)
SELECT company_id, inquiry_id, 'read', received_at + interval '5 minutes' FROM ledger.inquiries WHERE hashtext(inquiry_id) %% 2 = 0

-- name: replies
-- Seven inquiries of ten are answered, some of them too late.
INSERT INTO ledger.replies (company_id, inquiry_id, reply_id, source, account_id, mailbox_id, replied_at, evidence, kind, matched_by)
SELECT inquiry.company_id, inquiry.inquiry_id, md5(inquiry.inquiry_id), 'mail', inquiry.account_id, mailbox.mailbox_id,
    inquiry.received_at + make_interval(secs => 600 + abs(hashtext(inquiry.inquiry_id)::bigint) %% 150000), 'verified', 'human',
    'buyer-address'
FROM ledger.inquiries inquiry JOIN registry.mailboxes mailbox USING (company_id, account_id)
WHERE abs(hashtext(inquiry.inquiry_id)::bigint) %% 10 < 7
    AND inquiry.received_at + make_interval(secs => 600 + abs(hashtext(inquiry.inquiry_id)::bigint) %% 150000) < now()

-- name: ledger_companies
-- Each is judged up to now.
INSERT INTO ledger.companies (company_id, judged_at, due_at, partition, diagnosed_at)
SELECT company_id, now(), now() + interval '1 hour', row_number() OVER () %% 12, now() FROM registry.companies

-- name: pipeline
-- Everything that was published has been counted.
INSERT INTO ledger.pipeline (partition, passed_at) SELECT partition, clock_timestamp() + interval '1 day' FROM generate_series(0, 11) partition

-- name: outcomes
-- What became of each inquiry, as the rule set `default` would judge it for inquiries that share no unit.
INSERT INTO ledger.outcomes (rule_set, company_id, inquiry_id, rule_version, account_id, buyer_id, unit_day, unit_inquiry_id, received_at,
    first_reply_at, reply_seconds, outcome, reply_source, matched_by, mailbox_id, evidence, covered, due_at, state, changed_at, owner, own_day)
SELECT %(rule_set)s, company_id, inquiry_id, %(identity)s, account_id, buyer_id, received_at::date, inquiry_id, received_at, replied_at,
    extract(epoch FROM replied_at - received_at),
    CASE WHEN replied_at <= received_at + interval '24 hours' THEN 'timely' WHEN replied_at IS NOT NULL THEN 'late'
        WHEN received_at > now() - interval '24 hours' THEN 'pending' ELSE 'unanswered' END,
    reply.source, reply.matched_by, reply.mailbox_id, reply.evidence, true, received_at + interval '24 hours',
    CASE WHEN received_at > now() - interval '5 days' THEN 'provisional' ELSE 'final' END, now(), account_id, received_at::date
FROM ledger.inquiries inquiry LEFT JOIN (
    SELECT company_id, inquiry_id, source, matched_by, mailbox_id, evidence, replied_at FROM ledger.replies
) reply USING (company_id, inquiry_id)

-- name: outcome_history
-- One outcome in ten was another before.
INSERT INTO ledger.outcome_history (rule_set, company_id, inquiry_id, revision, rule_version, account_id, outcome, state, changed_at)
SELECT rule_set, company_id, inquiry_id, 0, rule_version, account_id, 'pending', state, received_at FROM ledger.outcomes
WHERE hashtext(inquiry_id) %% 10 = 0

-- name: settled
-- The last settled day of each company.
INSERT INTO ledger.settled SELECT %(rule_set)s, company_id, %(identity)s, current_date - 5 FROM registry.companies

-- name: daily
-- Counts of units by day, company and account.
CREATE TEMPORARY TABLE daily AS
SELECT CASE WHEN GROUPING(account_id) = 1 THEN 'company' ELSE 'account' END AS level, company_id, coalesce(account_id, '') AS account_id,
    unit_day, count(*) AS inquiries, count(*) FILTER (WHERE outcome = 'timely') AS timely, count(*) FILTER (WHERE outcome = 'late') AS late,
    count(*) FILTER (WHERE outcome = 'unanswered') AS unanswered, count(*) FILTER (WHERE outcome = 'pending') AS pending,
    avg(reply_seconds)::float8 AS mean_seconds
FROM ledger.outcomes GROUP BY GROUPING SETS ((company_id, unit_day), (company_id, account_id, unit_day))

-- name: rates
-- A row for each of the last days, company and account, over the 30 days before it; one in ten was another before.
INSERT INTO ledger.rates (rule_set, rule_version, level, company_id, account_id, as_of, window_start, window_end, inquiries,
    excluded, counted, timely, late, unanswered, unmeasured, pending, rate, mean_seconds, median_seconds, p90_seconds, p95_seconds,
    rate_shown, coverage, state, computed_at, valid_from, valid_to, buckets)
SELECT %(rule_set)s, %(identity)s, level, company_id, account_id, as_of, as_of - 34, as_of - 5, inquiries, 0, inquiries - pending,
    timely, late, unanswered, 0, pending, rate, mean_seconds, mean_seconds, mean_seconds, mean_seconds, rate, 1,
    CASE WHEN as_of < current_date THEN 'final' ELSE 'provisional' END, now(), now() - revision * interval '1 day',
    CASE WHEN revision > 0 THEN now() END, array_fill((timely / 25)::integer, ARRAY[25])
FROM (
    SELECT level, company_id, account_id, as_of, inquiries, timely, late, unanswered, pending, mean_seconds,
        round(100.0 * timely / nullif(inquiries - pending, 0), 1) AS rate
    FROM (
        SELECT day.level, day.company_id, day.account_id, current_date - back AS as_of, sum(inquiries) AS inquiries, sum(timely) AS timely,
            sum(late) AS late, sum(unanswered) AS unanswered, sum(pending) AS pending, avg(mean_seconds) AS mean_seconds
        FROM generate_series(0, %(days)s - 1) back
        JOIN daily day ON day.unit_day BETWEEN current_date - back - 34 AND current_date - back - 5
        GROUP BY day.level, day.company_id, day.account_id, back
    ) summed
) rate CROSS JOIN LATERAL generate_series(0, CASE WHEN hashtext(company_id || account_id || as_of) %% 10 = 0 THEN 1 ELSE 0 END) revision

-- name: corrections
-- What has changed in final rows.
INSERT INTO ledger.corrections (rule_set, rule_version, level, company_id, account_id, as_of, column_name, old_value, new_value, cause, changed_at)
SELECT rule_set, rule_version, level, company_id, account_id, as_of, column_name, '1', '2', 'late-fact', valid_from
FROM ledger.rates CROSS JOIN unnest(ARRAY['rate', 'timely', 'unanswered']) column_name WHERE valid_to IS NOT NULL

-- name: diagnoses
-- Two causes for one company in twenty.
INSERT INTO ledger.diagnoses (rule_set, company_id, account_id, cause, as_of, confidence, facts, advice_en, advice_zh, computed_at)
SELECT %(rule_set)s, company_id, account_id, cause, current_date, 'medium', '{}', 'Look at the mailbox.', '请查看邮箱。', now()
FROM registry.accounts CROSS JOIN unnest(%(causes)s::text[]) cause WHERE hashtext(company_id) %% 20 = 0
