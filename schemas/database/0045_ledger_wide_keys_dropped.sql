-- migrate:up
-- additive: yes

-- What 0044 made takes their place.
ALTER TABLE ledger.replies DROP CONSTRAINT replies_pkey;
ALTER TABLE ledger.outcome_history DROP CONSTRAINT outcome_history_pkey;

-- migrate:down
ALTER TABLE ledger.outcome_history ADD PRIMARY KEY (rule_set, company_id, inquiry_id, revision);
ALTER TABLE ledger.replies ADD PRIMARY KEY (
    company_id, inquiry_id, reply_id, source, account_id, mailbox_id, replied_at, evidence, kind, kind_reason, matched_by
);
