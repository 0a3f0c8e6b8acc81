-- migrate:up
-- additive: yes

-- A poll no longer adds a row for ever: the fetcher deletes rows of which a later row says the same at every instant that can be
-- asked for (docs/decisions/0054). What remains is a part of the history as it was, so older releases read it as before.

ALTER TABLE registry.coverage ADD COLUMN superseded_at timestamptz;
COMMENT ON COLUMN registry.coverage.superseded_at IS
    'From here on a later row, recorded at this instant and kept, says all that this one says; null: there is none, or it is not known yet.';
CREATE INDEX coverage_in_force ON registry.coverage (
    company_id, coalesce(superseded_at, 'infinity'::timestamptz), account_id, mailbox_id, recorded_at
);

-- At the ends of their days rows of reply_rate are judged: of the built-in rule sets, of those that are or were active, and of
-- those being computed; Asia/Shanghai, since sellers and their days are there.
CREATE VIEW registry.coverage_zones AS
SELECT unnest(ARRAY['UTC', 'America/Los_Angeles', 'Asia/Shanghai']) COLLATE "C" AS time_zone
UNION SELECT (rules.parameters ->> 'time_zone') COLLATE "C" FROM ledger.rule_sets rules
UNION SELECT (recompute.parameters ->> 'time_zone') COLLATE "C" FROM ledger.recomputes recompute;
COMMENT ON VIEW registry.coverage_zones IS 'Time zones at the ends of whose days it stays known how far mailboxes had been read.';

CREATE VIEW registry.coverage_counted AS
SELECT coalesce(min(passed_at), 'infinity') AS passed_at FROM ledger.pipeline;
COMMENT ON VIEW registry.coverage_counted IS 'Everything published before this instant has been counted, in every partition.';

GRANT SELECT ON registry.coverage_zones, registry.coverage_counted TO replyrate_fetcher;
GRANT DELETE, UPDATE (superseded_at) ON registry.coverage TO replyrate_fetcher;

-- migrate:down
REVOKE DELETE, UPDATE (superseded_at) ON registry.coverage FROM replyrate_fetcher;
DROP VIEW registry.coverage_counted, registry.coverage_zones;
DROP INDEX registry.coverage_in_force;
ALTER TABLE registry.coverage DROP COLUMN superseded_at;
