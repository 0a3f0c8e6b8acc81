-- migrate:up
-- additive: yes

-- What the pages of operators in the console read and change (docs/decisions/0093). Where a row may be changed, a policy asks for the
-- session of an operator, so the console's own check of the role is not the only one.

ALTER TABLE registry.api_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY services ON registry.api_keys TO replyrate_fetcher USING (true);
CREATE POLICY operators ON registry.api_keys TO replyrate_console USING ((SELECT registry.staff_role()) = 'operator');
-- Not the hashes of secrets.
GRANT SELECT (key_id, name, scopes, company_prefix, created_by, created_at, expires_at, revoked_at, revoked_by, last_used_on),
    INSERT (key_id, secret_hash, name, scopes, company_prefix, created_by, expires_at), UPDATE (expires_at, revoked_at, revoked_by)
    ON registry.api_keys TO replyrate_console;

-- A replay of a dead letter has its mailbox read again.
CREATE POLICY operators ON registry.mailboxes FOR UPDATE TO replyrate_console
    USING ((SELECT registry.staff_role()) = 'operator' AND starts_with(company_id, (SELECT registry.key_prefix())));
GRANT UPDATE (reconcile_after, next_poll_at) ON registry.mailboxes TO replyrate_console;

-- Rule sets: a recompute is begun or ended here, and carried out by aggregators. UPDATE of a column is what SELECT … FOR UPDATE needs.
ALTER TABLE ledger.recomputes ENABLE ROW LEVEL SECURITY;
CREATE POLICY services ON ledger.recomputes TO replyrate_aggregator USING (true);
CREATE POLICY operators ON ledger.recomputes TO replyrate_console USING ((SELECT registry.staff_role()) = 'operator');
GRANT SELECT, INSERT (rule_set, identity, parameters, from_day, to_day), UPDATE (begun_at), DELETE ON ledger.recomputes TO replyrate_console;
GRANT SELECT ON ledger.recomputed TO replyrate_console;
DO $$
DECLARE table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['shadow.rates', 'shadow.outcomes', 'shadow.corrections', 'shadow.outcome_history', 'shadow.settled',
        'ledger.recomputed'] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('CREATE POLICY services ON %s TO replyrate_aggregator USING (true)', table_name);
        EXECUTE format('CREATE POLICY operators ON %s TO replyrate_console USING ((SELECT registry.staff_role()) = ''operator'')', table_name);
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA shadow TO replyrate_console;
GRANT SELECT (rule_set), DELETE ON shadow.rates, shadow.outcomes, shadow.corrections, shadow.outcome_history, shadow.settled
    TO replyrate_console;

-- A comparison of rule sets judges into temporary tables.
DO $$ BEGIN
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO replyrate_console', current_database());
END $$;

-- The overview.
GRANT SELECT ON ledger.offsets, registry.mailbox_counts TO replyrate_console;
GRANT SELECT (due_at) ON ledger.companies TO replyrate_console;
GRANT SELECT (since) ON ledger.dirty TO replyrate_console;
GRANT SELECT (provider, kind, free_at) ON registry.login_slots TO replyrate_console;
GRANT SELECT (waits_for, lease_until) ON registry.mailboxes TO replyrate_console;

-- migrate:down
DO $$ BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM replyrate_console', current_database());
END $$;
REVOKE UPDATE (reconcile_after, next_poll_at) ON registry.mailboxes FROM replyrate_console;
DROP POLICY operators ON registry.mailboxes;
DROP POLICY operators ON ledger.recomputes;
DROP POLICY services ON ledger.recomputes;
ALTER TABLE ledger.recomputes DISABLE ROW LEVEL SECURITY;
DROP POLICY operators ON registry.api_keys;
DROP POLICY services ON registry.api_keys;
ALTER TABLE registry.api_keys DISABLE ROW LEVEL SECURITY;
REVOKE ALL ON registry.api_keys, registry.mailbox_counts, registry.login_slots FROM replyrate_console;
DO $$
DECLARE table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['shadow.rates', 'shadow.outcomes', 'shadow.corrections', 'shadow.outcome_history', 'shadow.settled',
        'ledger.recomputed'] LOOP
        EXECUTE format('DROP POLICY operators ON %s', table_name);
        EXECUTE format('DROP POLICY services ON %s', table_name);
        EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', table_name);
    END LOOP;
END $$;
REVOKE ALL ON ledger.recomputes, ledger.recomputed, ledger.offsets FROM replyrate_console;
REVOKE ALL ON ALL TABLES IN SCHEMA shadow FROM replyrate_console;
REVOKE USAGE ON SCHEMA shadow FROM replyrate_console;
