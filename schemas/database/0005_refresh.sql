-- migrate:up

-- From when on a changed fact counts: a row of reply_rate is judged at the end of its day and knows only what happened
-- before, so a refresh judges no day again that ended earlier.
ALTER TABLE ledger.dirty ADD COLUMN earliest timestamptz NOT NULL DEFAULT '-infinity';
COMMENT ON COLUMN ledger.dirty.earliest IS 'Instant of the earliest fact that changed; -infinity: every day is judged again.';

-- migrate:down
ALTER TABLE ledger.dirty DROP COLUMN earliest;
