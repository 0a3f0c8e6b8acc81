-- migrate:up
-- additive: yes

-- What dashboards need beside the numbers: names and targets of rule sets, accounts, up to when numbers are complete, and for which
-- time mailboxes are (docs/decisions/0094). Conditions on company_id reach the indexes of every table below.

CREATE VIEW report_v1.rule_sets AS
SELECT name AS rule_set, identity AS rule_version, split_part(identity, '+', 2) COLLATE "C" AS content_hash, active, activated_at,
    parameters ->> 'title' AS title, parameters ->> 'source' AS source, parameters ->> 'time_zone' AS time_zone,
    coalesce(parameters ->> 'calendar', 'always') AS calendar, (parameters ->> 'target_seconds')::bigint AS target_seconds,
    (parameters ->> 'window_days')::integer AS window_days, (parameters ->> 'settle_days')::integer AS settle_days,
    (parameters ->> 'max_settle_days')::integer AS max_settle_days, parameters ->> 'unit' AS unit,
    coalesce(parameters ->> 'period_by', 'receipt') AS period_by, coalesce((parameters ->> 'min_coverage')::numeric, 0) AS min_coverage,
    parameters
FROM ledger.rule_sets;

-- An account of reply_rate may be one that only a reply or a status names, so the accounts that have rows there are listed, too.
CREATE VIEW report_v1.accounts AS
SELECT company_id, account_id, max(kind) COLLATE "C" AS kind, max(registered_at) AS registered_at,
    max(synced_by_platform_from) AS synced_by_platform_from,
    count(*) FILTER (WHERE state <> 'removed') AS mailboxes,
    count(*) FILTER (WHERE state = 'active') AS mailboxes_active,
    count(*) FILTER (WHERE state = 'pending_test') AS mailboxes_pending_test,
    count(*) FILTER (WHERE state = 'needs_reconnect') AS mailboxes_needs_reconnect,
    count(*) FILTER (WHERE state = 'paused') AS mailboxes_paused,
    count(*) FILTER (WHERE state = 'refused') AS mailboxes_refused,
    count(*) FILTER (WHERE state = 'synced_by_platform') AS mailboxes_synced_by_platform,
    count(*) FILTER (WHERE state = 'removed') AS mailboxes_removed,
    count(received_at) AS inquiries, min(received_at) AS first_inquiry_at, max(received_at) AS newest_inquiry_at
FROM (
    SELECT company_id, account_id, kind, created_at AS registered_at, synced_by_platform_from, NULL::text AS state,
        NULL::timestamptz AS received_at
    FROM registry.accounts
    UNION ALL
    SELECT company_id, account_id, NULL, NULL, NULL, state, NULL FROM registry.mailboxes
    UNION ALL
    SELECT company_id, account_id, NULL, NULL, NULL, NULL, received_at FROM ledger.inquiries
    WHERE account_id IS NOT NULL AND received_at IS NOT NULL
    UNION ALL
    SELECT company_id, account_id, NULL, NULL, NULL, NULL, NULL FROM ledger.rates WHERE account_id <> '' AND valid_to IS NULL
    UNION ALL
    SELECT company_id, account_id, NULL, NULL, NULL, NULL, NULL FROM ledger.rate_ranges WHERE account_id <> '' AND valid_to IS NULL
) mention
GROUP BY company_id, account_id;

CREATE VIEW report_v1.freshness AS
SELECT company.company_id,
    (SELECT max(inquiry.received_at) FROM ledger.inquiries inquiry
        WHERE inquiry.company_id = company.company_id AND inquiry.received_at <= statement_timestamp()) AS newest_inquiry_at,
    mailbox.last_read_at, mailbox.read_through,
    (SELECT max(counted.day) FROM registry.message_counts counted WHERE counted.company_id = company.company_id) AS newest_message_day,
    judged.counted_through,
    floor(extract(epoch FROM statement_timestamp() - judged.counted_through))::bigint AS pipeline_age_seconds,
    least((SELECT min(dirty.since) FROM ledger.dirty dirty WHERE dirty.company_id = company.company_id),
        CASE WHEN judged.due_at <= statement_timestamp() THEN judged.due_at END) AS waiting_since,
    judged.judged_at, newest.as_of AS newest_as_of, newest.final_as_of AS newest_final_as_of
FROM (SELECT company_id FROM registry.companies UNION SELECT company_id FROM ledger.companies) company
LEFT JOIN LATERAL (
    SELECT stored.judged_at, stored.due_at, coalesce(
        (SELECT pipeline.passed_at FROM ledger.pipeline pipeline WHERE pipeline.partition = stored.partition),
        (SELECT min(pipeline.passed_at) FROM ledger.pipeline pipeline)) AS counted_through
    FROM ledger.companies stored WHERE stored.company_id = company.company_id
) judged ON true
CROSS JOIN LATERAL (
    SELECT max(stored.last_success_at) AS last_read_at, CASE WHEN bool_and(stored.complete_through IS NOT NULL)
        FILTER (WHERE stored.state IN ('active', 'needs_reconnect'))
        THEN min(stored.complete_through) FILTER (WHERE stored.state IN ('active', 'needs_reconnect')) END AS read_through
    FROM registry.mailboxes stored WHERE stored.company_id = company.company_id
) mailbox
CROSS JOIN LATERAL (
    SELECT min(rate.as_of) AS as_of, min(rate.final_as_of) AS final_as_of FROM ledger.rule_sets rules
    CROSS JOIN LATERAL (
        SELECT max(day.as_of) AS as_of, max(day.as_of) FILTER (WHERE day.state = 'final') AS final_as_of FROM ledger.rate_last_days day
        WHERE day.company_id = company.company_id AND day.rule_set = rules.name AND day.account_id = '' AND day.level = 'company'
    ) rate
    WHERE rules.active
) newest;

-- Of the coverage of a mailbox the rows that no later row supersedes: a few for each connection (docs/decisions/0054). What the
-- platform syncs is complete without being read. A connection is expected to be complete from where its reading began, or from its
-- start, until it was removed, or until now. Whole seconds, so that sums are exact.
CREATE VIEW report_v1.coverage_daily AS
SELECT mailbox.company_id, mailbox.account_id, mailbox.mailbox_id, calendar.day::date AS day,
    seconds.expected AS expected_seconds, seconds.covered AS covered_seconds, seconds.waiting AS waiting_seconds,
    seconds.expected - seconds.covered - seconds.waiting AS gap_seconds,
    CASE WHEN of_day.is_covered THEN 0 ELSE (SELECT count(*) FROM unnest(part.expected - part.covered - part.waiting)) END AS gaps,
    round(seconds.covered::numeric / seconds.expected, 6) AS covered_share
FROM (
    SELECT company_id, account_id, mailbox_id, range_agg(expected) AS expected,
        coalesce(range_agg(CASE WHEN mailbox_id IS NULL THEN tstzmultirange(expected) ELSE complete END), '{}') AS complete
    FROM (
        SELECT company_id, account_id, mailbox_id,
            tstzrange(least(min(from_at), connected_at),
                greatest(least(min(from_at), connected_at), coalesce(max(removed_at), date_trunc('second', statement_timestamp())))) AS expected,
            range_agg(tstzrange(from_at, through_at)) FILTER (WHERE from_at IS NOT NULL AND through_at IS NOT NULL) AS complete
        FROM (
            SELECT company_id, account_id, mailbox_id, date_trunc('second', connected_at) AS connected_at,
                date_trunc('second', removed_at) AS removed_at, date_trunc('second', from_at) AS from_at,
                date_trunc('second', through_at) AS through_at
            FROM registry.coverage WHERE coalesce(superseded_at, 'infinity') = 'infinity'
        ) stored
        GROUP BY company_id, account_id, mailbox_id, connected_at
    ) connection
    GROUP BY company_id, account_id, mailbox_id
) mailbox
CROSS JOIN LATERAL generate_series(
    date_trunc('day', greatest(lower(mailbox.expected), statement_timestamp() - interval '99 days') AT TIME ZONE 'UTC'),
    least(upper(mailbox.expected), statement_timestamp()) AT TIME ZONE 'UTC', interval '1 day') calendar (day)
-- OFFSET 0 keeps a subquery from being copied into each expression that names its columns. Most days are covered as a whole, and need no pieces.
CROSS JOIN LATERAL (
    SELECT span, mailbox.expected @> span AND mailbox.complete @> span AS is_covered
    FROM (
        SELECT tstzrange(calendar.day AT TIME ZONE 'UTC',
            least((calendar.day + interval '1 day') AT TIME ZONE 'UTC', date_trunc('second', statement_timestamp()))) AS span OFFSET 0
    ) spans
    OFFSET 0
) of_day
CROSS JOIN LATERAL (
    SELECT expected, expected * mailbox.complete AS covered, expected * tstzmultirange(tstzrange(upper(mailbox.complete), NULL)) AS waiting
    FROM (SELECT CASE WHEN NOT of_day.is_covered THEN mailbox.expected * tstzmultirange(of_day.span) END AS expected OFFSET 0) pieces
    OFFSET 0
) part
CROSS JOIN LATERAL (
    SELECT
        CASE WHEN of_day.is_covered THEN extract(epoch FROM upper(of_day.span) - lower(of_day.span))::bigint ELSE
            (SELECT coalesce(sum(extract(epoch FROM upper(piece) - lower(piece))), 0)::bigint FROM unnest(part.expected) piece) END AS expected,
        CASE WHEN of_day.is_covered THEN extract(epoch FROM upper(of_day.span) - lower(of_day.span))::bigint ELSE
            (SELECT coalesce(sum(extract(epoch FROM upper(piece) - lower(piece))), 0)::bigint FROM unnest(part.covered) piece) END AS covered,
        CASE WHEN of_day.is_covered THEN 0 ELSE
            (SELECT coalesce(sum(extract(epoch FROM upper(piece) - lower(piece))), 0)::bigint FROM unnest(part.waiting) piece) END AS waiting
    OFFSET 0
) seconds
WHERE seconds.expected > 0;

COMMENT ON VIEW report_v1.rule_sets IS 'Each rule set that is or was active, in the version that it has now.';
COMMENT ON COLUMN report_v1.rule_sets.rule_set IS 'Name of the rule set.';
COMMENT ON COLUMN report_v1.rule_sets.rule_version IS 'Number and content hash of the version, as in reply_rate.';
COMMENT ON COLUMN report_v1.rule_sets.content_hash IS 'Hash of the definition: two rule sets with the same hash give the same numbers.';
COMMENT ON COLUMN report_v1.rule_sets.active IS 'Whether its numbers are kept up to date; without, it has no row in reply_rate.';
COMMENT ON COLUMN report_v1.rule_sets.activated_at IS 'When this version was last activated.';
COMMENT ON COLUMN report_v1.rule_sets.title IS 'What to call it on a page, in English.';
COMMENT ON COLUMN report_v1.rule_sets.source IS 'Where the rules come from.';
COMMENT ON COLUMN report_v1.rule_sets.time_zone IS 'IANA time zone whose days it counts.';
COMMENT ON COLUMN report_v1.rule_sets.calendar IS 'Calendar of the target; always: every second counts.';
COMMENT ON COLUMN report_v1.rule_sets.target_seconds IS 'Longest time to a timely answer.';
COMMENT ON COLUMN report_v1.rule_sets.window_days IS 'Local days that a row of reply_rate counts.';
COMMENT ON COLUMN report_v1.rule_sets.settle_days IS 'Days after the end of a day until its inquiries count.';
COMMENT ON COLUMN report_v1.rule_sets.max_settle_days IS 'Days after which a day becomes final even if a mailbox lags.';
COMMENT ON COLUMN report_v1.rule_sets.unit IS 'each-inquiry, first-per-buyer-day or first-per-thread: what is counted once.';
COMMENT ON COLUMN report_v1.rule_sets.period_by IS 'receipt or deadline: which day an inquiry belongs to.';
COMMENT ON COLUMN report_v1.rule_sets.min_coverage IS 'Coverage below which no rate is shown.';
COMMENT ON COLUMN report_v1.rule_sets.parameters IS 'The complete definition; docs/rule-sets.md lists the keys.';
COMMENT ON VIEW report_v1.accounts IS 'Each account that is registered or has numbers, with its mailboxes by state and its inquiries.';
COMMENT ON COLUMN report_v1.accounts.company_id IS 'The seller.';
COMMENT ON COLUMN report_v1.accounts.account_id IS 'The (sub-)account.';
COMMENT ON COLUMN report_v1.accounts.kind IS 'main or sub; null when only facts name the account and it is not registered.';
COMMENT ON COLUMN report_v1.accounts.registered_at IS 'When it was registered; null when it is not.';
COMMENT ON COLUMN report_v1.accounts.synced_by_platform_from IS 'Since when it answers through the platform''s own mail; null when it does not.';
COMMENT ON COLUMN report_v1.accounts.mailboxes IS 'Mailboxes, without removed ones.';
COMMENT ON COLUMN report_v1.accounts.mailboxes_active IS 'Mailboxes that are read.';
COMMENT ON COLUMN report_v1.accounts.mailboxes_pending_test IS 'Mailboxes whose connection has not been tested successfully yet.';
COMMENT ON COLUMN report_v1.accounts.mailboxes_needs_reconnect IS 'Mailboxes that cannot be read until somebody connects them again.';
COMMENT ON COLUMN report_v1.accounts.mailboxes_paused IS 'Mailboxes whose reading is paused.';
COMMENT ON COLUMN report_v1.accounts.mailboxes_refused IS 'Mailboxes whose server cannot be used.';
COMMENT ON COLUMN report_v1.accounts.mailboxes_synced_by_platform IS 'Mailboxes that are not read because the platform syncs the account.';
COMMENT ON COLUMN report_v1.accounts.mailboxes_removed IS 'Mailboxes that were removed.';
COMMENT ON COLUMN report_v1.accounts.inquiries IS 'Known inquiries that the account received, also excluded ones.';
COMMENT ON COLUMN report_v1.accounts.first_inquiry_at IS 'Receipt of the first of them.';
COMMENT ON COLUMN report_v1.accounts.newest_inquiry_at IS 'Receipt of the newest of them.';
COMMENT ON VIEW report_v1.freshness IS 'Each company, and up to when its inquiries, mailboxes and numbers are known.';
COMMENT ON COLUMN report_v1.freshness.company_id IS 'The seller.';
COMMENT ON COLUMN report_v1.freshness.newest_inquiry_at IS 'Receipt of the newest known inquiry.';
COMMENT ON COLUMN report_v1.freshness.last_read_at IS 'When a poll of any of its mailboxes last ended well.';
COMMENT ON COLUMN report_v1.freshness.read_through IS 'Every message sent before is known, in every mailbox that should be read; null while one of them is not complete yet.';
COMMENT ON COLUMN report_v1.freshness.newest_message_day IS 'UTC day of the newest sent message that was read.';
COMMENT ON COLUMN report_v1.freshness.counted_through IS 'Everything published before has been counted; null while no aggregator reports it.';
COMMENT ON COLUMN report_v1.freshness.pipeline_age_seconds IS 'How long ago that was.';
COMMENT ON COLUMN report_v1.freshness.waiting_since IS 'Since when new facts or passed deadlines wait to be judged; null: none waits.';
COMMENT ON COLUMN report_v1.freshness.judged_at IS 'When it was last judged.';
COMMENT ON COLUMN report_v1.freshness.newest_as_of IS 'Newest day for which every active rule set has a row at company level in reply_rate.';
COMMENT ON COLUMN report_v1.freshness.newest_final_as_of IS 'The same for rows that are final.';
COMMENT ON VIEW report_v1.coverage_daily IS 'For how much of each of the last 100 UTC days each mailbox, or the platform for an account, is known to be complete.';
COMMENT ON COLUMN report_v1.coverage_daily.company_id IS 'The seller.';
COMMENT ON COLUMN report_v1.coverage_daily.account_id IS 'The account whose mailbox it is.';
COMMENT ON COLUMN report_v1.coverage_daily.mailbox_id IS 'The mailbox; null: the platform syncs the account.';
COMMENT ON COLUMN report_v1.coverage_daily.day IS 'UTC day.';
COMMENT ON COLUMN report_v1.coverage_daily.expected_seconds IS 'Seconds of the day, up to now, for which it was connected or that were read afterwards.';
COMMENT ON COLUMN report_v1.coverage_daily.covered_seconds IS 'Seconds for which every sent message is known.';
COMMENT ON COLUMN report_v1.coverage_daily.waiting_seconds IS 'Seconds after the last covered instant: the next good poll covers them.';
COMMENT ON COLUMN report_v1.coverage_daily.gap_seconds IS 'Seconds before it that are not covered.';
COMMENT ON COLUMN report_v1.coverage_daily.gaps IS 'How many pieces these are; one over midnight is counted on both days.';
COMMENT ON COLUMN report_v1.coverage_daily.covered_share IS 'covered_seconds / expected_seconds.';

GRANT SELECT ON report_v1.rule_sets, report_v1.accounts, report_v1.freshness, report_v1.coverage_daily TO replyrate_dashboard;

-- As in 0036, with two changes. A view without company_id is the same for every reader. The companies of a login are computed once
-- and before the rows are read: a condition on them reaches the indexes, where one on a join is checked after every company was read.
CREATE OR REPLACE PROCEDURE access.repeat_views() LANGUAGE plpgsql AS $$
DECLARE
    source record;
    repeated record;
BEGIN
    FOR source IN
        SELECT c.relname AS name, obj_description(c.oid) AS comment,
            EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'company_id') AS has_company,
            EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'account_id') AS has_account,
            (SELECT string_agg(format('v.%I', a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
            c.relname IN ('reply_rate', 'reply_rate_latest', 'reply_rate_history', 'corrections', 'reply_time_histogram', 'reply_daily',
                'inquiry_outcomes', 'due_soon') AS has_company_figures
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'report_v1' AND c.relkind = 'v'
        ORDER BY 1
    LOOP
        FOR repeated IN
            SELECT 'report_company_v1' AS schema, 'replyrate_company' AS reader, source.columns AS columns,
                'v.company_id = ANY (ARRAY(SELECT a.company_id FROM access.dashboards a WHERE a.role_name = current_user))' AS condition
            UNION ALL
            SELECT 'report_token_v1', 'replyrate_portal',
                CASE WHEN source.has_company_figures THEN replace(source.columns, 'v.mailbox_id',
                    'CASE WHEN starts_with(v.company_id, (SELECT registry.key_prefix())) OR (v.company_id, v.account_id) = '
                    '(SELECT session.company_id, session.account_id FROM registry.session_account() session) '
                    'THEN v.mailbox_id END AS mailbox_id') ELSE source.columns END,
                'starts_with(v.company_id, (SELECT registry.key_prefix()))'
                || CASE WHEN source.has_account THEN ' OR (v.company_id, v.account_id) = '
                '(SELECT session.company_id, session.account_id FROM registry.session_account() session)' ELSE '' END
                || CASE WHEN source.has_company_figures THEN ' OR v.company_id = (SELECT registry.panel_main_company())'
                    WHEN source.name = 'zero_rate_diagnosis'
                    THEN ' OR v.company_id = (SELECT registry.panel_main_company()) AND v.account_id IS NULL' ELSE '' END
        LOOP
            EXECUTE format('CREATE OR REPLACE VIEW %1$I.%2$I WITH (security_barrier) AS SELECT %4$s FROM report_v1.%2$I v WHERE %3$s',
                repeated.schema, source.name, CASE WHEN source.has_company THEN repeated.condition ELSE 'true' END, repeated.columns);
            EXECUTE format('COMMENT ON VIEW %I.%I IS %L', repeated.schema, source.name, source.comment);
            EXECUTE format('GRANT SELECT ON %I.%I TO %I', repeated.schema, source.name, repeated.reader);
        END LOOP;
    END LOOP;
END $$;
CALL access.repeat_views();

-- migrate:down
CREATE OR REPLACE PROCEDURE access.repeat_views() LANGUAGE plpgsql AS $$
DECLARE
    source record;
    repeated record;
BEGIN
    FOR source IN
        SELECT c.relname AS name, obj_description(c.oid) AS comment,
            EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'account_id') AS has_account,
            (SELECT string_agg(format('v.%I', a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
            c.relname IN ('reply_rate', 'reply_rate_latest', 'reply_rate_history', 'corrections', 'reply_time_histogram', 'reply_daily',
                'inquiry_outcomes', 'due_soon') AS has_company_figures
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'report_v1' AND c.relkind = 'v'
            AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'company_id')
        ORDER BY 1
    LOOP
        FOR repeated IN
            SELECT 'report_company_v1' AS schema, 'replyrate_company' AS reader, source.columns AS columns,
                'v.company_id IN (SELECT a.company_id FROM access.dashboards a WHERE a.role_name = current_user)' AS condition
            UNION ALL
            SELECT 'report_token_v1', 'replyrate_portal',
                CASE WHEN source.has_company_figures THEN replace(source.columns, 'v.mailbox_id',
                    'CASE WHEN starts_with(v.company_id, (SELECT registry.key_prefix())) OR (v.company_id, v.account_id) = '
                    '(SELECT session.company_id, session.account_id FROM registry.session_account() session) '
                    'THEN v.mailbox_id END AS mailbox_id') ELSE source.columns END,
                'starts_with(v.company_id, (SELECT registry.key_prefix()))'
                || CASE WHEN source.has_account THEN ' OR (v.company_id, v.account_id) = '
                '(SELECT session.company_id, session.account_id FROM registry.session_account() session)' ELSE '' END
                || CASE WHEN source.has_company_figures THEN ' OR v.company_id = (SELECT registry.panel_main_company())'
                    WHEN source.name = 'zero_rate_diagnosis'
                    THEN ' OR v.company_id = (SELECT registry.panel_main_company()) AND v.account_id IS NULL' ELSE '' END
        LOOP
            EXECUTE format('CREATE OR REPLACE VIEW %1$I.%2$I WITH (security_barrier) AS SELECT %4$s FROM report_v1.%2$I v WHERE %3$s',
                repeated.schema, source.name, repeated.condition, repeated.columns);
            EXECUTE format('COMMENT ON VIEW %I.%I IS %L', repeated.schema, source.name, source.comment);
            EXECUTE format('GRANT SELECT ON %I.%I TO %I', repeated.schema, source.name, repeated.reader);
        END LOOP;
    END LOOP;
END $$;
DROP VIEW report_company_v1.rule_sets, report_company_v1.accounts, report_company_v1.freshness, report_company_v1.coverage_daily;
DROP VIEW report_token_v1.rule_sets, report_token_v1.accounts, report_token_v1.freshness, report_token_v1.coverage_daily;
DROP VIEW report_v1.rule_sets, report_v1.accounts, report_v1.freshness, report_v1.coverage_daily;
CALL access.repeat_views();
