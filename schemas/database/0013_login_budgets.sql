-- migrate:up
-- additive: yes

-- Logins and sessions that fetchers and connection tests have together at a provider. A row is one slot: whoever takes it
-- moves `free_at`, so that no count is made and nobody waits. Rows are made as they are needed, and go a day after their
-- last use.
CREATE TABLE registry.login_slots (
    provider text COLLATE "C" NOT NULL CHECK (length(provider) BETWEEN 1 AND 253),
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('login', 'session')),
    number integer NOT NULL CHECK (number >= 1),
    free_at timestamptz NOT NULL DEFAULT '-infinity',
    holder text,
    PRIMARY KEY (provider, kind, number)
);
CREATE INDEX login_slots_free ON registry.login_slots (provider, kind, free_at);
COMMENT ON TABLE registry.login_slots IS 'Budgets of logins in an hour and of sessions at once, per provider, across all fetchers.';
COMMENT ON COLUMN registry.login_slots.provider IS 'Id in the directory of providers, else the host.';
COMMENT ON COLUMN registry.login_slots.free_at IS 'When the slot may be taken again: a login''s after an hour, a session''s when it ends, or when its holder must be dead.';
COMMENT ON COLUMN registry.login_slots.holder IS 'Who took it last: a session is given back by its holder alone.';
GRANT SELECT, INSERT, UPDATE, DELETE ON registry.login_slots TO replyrate_fetcher;

INSERT INTO ledger.advice VALUES
    ('provider-busy', 'The mailbox was not tried, since we sign in at its provider as often as we may already; connect it again in an hour.', '本系统登录该邮箱服务商的次数已达上限，尚未测试；请一小时后重新连接。');

-- migrate:down
DELETE FROM ledger.advice WHERE code = 'provider-busy';
DROP TABLE registry.login_slots;
