-- name: add_company
-- Adds a company unless it is registered already.
INSERT INTO registry.companies (company_id) VALUES (%(company_id)s) ON CONFLICT DO NOTHING RETURNING company_id

-- name: company
-- A company; no row when it is not registered.
SELECT company_id FROM registry.companies WHERE company_id = %(company_id)s
