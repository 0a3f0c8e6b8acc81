-- migrate:up

-- A company's own dashboard login sees its own rows. The views of report_company_v1 are those of report_v1, each with one
-- condition more: the company is one that the login is given in access.dashboards. Who is not listed sees nothing, and a
-- view that this schema does not repeat is not seen at all.

CREATE SCHEMA access;
COMMENT ON SCHEMA access IS 'Which dashboard login may see which companies. Private; the operator writes it.';
CREATE TABLE access.dashboards (
    role_name name NOT NULL,
    company_id text COLLATE "C" NOT NULL CHECK (length(company_id) BETWEEN 1 AND 128),
    PRIMARY KEY (role_name, company_id)
);
COMMENT ON TABLE access.dashboards IS 'A login of the role replyrate_company, and a company that it may see.';

CREATE SCHEMA report_company_v1;
COMMENT ON SCHEMA report_company_v1 IS 'The views of report_v1, but for each login only the companies it is given.';

-- Repeats the views of report_v1 that are there now; a migration that adds a view or a column calls it again.
-- security_barrier: no function of the reader's own gets to see a row before its company is known to be the reader's.
CREATE PROCEDURE access.repeat_views() LANGUAGE plpgsql AS $$
DECLARE found record;
BEGIN
    FOR found IN
        SELECT c.relname AS name, obj_description(c.oid) AS comment FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'report_v1' AND c.relkind = 'v'
            AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'company_id')
        ORDER BY 1
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE VIEW report_company_v1.%1$I WITH (security_barrier) AS SELECT v.* FROM report_v1.%1$I v '
            'WHERE v.company_id IN (SELECT a.company_id FROM access.dashboards a WHERE a.role_name = current_user)',
            found.name
        );
        EXECUTE format('COMMENT ON VIEW report_company_v1.%I IS %L', found.name, found.comment);
        EXECUTE format('GRANT SELECT ON report_company_v1.%I TO replyrate_company', found.name);
    END LOOP;
END $$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'replyrate_company') THEN
        CREATE ROLE replyrate_company NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- made at the same moment by the migration of another database
END $$;

REVOKE ALL ON SCHEMA access, report_company_v1 FROM PUBLIC;
GRANT USAGE ON SCHEMA report_company_v1 TO replyrate_company;
CALL access.repeat_views();

-- Functions may be called by everybody unless it is said otherwise.
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA replyrate, registry, ledger, shadow, access FROM PUBLIC;

-- migrate:down
DROP SCHEMA report_company_v1 CASCADE;
DROP SCHEMA access CASCADE;
