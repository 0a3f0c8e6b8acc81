-- migrate:up

-- Why a rate is 0: what the refresh found for each row of reply_rate whose newest rate is 0 or null, and two counts that
-- tell causes apart which look alike otherwise.

-- A message that is filed and deleted between two polls is never seen, but it uses a UID up.
ALTER TABLE registry.folders ADD COLUMN uids_passed bigint NOT NULL DEFAULT 0, ADD COLUMN uids_found bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN registry.folders.uids_passed IS 'UIDs that the server gave away between polls since this UIDVALIDITY was met.';
COMMENT ON COLUMN registry.folders.uids_found IS 'Messages among them that were still there.';

-- Folders with a name for sent mail that are not read because another one was found or chosen; looked at once a day.
CREATE TABLE registry.other_folders (
    company_id text COLLATE "C" NOT NULL,
    mailbox_id text COLLATE "C" NOT NULL,
    folder bytea NOT NULL,
    messages bigint NOT NULL,
    first_messages bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (company_id, mailbox_id, folder),
    FOREIGN KEY (company_id, mailbox_id) REFERENCES registry.mailboxes ON DELETE CASCADE
);
COMMENT ON COLUMN registry.other_folders.messages IS 'How many messages EXAMINE told; none of them is read.';

GRANT SELECT, INSERT, UPDATE, DELETE ON registry.other_folders TO replyrate_fetcher;
GRANT SELECT ON registry.folders, registry.other_folders, registry.message_counts TO replyrate_aggregator;
GRANT SELECT (company_id, account_id, role, address_hash, changed_at) ON registry.addresses TO replyrate_aggregator;

CREATE TABLE ledger.diagnoses (
    rule_set text COLLATE "C" NOT NULL,
    company_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    cause text COLLATE "C" NOT NULL,
    as_of date NOT NULL,
    confidence text COLLATE "C" NOT NULL CHECK (confidence IN ('high', 'medium', 'low')),
    facts jsonb NOT NULL,
    advice_en text NOT NULL,
    advice_zh text NOT NULL,
    computed_at timestamptz NOT NULL,
    PRIMARY KEY (rule_set, company_id, account_id, cause)
);
COMMENT ON COLUMN ledger.diagnoses.account_id IS 'Empty at company level.';
CREATE INDEX diagnoses_company ON ledger.diagnoses (company_id);
ALTER TABLE ledger.companies ADD COLUMN diagnosed_at timestamptz;
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.diagnoses TO replyrate_aggregator;

-- The one cause that the refresh cannot write down itself: it is late.
INSERT INTO ledger.advice VALUES
    ('pipeline-behind',
        'What is shown is older than what is known: new facts wait to be counted. This is for the operator (services, consumer lag); the seller need not do anything.',
        '显示的数据落后于已收到的数据：新数据仍在等待计算。请运维人员检查服务和消费延迟；卖家无需操作。');

CREATE VIEW report_v1.zero_rate_diagnosis AS
WITH late AS (
    SELECT c.company_id, w.since FROM ledger.companies c
    CROSS JOIN LATERAL (SELECT least(
        (SELECT min(d.since) FROM ledger.dirty d WHERE d.company_id = c.company_id), c.due_at) AS since) w
    WHERE w.since < clock_timestamp() - interval '15 minutes'
)
SELECT d.rule_set, d.company_id, nullif(d.account_id, '') COLLATE "C" AS account_id, d.as_of, d.cause,
    CASE WHEN l.company_id IS NOT NULL AND d.confidence = 'high' THEN 'medium' ELSE d.confidence END AS confidence, d.facts,
    d.advice_en, d.advice_zh, d.computed_at
FROM ledger.diagnoses d JOIN ledger.rule_sets s ON s.name = d.rule_set AND s.active LEFT JOIN late l USING (company_id)
UNION ALL
SELECT d.rule_set, d.company_id, nullif(d.account_id, '') COLLATE "C", d.as_of, a.code, 'high',
    jsonb_build_object('waiting_seconds', floor(extract(epoch FROM clock_timestamp() - l.since))::bigint),
    a.advice_en, a.advice_zh, max(d.computed_at)
FROM ledger.diagnoses d JOIN ledger.rule_sets s ON s.name = d.rule_set AND s.active
JOIN late l USING (company_id) JOIN ledger.advice a ON a.code = 'pipeline-behind'
GROUP BY d.rule_set, d.company_id, d.account_id, d.as_of, a.code, l.since, a.advice_en, a.advice_zh;

COMMENT ON VIEW report_v1.zero_rate_diagnosis IS 'Why a rate is 0 or missing: causes that the facts allow, one row each, for rows of reply_rate_latest whose rate is 0 or null. Causes with equal confidence cannot be told apart.';
COMMENT ON COLUMN report_v1.zero_rate_diagnosis.rule_set IS 'Name of the rule set.';
COMMENT ON COLUMN report_v1.zero_rate_diagnosis.company_id IS 'The seller.';
COMMENT ON COLUMN report_v1.zero_rate_diagnosis.account_id IS 'The (sub-)account; null at company level.';
COMMENT ON COLUMN report_v1.zero_rate_diagnosis.as_of IS 'Day of the row of reply_rate that is explained.';
COMMENT ON COLUMN report_v1.zero_rate_diagnosis.cause IS 'Code of the cause (docs/doctor.md); none: nothing is wrong with the number.';
COMMENT ON COLUMN report_v1.zero_rate_diagnosis.confidence IS 'high: the facts leave no other explanation for most of it; medium: likely; low: it explains a part.';
COMMENT ON COLUMN report_v1.zero_rate_diagnosis.facts IS 'The counts and days that speak for it; no address, name or text.';
COMMENT ON COLUMN report_v1.zero_rate_diagnosis.advice_en IS 'What was found and what to do, in English.';
COMMENT ON COLUMN report_v1.zero_rate_diagnosis.advice_zh IS 'What was found and what to do, in Chinese.';
COMMENT ON COLUMN report_v1.zero_rate_diagnosis.computed_at IS 'When the facts were counted.';
GRANT SELECT ON report_v1.zero_rate_diagnosis TO replyrate_dashboard;
CALL access.repeat_views();

-- migrate:down
DROP VIEW report_company_v1.zero_rate_diagnosis, report_v1.zero_rate_diagnosis;
DELETE FROM ledger.advice WHERE code = 'pipeline-behind';
DROP TABLE ledger.diagnoses, registry.other_folders;
ALTER TABLE ledger.companies DROP COLUMN diagnosed_at;
REVOKE SELECT ON registry.folders, registry.message_counts FROM replyrate_aggregator;
REVOKE SELECT (company_id, account_id, role, address_hash, changed_at) ON registry.addresses FROM replyrate_aggregator;
ALTER TABLE registry.folders DROP COLUMN uids_passed, DROP COLUMN uids_found;
