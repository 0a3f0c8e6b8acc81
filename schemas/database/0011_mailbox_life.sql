-- migrate:up
-- additive: yes

-- The life of a mailbox: who consented to what and who withdrew it, which state may follow which, every change of state,
-- and logins that an operator lets two companies read.

CREATE TABLE registry.consents (
    consent_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    company_id text COLLATE "C" NOT NULL,
    mailbox_id text COLLATE "C" NOT NULL,
    consented_by text NOT NULL CHECK (length(consented_by) BETWEEN 1 AND 200),
    consented_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    text_version text NOT NULL,
    language text NOT NULL,
    withdrawn_by text,
    withdrawn_at timestamptz,
    FOREIGN KEY (company_id, mailbox_id) REFERENCES registry.mailboxes ON DELETE CASCADE
);
CREATE INDEX consents_mailbox ON registry.consents (company_id, mailbox_id);
COMMENT ON TABLE registry.consents IS 'Who consented that a Sent folder is read, when, and to which text of services/fetcher/consent.toml; who withdrew it.';

-- Owners of before consented to text 1, the sentence of the first release.
INSERT INTO registry.consents (company_id, mailbox_id, consented_by, consented_at, text_version, language, withdrawn_by, withdrawn_at)
SELECT company_id, mailbox_id, left(consent_by, 200), consent_at, consent_text_version, 'en',
    CASE WHEN state = 'removed' THEN 'not recorded' END, removed_at
FROM registry.mailboxes WHERE consent_by <> '';

-- The same pairs as in services/fetcher/states.toml; a test compares them.
CREATE TABLE registry.mailbox_moves (
    from_state text NOT NULL,
    to_state text NOT NULL,
    PRIMARY KEY (from_state, to_state)
);
COMMENT ON TABLE registry.mailbox_moves IS 'Which state of a mailbox may follow which; drawn in docs/mailbox-states.md.';
INSERT INTO registry.mailbox_moves VALUES
    ('pending_test', 'pending_test'), ('pending_test', 'refused'), ('pending_test', 'active'), ('pending_test', 'removed'),
    ('refused', 'pending_test'), ('refused', 'removed'),
    ('active', 'active'), ('active', 'paused'), ('active', 'needs_reconnect'), ('active', 'synced_by_platform'),
    ('active', 'removed'),
    ('paused', 'active'), ('paused', 'needs_reconnect'), ('paused', 'synced_by_platform'), ('paused', 'removed'),
    ('needs_reconnect', 'active'), ('needs_reconnect', 'needs_reconnect'), ('needs_reconnect', 'synced_by_platform'),
    ('needs_reconnect', 'removed'),
    ('synced_by_platform', 'needs_reconnect'), ('synced_by_platform', 'removed');

CREATE TABLE registry.mailbox_history (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    company_id text COLLATE "C" NOT NULL,
    mailbox_id text COLLATE "C" NOT NULL,
    from_state text,
    to_state text NOT NULL,
    reason text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by text NOT NULL,
    FOREIGN KEY (company_id, mailbox_id) REFERENCES registry.mailboxes ON DELETE CASCADE
);
CREATE INDEX mailbox_history_mailbox ON registry.mailbox_history (company_id, mailbox_id, change_id);
COMMENT ON TABLE registry.mailbox_history IS 'Every change of a mailbox''s state since this table is there. Written by a trigger alone.';
COMMENT ON COLUMN registry.mailbox_history.from_state IS 'Null: the mailbox is new.';
COMMENT ON COLUMN registry.mailbox_history.reason IS 'A code of services/fetcher/states.toml or connection_texts.toml.';
COMMENT ON COLUMN registry.mailbox_history.changed_by IS 'Who asked for it, or the program that did it.';

ALTER TABLE registry.mailboxes
    ADD COLUMN reconnected_at timestamptz,
    ADD COLUMN expected_from timestamptz,
    ADD COLUMN linked boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN registry.mailboxes.reconnected_at IS 'When new credentials last passed the connection test.';
COMMENT ON COLUMN registry.mailboxes.expected_from IS 'From when on it can be complete, as the connection test saw it; complete_from is what polls found.';
COMMENT ON COLUMN registry.mailboxes.linked IS 'Another company held this login when it was connected, and an operator had linked the two.';
COMMENT ON COLUMN registry.mailboxes.consent_by IS 'As at the first connection; registry.consents has every consent.';

-- A reason that changes while somebody must act is a change; the passing troubles of an active mailbox are none.
CREATE FUNCTION registry.note_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NOT EXISTS (
        SELECT FROM registry.mailbox_moves m WHERE m.from_state = OLD.state AND m.to_state = NEW.state
    ) THEN
        RAISE check_violation USING MESSAGE = format('a mailbox that is %s cannot become %s', OLD.state, NEW.state),
            HINT = 'docs/mailbox-states.md draws what can become what';
    END IF;
    INSERT INTO registry.mailbox_history (company_id, mailbox_id, from_state, to_state, reason, changed_by)
    VALUES (
        NEW.company_id, NEW.mailbox_id, CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state,
        coalesce(NEW.state_reason, nullif(current_setting('replyrate.reason', true), '')),
        coalesce(nullif(current_setting('replyrate.actor', true), ''), nullif(current_setting('application_name'), ''), session_user)
    );
    RETURN NULL;
END $$;
COMMENT ON FUNCTION registry.note_state() IS 'Refuses a change of state that registry.mailbox_moves does not have, and writes the others down.';
REVOKE EXECUTE ON FUNCTION registry.note_state() FROM PUBLIC;
CREATE TRIGGER born AFTER INSERT ON registry.mailboxes FOR EACH ROW EXECUTE FUNCTION registry.note_state();
CREATE TRIGGER moved AFTER UPDATE ON registry.mailboxes FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.reconnected_at IS DISTINCT FROM NEW.reconnected_at
        OR NEW.state IN ('pending_test', 'needs_reconnect') AND OLD.state_reason IS DISTINCT FROM NEW.state_reason)
    EXECUTE FUNCTION registry.note_state();

-- Two companies that may read one login. Symmetrical; a line for each pair.
CREATE TABLE registry.mailbox_links (
    login_hash text NOT NULL,
    company_id text COLLATE "C" NOT NULL REFERENCES registry.companies ON DELETE CASCADE,
    other_company_id text COLLATE "C" NOT NULL REFERENCES registry.companies ON DELETE CASCADE,
    linked_by text NOT NULL,
    linked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (login_hash, company_id, other_company_id),
    CHECK (company_id < other_company_id)
);
COMMENT ON TABLE registry.mailbox_links IS 'Logins that an operator lets two companies connect; each reads the mailbox by itself.';

-- An attempt holds no login: a wrong password must not keep the owner out. Of an account and role there is one attempt.
DROP INDEX registry.mailboxes_login;
CREATE UNIQUE INDEX mailboxes_login ON registry.mailboxes (login_hash)
    WHERE state IN ('active', 'paused', 'needs_reconnect', 'synced_by_platform') AND NOT linked;
CREATE UNIQUE INDEX mailboxes_company_login ON registry.mailboxes (company_id, login_hash)
    WHERE state IN ('active', 'paused', 'needs_reconnect', 'synced_by_platform');
CREATE UNIQUE INDEX mailboxes_attempt ON registry.mailboxes (company_id, account_id, role)
    WHERE state IN ('pending_test', 'refused');

GRANT SELECT, INSERT, UPDATE ON registry.consents TO replyrate_fetcher;
GRANT SELECT, INSERT ON registry.mailbox_history TO replyrate_fetcher;
GRANT SELECT ON registry.mailbox_moves TO replyrate_fetcher;
GRANT SELECT, INSERT, DELETE ON registry.mailbox_links TO replyrate_fetcher;

-- What was withdrawn before leaves no more behind than what is withdrawn from now on.
DELETE FROM registry.published p USING registry.mailboxes m
WHERE m.company_id = p.company_id AND m.mailbox_id = p.mailbox_id AND m.state = 'removed';
DELETE FROM registry.folders f USING registry.mailboxes m
WHERE m.company_id = f.company_id AND m.mailbox_id = f.mailbox_id AND m.state = 'removed';
DELETE FROM registry.other_folders f USING registry.mailboxes m
WHERE m.company_id = f.company_id AND m.mailbox_id = f.mailbox_id AND m.state = 'removed';
UPDATE registry.mailboxes SET address_masked = '', address_hash = '', login_hash = '', sent_override = NULL WHERE state = 'removed';

INSERT INTO ledger.advice VALUES
    ('provider-unsupported', 'This provider offers no IMAP, so its mailboxes cannot be read; connect another mailbox.', '该服务商不提供 IMAP，无法读取其邮箱，请连接其他邮箱。'),
    ('platform-sync-ended', 'The platform does not sync this account any more: connect the mailbox again.', '平台不再同步该账号的回复，请重新连接邮箱。'),
    ('pop-host', 'A POP3 server was named; connect with the provider''s IMAP server.', '填写的是 POP3 服务器，请使用服务商的 IMAP 服务器重新连接。'),
    ('smtp-host', 'A server for sending mail was named; connect with the provider''s IMAP server.', '填写的是发信（SMTP）服务器，请使用服务商的 IMAP 服务器重新连接。'),
    ('pop-port', 'The port is one of POP3; connect with port 993.', '填写的是 POP3 端口，请使用 993 端口重新连接。'),
    ('smtp-port', 'The port is one for sending mail; connect with port 993.', '填写的是发信端口，请使用 993 端口重新连接。'),
    ('plain-port', 'The port is not encrypted; connect with port 993.', '填写的端口未加密，请使用 993 端口重新连接。'),
    ('other-domains-host', 'The server belongs to another domain of the provider; connect with the one of this address.', '填写的服务器属于该服务商的其他域名，请使用该邮箱域名对应的服务器重新连接。'),
    ('folder-missing', 'The named Sent folder cannot be opened; connect again with its name as the server lists it.', '无法打开指定的已发送文件夹，请按服务器上的名称重新连接。'),
    ('tries-spent', 'The mailbox was tried too often; wait an hour, then connect it again.', '尝试次数过多，请一小时后重新连接。')
ON CONFLICT (code) DO NOTHING;

-- migrate:down
DELETE FROM ledger.advice WHERE code IN (
    'provider-unsupported', 'platform-sync-ended', 'pop-host', 'smtp-host', 'pop-port', 'smtp-port', 'plain-port',
    'other-domains-host', 'folder-missing', 'tries-spent'
);
DROP TRIGGER born ON registry.mailboxes;
DROP TRIGGER moved ON registry.mailboxes;
DROP FUNCTION registry.note_state();
DROP INDEX registry.mailboxes_attempt, registry.mailboxes_company_login, registry.mailboxes_login;
DELETE FROM registry.mailboxes WHERE state IN ('pending_test', 'refused') OR linked;
CREATE UNIQUE INDEX mailboxes_login ON registry.mailboxes (login_hash) WHERE state <> 'removed';
ALTER TABLE registry.mailboxes DROP COLUMN reconnected_at, DROP COLUMN expected_from, DROP COLUMN linked;
DROP TABLE registry.mailbox_links, registry.mailbox_history, registry.mailbox_moves, registry.consents;
