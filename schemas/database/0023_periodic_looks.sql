-- migrate:up
-- additive: yes

-- Statements that run every few seconds read what is due and not what exists.

-- How many mailboxes are in each state: changes are added and summed up, so that nobody waits for a counter's row.
CREATE TABLE registry.mailbox_counts (
    count_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state text NOT NULL,
    change bigint NOT NULL
);
COMMENT ON TABLE registry.mailbox_counts IS 'Changes of the number of mailboxes in each state; their sum is the number. Written by triggers and summed up every hour.';
GRANT SELECT, INSERT, UPDATE, DELETE ON registry.mailbox_counts TO replyrate_fetcher;

CREATE FUNCTION registry.count_states() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO registry.mailbox_counts (state, change) VALUES (OLD.state, -1), (NEW.state, 1);
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO registry.mailbox_counts (state, change)
        SELECT mailbox.state, count(*) FROM changed mailbox GROUP BY mailbox.state;
    ELSE
        INSERT INTO registry.mailbox_counts (state, change)
        SELECT mailbox.state, -count(*) FROM changed mailbox GROUP BY mailbox.state;
    END IF;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION registry.count_states() FROM PUBLIC;
CREATE TRIGGER counted_insert AFTER INSERT ON registry.mailboxes REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION registry.count_states();
CREATE TRIGGER counted_delete AFTER DELETE ON registry.mailboxes REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION registry.count_states();
-- Polls update mailboxes all the time, and hardly any of them changes the state.
CREATE TRIGGER counted_update AFTER UPDATE ON registry.mailboxes FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION registry.count_states();
INSERT INTO registry.mailbox_counts (state, change) SELECT state, count(*) FROM registry.mailboxes GROUP BY state;

-- The oldest last good poll of the active mailboxes.
CREATE INDEX mailboxes_age ON registry.mailboxes ((coalesce(last_success_at, connected_at))) WHERE state = 'active';

-- Who has a login connected, in any company.
CREATE INDEX mailboxes_login_hash ON registry.mailboxes USING hash (login_hash);

-- Whether any secret can be opened with the keys of a fetcher: bytes 2 to 9 of a sealed value are the id of its key.
CREATE INDEX secrets_key ON registry.secrets (substring(sealed FROM 2 FOR 8));

-- What is too old.
CREATE INDEX message_counts_day ON registry.message_counts (day);
CREATE INDEX connection_tests_tested ON registry.connection_tests (tested_at);

-- Companies whose time has come, by partition, since each partition's watermark decides it.
CREATE INDEX companies_partition_due ON ledger.companies (partition, due_at);
CREATE INDEX companies_unassigned ON ledger.companies (due_at) WHERE partition IS NULL;
CREATE INDEX companies_judged ON ledger.companies (judged_at);
-- The first changed fact of each company.
CREATE INDEX dirty_first ON ledger.dirty (company_id, dirty_id);
DROP INDEX ledger.dirty_company;

-- Coverage that a company's numbers wait for. Inserted when the coverage is recorded, deleted by the refresh that took it
-- into account; never updated, so that a poll waits for no refresh.
CREATE TABLE ledger.coverage_reached (
    reached_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    company_id text COLLATE "C" NOT NULL,
    partition integer,
    recorded_at timestamptz NOT NULL
);
CREATE INDEX coverage_reached_recorded ON ledger.coverage_reached (partition, recorded_at);
CREATE INDEX coverage_reached_company ON ledger.coverage_reached (company_id);
COMMENT ON TABLE ledger.coverage_reached IS 'Companies of which coverage was recorded that may change a number; they are judged once the watermark has passed it.';
COMMENT ON COLUMN ledger.coverage_reached.partition IS 'Where the inquiries of the company lie; null while that is not known.';
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.coverage_reached TO replyrate_aggregator;

-- A mailbox that comes or goes may always change a number, any other coverage only if it reaches what the company waits for.
CREATE FUNCTION registry.announce_coverage() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO ledger.coverage_reached (company_id, partition, recorded_at)
    SELECT company.company_id, company.partition, poll.recorded_at
    FROM changed poll JOIN ledger.companies company USING (company_id)
    WHERE poll.from_at IS NULL OR poll.removed_at IS NOT NULL OR poll.mailbox_id IS NULL
        OR poll.through_at >= company.coverage_wanted;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION registry.announce_coverage() FROM PUBLIC;
CREATE TRIGGER announced_insert AFTER INSERT ON registry.coverage REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION registry.announce_coverage();
INSERT INTO ledger.coverage_reached (company_id, partition, recorded_at)
SELECT company.company_id, company.partition, max(poll.recorded_at)
FROM ledger.companies company JOIN registry.coverage poll
    ON poll.company_id = company.company_id AND poll.coverage_id > company.coverage_seen
WHERE poll.from_at IS NULL OR poll.removed_at IS NOT NULL OR poll.mailbox_id IS NULL OR poll.through_at >= company.coverage_wanted
GROUP BY company.company_id, company.partition;

-- An account that is added makes its company be judged again.
CREATE FUNCTION registry.announce_accounts() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO ledger.dirty (company_id)
    SELECT DISTINCT company.company_id FROM changed account JOIN ledger.companies company USING (company_id);
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION registry.announce_accounts() FROM PUBLIC;
CREATE TRIGGER announced_insert AFTER INSERT ON registry.accounts REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION registry.announce_accounts();
INSERT INTO ledger.dirty (company_id)
SELECT DISTINCT company.company_id FROM registry.accounts account
JOIN ledger.companies company ON company.company_id = account.company_id AND account.created_at > company.judged_at;

-- Companies to diagnose: those judged since, and those whose diagnosis is an hour old.
ALTER TABLE ledger.companies ADD COLUMN diagnose_again_at timestamptz;
COMMENT ON COLUMN ledger.companies.diagnose_again_at IS 'When the company is diagnosed again although nothing was judged; null: it has no diagnosis.';
UPDATE ledger.companies company SET diagnose_again_at = company.diagnosed_at + interval '1 hour'
WHERE EXISTS (SELECT FROM ledger.diagnoses diagnosis WHERE diagnosis.company_id = company.company_id);
CREATE INDEX companies_diagnose_again ON ledger.companies (diagnose_again_at) WHERE diagnose_again_at IS NOT NULL;
CREATE INDEX companies_diagnosed ON ledger.companies (diagnosed_at);
CREATE INDEX companies_undiagnosed ON ledger.companies (judged_at)
    WHERE judged_at IS NOT NULL AND (diagnosed_at IS NULL OR diagnosed_at < judged_at);

-- Units without an answer: by account for the next deadline, and the new ones, whose mailboxes were planned without them.
CREATE INDEX outcomes_pending ON ledger.outcomes (company_id, rule_set, account_id, due_at) WHERE outcome = 'pending';
CREATE INDEX outcomes_new ON ledger.outcomes (rule_set, changed_at) WHERE outcome = 'pending';
-- Outcomes that may still change; those of settled days stay out of it.
CREATE INDEX outcomes_unsettled ON ledger.outcomes (company_id, rule_set, received_at)
    WHERE state = 'provisional' OR outcome = 'pending';
CREATE INDEX outcomes_pending ON shadow.outcomes (company_id, rule_set, account_id, due_at) WHERE outcome = 'pending';
CREATE INDEX outcomes_unsettled ON shadow.outcomes (company_id, rule_set, received_at)
    WHERE state = 'provisional' OR outcome = 'pending';
CREATE VIEW registry.open_deadlines AS
SELECT rule_set, company_id, account_id, due_at, changed_at FROM ledger.outcomes WHERE outcome = 'pending';
COMMENT ON VIEW registry.open_deadlines IS 'report_v1.due_soon for the fetcher, with when each unit became open.';
GRANT SELECT ON registry.open_deadlines TO replyrate_fetcher;

-- migrate:down
DROP VIEW registry.open_deadlines;
DROP INDEX shadow.outcomes_unsettled, shadow.outcomes_pending;
DROP INDEX ledger.outcomes_unsettled, ledger.outcomes_new, ledger.outcomes_pending;
DROP INDEX ledger.companies_undiagnosed, ledger.companies_diagnosed, ledger.companies_diagnose_again;
ALTER TABLE ledger.companies DROP COLUMN diagnose_again_at;
DROP TRIGGER announced_insert ON registry.accounts;
DROP TRIGGER announced_insert ON registry.coverage;
DROP FUNCTION registry.announce_accounts();
DROP FUNCTION registry.announce_coverage();
DROP TABLE ledger.coverage_reached;
CREATE INDEX dirty_company ON ledger.dirty (company_id);
DROP INDEX ledger.dirty_first, ledger.companies_judged, ledger.companies_unassigned, ledger.companies_partition_due;
DROP INDEX registry.connection_tests_tested, registry.message_counts_day, registry.secrets_key;
DROP INDEX registry.mailboxes_login_hash, registry.mailboxes_age;
DROP TRIGGER counted_update ON registry.mailboxes;
DROP TRIGGER counted_delete ON registry.mailboxes;
DROP TRIGGER counted_insert ON registry.mailboxes;
DROP FUNCTION registry.count_states();
DROP TABLE registry.mailbox_counts;
