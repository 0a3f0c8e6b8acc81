-- migrate:up
-- additive: yes

-- That an outcome became final, and changed in nothing else, is stored with the outcome and not as a copy of it in the history
-- (docs/decisions/0095). An aggregator of the earlier release leaves these columns as they are, and they stay right.
ALTER TABLE ledger.outcomes ADD COLUMN provisional_at timestamptz, ADD COLUMN provisional_revision integer;
COMMENT ON COLUMN ledger.outcomes.provisional_at IS 'When the revision was made that differed from the next one only in being provisional.';
COMMENT ON COLUMN ledger.outcomes.provisional_revision IS 'Which revision that was; null: there was none, or ledger.outcome_history has it.';
ALTER TABLE shadow.outcomes ADD COLUMN provisional_at timestamptz, ADD COLUMN provisional_revision integer;

-- After a crash of Postgres a recompute starts again, so what it has written by then needs no write-ahead log. A crash empties all of these.
ALTER TABLE shadow.outcomes SET UNLOGGED;
ALTER TABLE shadow.rates SET UNLOGGED;
ALTER TABLE shadow.corrections SET UNLOGGED;
ALTER TABLE shadow.outcome_history SET UNLOGGED;
ALTER TABLE shadow.settled SET UNLOGGED;
ALTER TABLE ledger.recomputed SET UNLOGGED;

-- Rows that a judgement replaces are vacuumed before they are a fifth of the table.
ALTER TABLE ledger.outcomes SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE ledger.rate_ranges SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE ledger.inquiries SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE ledger.diagnoses SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- migrate:down
INSERT INTO ledger.outcome_history (rule_set, company_id, inquiry_id, revision, rule_version, account_id, outcome, reason, first_reply_at,
    state, changed_at)
SELECT final.rule_set, final.company_id, final.inquiry_id, final.provisional_revision, version.rule_version, version.account_id,
    version.outcome, version.reason, version.first_reply_at, 'provisional', final.provisional_at
FROM ledger.outcomes final CROSS JOIN LATERAL (
    SELECT revision, rule_version, account_id, outcome, reason, first_reply_at FROM ledger.outcome_history history
    WHERE history.rule_set = final.rule_set AND history.company_id = final.company_id AND history.inquiry_id = final.inquiry_id
        AND history.revision > final.provisional_revision
    UNION ALL
    SELECT final.revision, final.rule_version, final.account_id, final.outcome, final.reason, final.first_reply_at
    ORDER BY revision LIMIT 1
) version WHERE final.provisional_revision IS NOT NULL;
ALTER TABLE ledger.recomputed SET LOGGED;
ALTER TABLE shadow.settled SET LOGGED;
ALTER TABLE shadow.outcome_history SET LOGGED;
ALTER TABLE shadow.corrections SET LOGGED;
ALTER TABLE shadow.rates SET LOGGED;
ALTER TABLE shadow.outcomes SET LOGGED;
ALTER TABLE ledger.diagnoses RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay);
ALTER TABLE ledger.inquiries RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay);
ALTER TABLE ledger.rate_ranges RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay);
ALTER TABLE ledger.outcomes RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay);
ALTER TABLE shadow.outcomes DROP COLUMN provisional_at, DROP COLUMN provisional_revision;
ALTER TABLE ledger.outcomes DROP COLUMN provisional_at, DROP COLUMN provisional_revision;
