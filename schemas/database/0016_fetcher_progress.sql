-- migrate:up
-- additive: yes

-- Progress of a scan survives polls that end between two messages, and refusals that may be temporary are remembered.
ALTER TABLE registry.folders ADD COLUMN scan_below bigint;
COMMENT ON COLUMN registry.folders.scan_below IS
    'Sequence number below which the scan goes on; null: from the newest message. Deletions only lower the sequence number of older mail.';
ALTER TABLE registry.folders ADD COLUMN refused jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN registry.folders.refused IS
    'Messages that the server refused to show with words that may be temporary: UID to time of the first refusal and number of refusals.';

-- Time without reading that the owner of the mailbox caused (login refused, no Sent folder): clocks in it are not trusted.
ALTER TABLE registry.mailboxes ADD COLUMN interrupted_at timestamptz;
COMMENT ON COLUMN registry.mailboxes.interrupted_at IS 'Last poll that failed for a reason that the owner of the mailbox can cause.';
ALTER TABLE registry.mailboxes ADD COLUMN fruitless_polls integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN registry.mailboxes.fruitless_polls IS
    'Polls in a row that ended at a limit without progress in a folder known before; they back off.';
ALTER TABLE registry.mailboxes ADD COLUMN waits_for text COLLATE "C";
COMMENT ON COLUMN registry.mailboxes.waits_for IS 'Provider for whose login slot the mailbox waits until next_poll_at; null: for none.';
CREATE INDEX mailboxes_waiting ON registry.mailboxes (waits_for, next_poll_at) WHERE waits_for IS NOT NULL;

-- migrate:down
DROP INDEX registry.mailboxes_waiting;
ALTER TABLE registry.mailboxes DROP COLUMN waits_for;
ALTER TABLE registry.mailboxes DROP COLUMN fruitless_polls;
ALTER TABLE registry.mailboxes DROP COLUMN interrupted_at;
ALTER TABLE registry.folders DROP COLUMN refused;
ALTER TABLE registry.folders DROP COLUMN scan_below;
