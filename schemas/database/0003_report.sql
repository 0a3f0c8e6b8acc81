-- migrate:up

-- What the facts mean: rule sets, outcomes, rates; and report_v1, which dashboards read.

CREATE TABLE ledger.rule_sets (
    name text COLLATE "C" PRIMARY KEY,
    identity text COLLATE "C" NOT NULL,
    parameters jsonb NOT NULL,
    active boolean NOT NULL DEFAULT true,
    activated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE ledger.outcomes (
    rule_set text COLLATE "C" NOT NULL,
    company_id text COLLATE "C" NOT NULL,
    inquiry_id text COLLATE "C" NOT NULL,
    rule_version text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    buyer_id text COLLATE "C" NOT NULL,
    unit_day date NOT NULL,
    unit_inquiry_id text COLLATE "C",
    received_at timestamptz NOT NULL,
    first_reply_at timestamptz,
    reply_seconds numeric,
    outcome text COLLATE "C" NOT NULL,
    reason text COLLATE "C",
    reply_source text COLLATE "C",
    matched_by text COLLATE "C",
    mailbox_id text COLLATE "C",
    evidence text COLLATE "C",
    covered boolean,
    due_at timestamptz,
    state text COLLATE "C" NOT NULL,
    changed_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    PRIMARY KEY (rule_set, company_id, inquiry_id)
);
CREATE INDEX outcomes_day ON ledger.outcomes (rule_set, company_id, unit_day);

CREATE TABLE ledger.rates (
    rule_set text COLLATE "C" NOT NULL,
    rule_version text COLLATE "C" NOT NULL,
    level text COLLATE "C" NOT NULL CHECK (level IN ('company', 'account')),
    company_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    as_of date NOT NULL,
    window_start date NOT NULL,
    window_end date NOT NULL,
    inquiries bigint NOT NULL,
    excluded bigint NOT NULL,
    counted bigint NOT NULL,
    timely bigint NOT NULL,
    late bigint NOT NULL,
    unanswered bigint NOT NULL,
    unmeasured bigint NOT NULL,
    pending bigint NOT NULL,
    rate numeric,
    mean_seconds double precision,
    median_seconds double precision,
    p90_seconds double precision,
    p95_seconds double precision,
    rate_shown numeric,
    coverage numeric,
    state text COLLATE "C" NOT NULL CHECK (state IN ('provisional', 'final')),
    computed_at timestamptz NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz,
    PRIMARY KEY (rule_set, company_id, level, account_id, as_of, valid_from)
);
CREATE UNIQUE INDEX rates_now ON ledger.rates (rule_set, company_id, level, account_id, as_of) WHERE valid_to IS NULL;
COMMENT ON COLUMN ledger.rates.account_id IS 'Empty at company level.';

CREATE SCHEMA report_v1;
COMMENT ON SCHEMA report_v1 IS 'Reply rates for dashboards. Additive changes only; anything else is report_v2 beside it.';

CREATE VIEW report_v1.reply_rate AS
SELECT rule_set, rule_version, level, company_id, nullif(account_id, '') AS account_id, as_of, window_start, window_end,
    inquiries, excluded, counted, timely, late, unanswered, unmeasured, pending, rate, mean_seconds, median_seconds,
    p90_seconds, p95_seconds, rate_shown, coverage, state, computed_at
FROM ledger.rates WHERE valid_to IS NULL;

CREATE VIEW report_v1.reply_rate_history AS
SELECT rule_set, rule_version, level, company_id, nullif(account_id, '') AS account_id, as_of, window_start, window_end,
    inquiries, excluded, counted, timely, late, unanswered, unmeasured, pending, rate, mean_seconds, median_seconds,
    p90_seconds, p95_seconds, rate_shown, coverage, state, computed_at, valid_from, valid_to
FROM ledger.rates;

CREATE VIEW report_v1.reply_rate_latest AS
SELECT DISTINCT ON (rule_set, level, company_id, account_id) *
FROM report_v1.reply_rate ORDER BY rule_set, level, company_id, account_id, as_of DESC;

CREATE VIEW report_v1.inquiry_outcomes AS
SELECT rule_set, company_id, account_id, inquiry_id, buyer_id, unit_day, unit_inquiry_id, received_at, first_reply_at,
    reply_seconds, outcome, reason, reply_source, matched_by, mailbox_id, evidence, state, changed_at, revision
FROM ledger.outcomes;

CREATE VIEW report_v1.reply_daily AS
SELECT rule_set, CASE WHEN GROUPING(account_id) = 1 THEN 'company' ELSE 'account' END AS level, company_id, account_id,
    unit_day AS day,
    count(*) AS inquiries,
    count(*) FILTER (WHERE outcome = 'excluded') AS excluded,
    count(*) FILTER (WHERE outcome IN ('timely', 'late', 'unanswered')) AS counted,
    count(*) FILTER (WHERE outcome = 'timely') AS timely,
    count(*) FILTER (WHERE outcome = 'late') AS late,
    count(*) FILTER (WHERE outcome = 'unanswered') AS unanswered,
    count(*) FILTER (WHERE outcome = 'unmeasured') AS unmeasured,
    count(*) FILTER (WHERE outcome = 'pending') AS pending,
    CASE WHEN bool_and(state = 'final') THEN 'final' ELSE 'provisional' END AS state
FROM ledger.outcomes
GROUP BY GROUPING SETS ((rule_set, company_id, unit_day), (rule_set, company_id, account_id, unit_day));

CREATE VIEW report_v1.reply_time_histogram AS
SELECT l.rule_set, l.level, l.company_id, l.account_id, l.as_of, b.bucket,
    CASE WHEN b.bucket = 25 THEN 'later' ELSE (b.bucket - 1) || '-' || b.bucket || ' h' END AS label,
    count(o.inquiry_id) AS answered
FROM report_v1.reply_rate_latest l
CROSS JOIN generate_series(1, 25) b (bucket)
LEFT JOIN ledger.outcomes o ON o.rule_set = l.rule_set AND o.company_id = l.company_id
    AND (l.account_id IS NULL OR o.account_id = l.account_id)
    AND o.unit_day BETWEEN l.window_start AND l.window_end
    AND o.reply_seconds IS NOT NULL AND o.outcome IN ('timely', 'late')
    AND b.bucket = CASE WHEN o.reply_seconds > 86400 THEN 25 ELSE greatest(1, ceil(o.reply_seconds / 3600)) END
GROUP BY l.rule_set, l.level, l.company_id, l.account_id, l.as_of, b.bucket;

-- What a person can do about the state of a mailbox; the reason decides, else the state.
CREATE TABLE ledger.advice (code text COLLATE "C" PRIMARY KEY, advice_en text NOT NULL, advice_zh text NOT NULL);
INSERT INTO ledger.advice VALUES
    ('active', 'Nothing to do.', '无需操作。'),
    ('pending_test', 'Finish connecting the mailbox.', '请完成邮箱连接测试。'),
    ('paused', 'Reading is paused; resume it when the mailbox may be read again.', '同步已暂停，可随时恢复。'),
    ('needs_reconnect', 'Connect the mailbox again with its current password or authorization code.', '请使用当前密码或授权码重新连接邮箱。'),
    ('refused', 'This mail server cannot be used; connect another mailbox.', '该邮件服务器无法使用，请连接其他邮箱。'),
    ('synced_by_platform', 'Nothing to do: replies through the platform''s own mail are counted.', '无需操作：平台邮箱的回复已自动计入。'),
    ('removed', 'The mailbox was removed; connect one if replies leave from a mailbox.', '邮箱已移除；如仍用邮箱回复，请重新连接。'),
    ('address-changed', 'The account''s address changed: connect the mailbox of the new address.', '账号邮箱地址已变更，请连接新地址的邮箱。'),
    ('secret-unreadable', 'The stored password cannot be read; connect the mailbox again.', '已保存的密码无法读取，请重新连接邮箱。'),
    ('login-refused', 'User name or password is refused: check case and blanks, use an authorization code, switch IMAP on.', '用户名或密码被拒绝：请检查大小写和空格，使用授权码，并在网页邮箱中开启 IMAP。'),
    ('no-sent-folder', 'No Sent folder was found: let your mail program store sent mail on the server.', '未找到“已发送”文件夹：请设置邮件客户端将已发邮件保存到服务器。'),
    ('unreachable', 'The mail server does not answer; it is tried again.', '邮件服务器无响应，系统会自动重试。'),
    ('tls-failed', 'The mail server has no valid certificate; ask the mail provider for the right server name.', '邮件服务器证书无效，请向邮箱服务商确认服务器名称。'),
    ('throttled', 'The mail provider asks to come less often; it is tried again later.', '邮箱服务商限制了访问频率，系统会稍后重试。'),
    ('host-refused', 'This server name or port cannot be used; check both.', '服务器名称或端口不可用，请检查。'),
    ('server-broken', 'The mail server answers in a way that cannot be understood; it is tried again.', '邮件服务器的响应无法识别，系统会自动重试。'),
    ('budget-spent', 'The mail server answers too slowly or too much; it is tried again.', '邮件服务器响应过慢或数据过多，系统会自动重试。');

CREATE VIEW report_v1.mailbox_health AS
SELECT m.company_id, m.account_id, m.mailbox_id, m.role, m.state, m.state_reason,
    coalesce(r.advice_en, s.advice_en) AS advice_en, coalesce(r.advice_zh, s.advice_zh) AS advice_zh,
    m.last_success_at, m.complete_from, m.complete_through,
    (SELECT count(*) FROM registry.folders f
        WHERE f.company_id = m.company_id AND f.mailbox_id = m.mailbox_id AND f.current) AS sent_folders,
    coalesce((SELECT sum(c.messages) FROM registry.message_counts c
        WHERE c.company_id = m.company_id AND c.mailbox_id = m.mailbox_id), 0)::bigint AS messages_seen,
    m.next_poll_at
FROM registry.mailboxes m
LEFT JOIN ledger.advice s ON s.code = m.state
LEFT JOIN ledger.advice r ON r.code = m.state_reason;

COMMENT ON VIEW report_v1.reply_rate IS 'Reply rates, one row per rule set, level, company, account and as_of day: what holds now.';
COMMENT ON COLUMN report_v1.reply_rate.rule_set IS 'Name of the rule set.';
COMMENT ON COLUMN report_v1.reply_rate.rule_version IS 'Number and content hash of the rule set that made the row.';
COMMENT ON COLUMN report_v1.reply_rate.level IS 'company or account.';
COMMENT ON COLUMN report_v1.reply_rate.company_id IS 'The seller.';
COMMENT ON COLUMN report_v1.reply_rate.account_id IS 'The (sub-)account it counts for; null at company level.';
COMMENT ON COLUMN report_v1.reply_rate.as_of IS 'Local day of the rule set at whose end the row was judged.';
COMMENT ON COLUMN report_v1.reply_rate.window_start IS 'First local day that counts.';
COMMENT ON COLUMN report_v1.reply_rate.window_end IS 'Last local day that counts.';
COMMENT ON COLUMN report_v1.reply_rate.inquiries IS 'Inquiries received in the window, excluded and merged ones too.';
COMMENT ON COLUMN report_v1.reply_rate.excluded IS 'Inquiries that the rule set excludes.';
COMMENT ON COLUMN report_v1.reply_rate.counted IS 'timely + late + unanswered.';
COMMENT ON COLUMN report_v1.reply_rate.timely IS 'Units answered within the target.';
COMMENT ON COLUMN report_v1.reply_rate.late IS 'Units answered after the target.';
COMMENT ON COLUMN report_v1.reply_rate.unanswered IS 'Units without an answer whose target has passed.';
COMMENT ON COLUMN report_v1.reply_rate.unmeasured IS 'Units without a known answer in a time that no mailbox covers.';
COMMENT ON COLUMN report_v1.reply_rate.pending IS 'Units without an answer whose target has not passed.';
COMMENT ON COLUMN report_v1.reply_rate.rate IS 'timely / counted; null when nothing was counted or coverage is too small.';
COMMENT ON COLUMN report_v1.reply_rate.mean_seconds IS 'Mean time to the answer, over answered units.';
COMMENT ON COLUMN report_v1.reply_rate.median_seconds IS 'Median time to the answer.';
COMMENT ON COLUMN report_v1.reply_rate.p90_seconds IS '90th percentile of the time to the answer.';
COMMENT ON COLUMN report_v1.reply_rate.p95_seconds IS '95th percentile of the time to the answer.';
COMMENT ON COLUMN report_v1.reply_rate.rate_shown IS 'The rate in percent, rounded as the rule set says.';
COMMENT ON COLUMN report_v1.reply_rate.coverage IS 'Share of units that were answered or lie in a time that mailboxes cover.';
COMMENT ON COLUMN report_v1.reply_rate.state IS 'final: it changes only with a correction; provisional: it may still change. In reply_daily of all outcomes of the day.';
COMMENT ON COLUMN report_v1.reply_rate.computed_at IS 'When the row was computed.';
COMMENT ON VIEW report_v1.reply_rate_history IS 'Every version of every row of reply_rate that held when its day was over, and the one that holds now.';
COMMENT ON COLUMN report_v1.reply_rate_history.rule_set IS 'Name of the rule set.';
COMMENT ON COLUMN report_v1.reply_rate_history.rule_version IS 'Number and content hash of the rule set that made the row.';
COMMENT ON COLUMN report_v1.reply_rate_history.level IS 'company or account.';
COMMENT ON COLUMN report_v1.reply_rate_history.company_id IS 'The seller.';
COMMENT ON COLUMN report_v1.reply_rate_history.account_id IS 'The (sub-)account it counts for; null at company level.';
COMMENT ON COLUMN report_v1.reply_rate_history.as_of IS 'Local day of the rule set at whose end the row was judged.';
COMMENT ON COLUMN report_v1.reply_rate_history.window_start IS 'First local day that counts.';
COMMENT ON COLUMN report_v1.reply_rate_history.window_end IS 'Last local day that counts.';
COMMENT ON COLUMN report_v1.reply_rate_history.inquiries IS 'Inquiries received in the window, excluded and merged ones too.';
COMMENT ON COLUMN report_v1.reply_rate_history.excluded IS 'Inquiries that the rule set excludes.';
COMMENT ON COLUMN report_v1.reply_rate_history.counted IS 'timely + late + unanswered.';
COMMENT ON COLUMN report_v1.reply_rate_history.timely IS 'Units answered within the target.';
COMMENT ON COLUMN report_v1.reply_rate_history.late IS 'Units answered after the target.';
COMMENT ON COLUMN report_v1.reply_rate_history.unanswered IS 'Units without an answer whose target has passed.';
COMMENT ON COLUMN report_v1.reply_rate_history.unmeasured IS 'Units without a known answer in a time that no mailbox covers.';
COMMENT ON COLUMN report_v1.reply_rate_history.pending IS 'Units without an answer whose target has not passed.';
COMMENT ON COLUMN report_v1.reply_rate_history.rate IS 'timely / counted; null when nothing was counted or coverage is too small.';
COMMENT ON COLUMN report_v1.reply_rate_history.mean_seconds IS 'Mean time to the answer, over answered units.';
COMMENT ON COLUMN report_v1.reply_rate_history.median_seconds IS 'Median time to the answer.';
COMMENT ON COLUMN report_v1.reply_rate_history.p90_seconds IS '90th percentile of the time to the answer.';
COMMENT ON COLUMN report_v1.reply_rate_history.p95_seconds IS '95th percentile of the time to the answer.';
COMMENT ON COLUMN report_v1.reply_rate_history.rate_shown IS 'The rate in percent, rounded as the rule set says.';
COMMENT ON COLUMN report_v1.reply_rate_history.coverage IS 'Share of units that were answered or lie in a time that mailboxes cover.';
COMMENT ON COLUMN report_v1.reply_rate_history.state IS 'final: it changes only with a correction; provisional: it may still change. In reply_daily of all outcomes of the day.';
COMMENT ON COLUMN report_v1.reply_rate_history.computed_at IS 'When the row was computed.';
COMMENT ON COLUMN report_v1.reply_rate_history.valid_from IS 'From when this version was shown.';
COMMENT ON COLUMN report_v1.reply_rate_history.valid_to IS 'Until when it was shown; null for the one that holds.';
COMMENT ON VIEW report_v1.reply_rate_latest IS 'Of each rule set, level, company and account the row of reply_rate with the newest as_of.';
COMMENT ON COLUMN report_v1.reply_rate_latest.rule_set IS 'Name of the rule set.';
COMMENT ON COLUMN report_v1.reply_rate_latest.rule_version IS 'Number and content hash of the rule set that made the row.';
COMMENT ON COLUMN report_v1.reply_rate_latest.level IS 'company or account.';
COMMENT ON COLUMN report_v1.reply_rate_latest.company_id IS 'The seller.';
COMMENT ON COLUMN report_v1.reply_rate_latest.account_id IS 'The (sub-)account it counts for; null at company level.';
COMMENT ON COLUMN report_v1.reply_rate_latest.as_of IS 'Local day of the rule set at whose end the row was judged.';
COMMENT ON COLUMN report_v1.reply_rate_latest.window_start IS 'First local day that counts.';
COMMENT ON COLUMN report_v1.reply_rate_latest.window_end IS 'Last local day that counts.';
COMMENT ON COLUMN report_v1.reply_rate_latest.inquiries IS 'Inquiries received in the window, excluded and merged ones too.';
COMMENT ON COLUMN report_v1.reply_rate_latest.excluded IS 'Inquiries that the rule set excludes.';
COMMENT ON COLUMN report_v1.reply_rate_latest.counted IS 'timely + late + unanswered.';
COMMENT ON COLUMN report_v1.reply_rate_latest.timely IS 'Units answered within the target.';
COMMENT ON COLUMN report_v1.reply_rate_latest.late IS 'Units answered after the target.';
COMMENT ON COLUMN report_v1.reply_rate_latest.unanswered IS 'Units without an answer whose target has passed.';
COMMENT ON COLUMN report_v1.reply_rate_latest.unmeasured IS 'Units without a known answer in a time that no mailbox covers.';
COMMENT ON COLUMN report_v1.reply_rate_latest.pending IS 'Units without an answer whose target has not passed.';
COMMENT ON COLUMN report_v1.reply_rate_latest.rate IS 'timely / counted; null when nothing was counted or coverage is too small.';
COMMENT ON COLUMN report_v1.reply_rate_latest.mean_seconds IS 'Mean time to the answer, over answered units.';
COMMENT ON COLUMN report_v1.reply_rate_latest.median_seconds IS 'Median time to the answer.';
COMMENT ON COLUMN report_v1.reply_rate_latest.p90_seconds IS '90th percentile of the time to the answer.';
COMMENT ON COLUMN report_v1.reply_rate_latest.p95_seconds IS '95th percentile of the time to the answer.';
COMMENT ON COLUMN report_v1.reply_rate_latest.rate_shown IS 'The rate in percent, rounded as the rule set says.';
COMMENT ON COLUMN report_v1.reply_rate_latest.coverage IS 'Share of units that were answered or lie in a time that mailboxes cover.';
COMMENT ON COLUMN report_v1.reply_rate_latest.state IS 'final: it changes only with a correction; provisional: it may still change. In reply_daily of all outcomes of the day.';
COMMENT ON COLUMN report_v1.reply_rate_latest.computed_at IS 'When the row was computed.';
COMMENT ON VIEW report_v1.inquiry_outcomes IS 'What became of each known inquiry under each rule set, also of excluded and merged ones.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.rule_set IS 'Name of the rule set.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.company_id IS 'The seller.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.account_id IS 'The account of the unit; of an excluded inquiry its own owner.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.inquiry_id IS 'The inquiry.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.buyer_id IS 'Who asked.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.unit_day IS 'Local day of the unit; of an excluded inquiry its own.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.unit_inquiry_id IS 'First inquiry of the unit; null when excluded.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.received_at IS 'When the buyer asked.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.first_reply_at IS 'When the unit was answered; on its first inquiry only.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.reply_seconds IS 'Seconds from the start of the unit to its answer, never negative.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.outcome IS 'timely, late, unanswered, unmeasured, pending, excluded or merged.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.reason IS 'Why: the exclusion that holds, or only-automatic-replies.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.reply_source IS 'mail, platform or status.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.matched_by IS 'Strongest evidence that joins the reply with the inquiry.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.mailbox_id IS 'The mailbox that the reply left from; null unless mail.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.evidence IS 'How far the reply''s time can be trusted: verified, backfill, suspect.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.state IS 'final when the unit''s day is settled, else provisional.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.changed_at IS 'When the outcome changed last.';
COMMENT ON COLUMN report_v1.inquiry_outcomes.revision IS 'How often it changed.';
COMMENT ON VIEW report_v1.reply_daily IS 'Counts by local day of the rule set, also of days that are not settled yet.';
COMMENT ON COLUMN report_v1.reply_daily.rule_set IS 'Name of the rule set.';
COMMENT ON COLUMN report_v1.reply_daily.level IS 'company or account.';
COMMENT ON COLUMN report_v1.reply_daily.company_id IS 'The seller.';
COMMENT ON COLUMN report_v1.reply_daily.account_id IS 'The (sub-)account it counts for; null at company level.';
COMMENT ON COLUMN report_v1.reply_daily.day IS 'Local day of the rule set.';
COMMENT ON COLUMN report_v1.reply_daily.inquiries IS 'Inquiries received in the window, excluded and merged ones too.';
COMMENT ON COLUMN report_v1.reply_daily.excluded IS 'Inquiries that the rule set excludes.';
COMMENT ON COLUMN report_v1.reply_daily.counted IS 'timely + late + unanswered.';
COMMENT ON COLUMN report_v1.reply_daily.timely IS 'Units answered within the target.';
COMMENT ON COLUMN report_v1.reply_daily.late IS 'Units answered after the target.';
COMMENT ON COLUMN report_v1.reply_daily.unanswered IS 'Units without an answer whose target has passed.';
COMMENT ON COLUMN report_v1.reply_daily.unmeasured IS 'Units without a known answer in a time that no mailbox covers.';
COMMENT ON COLUMN report_v1.reply_daily.pending IS 'Units without an answer whose target has not passed.';
COMMENT ON COLUMN report_v1.reply_daily.state IS 'final: it changes only with a correction; provisional: it may still change. In reply_daily of all outcomes of the day.';
COMMENT ON VIEW report_v1.reply_time_histogram IS 'Answered units of the newest window by hours until the reply: 24 buckets of an hour and one for later.';
COMMENT ON COLUMN report_v1.reply_time_histogram.rule_set IS 'Name of the rule set.';
COMMENT ON COLUMN report_v1.reply_time_histogram.level IS 'company or account.';
COMMENT ON COLUMN report_v1.reply_time_histogram.company_id IS 'The seller.';
COMMENT ON COLUMN report_v1.reply_time_histogram.account_id IS 'The (sub-)account it counts for; null at company level.';
COMMENT ON COLUMN report_v1.reply_time_histogram.as_of IS 'Local day of the rule set at whose end the row was judged.';
COMMENT ON COLUMN report_v1.reply_time_histogram.bucket IS '1 to 24: hours, rounded up; 25: later.';
COMMENT ON COLUMN report_v1.reply_time_histogram.label IS 'The bucket for people.';
COMMENT ON COLUMN report_v1.reply_time_histogram.answered IS 'Units answered in this time.';
COMMENT ON VIEW report_v1.mailbox_health IS 'Each mailbox, how it is and what to do about it; never an address.';
COMMENT ON COLUMN report_v1.mailbox_health.company_id IS 'The seller.';
COMMENT ON COLUMN report_v1.mailbox_health.account_id IS 'The account whose mailbox it is.';
COMMENT ON COLUMN report_v1.mailbox_health.mailbox_id IS 'The mailbox; in outcomes the one that the reply left from.';
COMMENT ON COLUMN report_v1.mailbox_health.role IS 'registered or backup.';
COMMENT ON COLUMN report_v1.mailbox_health.state IS 'pending_test, active, paused, needs_reconnect, refused, synced_by_platform or removed.';
COMMENT ON COLUMN report_v1.mailbox_health.state_reason IS 'Code of what is wrong, if anything.';
COMMENT ON COLUMN report_v1.mailbox_health.advice_en IS 'What to do, in English.';
COMMENT ON COLUMN report_v1.mailbox_health.advice_zh IS 'What to do, in Chinese.';
COMMENT ON COLUMN report_v1.mailbox_health.last_success_at IS 'When a poll last ended well.';
COMMENT ON COLUMN report_v1.mailbox_health.complete_from IS 'From when on every sent message is known.';
COMMENT ON COLUMN report_v1.mailbox_health.complete_through IS 'Through when every sent message is known.';
COMMENT ON COLUMN report_v1.mailbox_health.sent_folders IS 'Sent folders that are read.';
COMMENT ON COLUMN report_v1.mailbox_health.messages_seen IS 'Messages seen in them within the horizon.';
COMMENT ON COLUMN report_v1.mailbox_health.next_poll_at IS 'When it is read next.';

-- migrate:down
DROP SCHEMA report_v1 CASCADE;
DROP TABLE ledger.advice, ledger.rates, ledger.outcomes, ledger.rule_sets;
