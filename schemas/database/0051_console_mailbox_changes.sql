-- migrate:up
-- additive: yes

-- Operators pause and resume mailboxes in the console (docs/decisions/0093). The policy of 0047 asks for the session of an operator; a
-- trigger limits which states the login of the console may set, because a policy cannot compare a row with what it was.
GRANT UPDATE (state, state_reason, state_changed_at, failures, login_refusals, lease_owner, lease_until, lease_epoch, reconnected_at)
    ON registry.mailboxes TO replyrate_console;
CREATE POLICY operators ON registry.mailbox_history FOR INSERT TO replyrate_console
    WITH CHECK ((SELECT registry.staff_role()) = 'operator' AND starts_with(company_id, (SELECT registry.key_prefix())));
GRANT INSERT ON registry.mailbox_history TO replyrate_console;

CREATE FUNCTION registry.limit_console() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_has_role(session_user, 'replyrate_console', 'MEMBER') AND NOT pg_has_role(session_user, 'replyrate_portal', 'MEMBER')
        AND ((OLD.state, NEW.state) NOT IN (('active', 'paused'), ('paused', 'active'))
            OR OLD.reconnected_at IS DISTINCT FROM NEW.reconnected_at)
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'the console may pause and resume a mailbox, and not change its state otherwise';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION registry.limit_console() IS 'Refuses changes of state by the console other than pausing and resuming.';
REVOKE EXECUTE ON FUNCTION registry.limit_console() FROM PUBLIC;
CREATE TRIGGER console_limits BEFORE UPDATE OF state, reconnected_at ON registry.mailboxes FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.reconnected_at IS DISTINCT FROM NEW.reconnected_at)
    EXECUTE FUNCTION registry.limit_console();

-- migrate:down
DROP TRIGGER console_limits ON registry.mailboxes;
DROP FUNCTION registry.limit_console();
REVOKE INSERT ON registry.mailbox_history FROM replyrate_console;
DROP POLICY operators ON registry.mailbox_history;
REVOKE UPDATE (state, state_reason, state_changed_at, failures, login_refusals, lease_owner, lease_until, lease_epoch, reconnected_at)
    ON registry.mailboxes FROM replyrate_console;
