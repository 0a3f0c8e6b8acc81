-- migrate:up
-- additive: yes

-- The account that an archived inquiry belongs to: its panel says when the inquiry was archived, as that of the main account does.
ALTER TABLE ledger.archived_inquiries ADD COLUMN account_id text COLLATE "C";
COMMENT ON COLUMN ledger.archived_inquiries.account_id IS
    'The account of its outcomes; null if rule sets attribute it to different ones, and in rows from before this column.';

-- Unlike facts, which the statement that judges needs (docs/decisions/0081), no statement of a sub-account needs those of others.
ALTER POLICY panel ON ledger.archived_inquiries USING (
    company_id = (SELECT registry.panel_main_company())
    OR (company_id, account_id) = (SELECT panel.company_id, panel.account_id FROM registry.panel_session() panel)
);

-- migrate:down
ALTER POLICY panel ON ledger.archived_inquiries USING (company_id = (SELECT registry.panel_company()));
ALTER TABLE ledger.archived_inquiries DROP COLUMN account_id;
