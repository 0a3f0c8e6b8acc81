-- migrate:up
-- additive: yes

-- A slot is taken in the order of the index, whatever number of slots the limit allows: before, every slot that was never used
-- was read and sorted for each login.
CREATE INDEX login_slots_order ON registry.login_slots (provider, kind, free_at, number);
DROP INDEX registry.login_slots_free;
-- A lease changes no indexed column: with room in its page the row is rewritten there, and no index is.
ALTER TABLE registry.mailboxes SET (fillfactor = 70);

-- migrate:down
ALTER TABLE registry.mailboxes RESET (fillfactor);
CREATE INDEX login_slots_free ON registry.login_slots (provider, kind, free_at);
DROP INDEX registry.login_slots_order;
