-- migrate:up

-- Who may do what. Roles without login: an operator grants them to the users of the services. They belong to the whole
-- server, so another database of the same server may have made them before.
DO $$
DECLARE role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['replyrate_fetcher', 'replyrate_aggregator', 'replyrate_dashboard'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- made at the same moment by the migration of another database
            END;
        END IF;
    END LOOP;
END $$;

REVOKE ALL ON SCHEMA registry, ledger, report_v1, replyrate FROM PUBLIC;
GRANT USAGE ON SCHEMA replyrate TO replyrate_fetcher, replyrate_aggregator;
GRANT SELECT ON replyrate.migrations TO replyrate_fetcher, replyrate_aggregator;

GRANT USAGE ON SCHEMA registry TO replyrate_fetcher, replyrate_aggregator;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA registry TO replyrate_fetcher;
REVOKE UPDATE, DELETE ON registry.coverage FROM replyrate_fetcher;
GRANT SELECT ON registry.accounts, registry.coverage, registry.mailboxes TO replyrate_aggregator;

GRANT USAGE ON SCHEMA ledger TO replyrate_aggregator;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ledger TO replyrate_aggregator;
GRANT EXECUTE ON FUNCTION ledger.smallest(text[], text[]) TO replyrate_aggregator;

GRANT USAGE ON SCHEMA report_v1 TO replyrate_dashboard;
GRANT SELECT ON ALL TABLES IN SCHEMA report_v1 TO replyrate_dashboard;

-- migrate:down
REVOKE ALL ON ALL TABLES IN SCHEMA registry, ledger, report_v1, replyrate FROM replyrate_fetcher, replyrate_aggregator, replyrate_dashboard;
