-- migrate:up

-- Tries of the connection test: how often a mailbox was tried in the last hour, and for the operator what happened.
-- Rows are kept for thirty days.
CREATE TABLE registry.connection_tests (
    test_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    company_id text COLLATE "C" NOT NULL REFERENCES registry.companies ON DELETE CASCADE,
    login_hash text NOT NULL,
    tested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    stage text,
    code text NOT NULL DEFAULT 'started',
    detail text
);
CREATE INDEX connection_tests_login ON registry.connection_tests (login_hash, tested_at);
CREATE INDEX connection_tests_company ON registry.connection_tests (company_id, tested_at);
COMMENT ON TABLE registry.connection_tests IS 'Tries of the connection test. Private: the detail names hosts and addresses of the network.';
COMMENT ON COLUMN registry.connection_tests.login_hash IS 'HMAC(key, mailbox, user): one mailbox, whatever host was typed.';
COMMENT ON COLUMN registry.connection_tests.code IS 'passed, the code of what failed, or started for a test that never ended.';
COMMENT ON COLUMN registry.connection_tests.detail IS 'What the operator may know and the seller may not.';
GRANT SELECT, INSERT, UPDATE, DELETE ON registry.connection_tests TO replyrate_fetcher;

-- Refused logins in a row; other failures between them do not count and do not end the row.
ALTER TABLE registry.mailboxes ADD COLUMN login_refusals integer NOT NULL DEFAULT 0;

-- Codes that say more than login-refused and throttled.
INSERT INTO ledger.advice VALUES
    ('authorization-code-needed', 'The provider wants an authorization code instead of the web password: make one in the web mailbox and connect again.', '邮箱服务商要求使用授权码而非网页登录密码：请在网页邮箱生成授权码后重新连接。'),
    ('authorization-code-or-server', 'The code was refused: make a new authorization code, and check that the server is the one of this domain.', '授权码被拒绝：请重新生成授权码，并确认使用的是该域名对应的服务器。'),
    ('client-password-needed', 'Secure login is on: make a client password in the web mailbox and connect again.', '已开启安全登录：请在网页邮箱生成客户端专用密码后重新连接。'),
    ('app-password-needed', 'The provider wants an app password: make one in the account''s security settings and connect again.', '邮箱服务商要求使用应用专用密码：请在账户安全设置中生成后重新连接。'),
    ('oauth2-needed', 'The provider takes no password any more: connect the mailbox by signing in at the provider.', '邮箱服务商已不接受密码：请通过服务商登录授权重新连接。'),
    ('imap-off', 'IMAP is switched off: switch it on in the web mailbox and connect again.', 'IMAP 服务未开启：请在网页邮箱中开启后重新连接。'),
    ('login-unclear', 'The provider refused the login without saying why: check that IMAP is on and the code is right; it is tried again, but seldom.', '邮箱服务商拒绝登录但未说明原因：请确认已开启 IMAP 且授权码正确；系统会低频重试。'),
    ('unsafe-login', 'The provider holds the login back as unsafe: sign in at the web mailbox, confirm that it is you, and connect again.', '邮箱服务商判定登录不安全：请登录网页邮箱完成安全验证后重新连接。'),
    ('too-many-sessions', 'Too many programs are signed in to this mailbox at once; it is tried again later.', '同时登录该邮箱的程序过多，系统会稍后重试。');

-- migrate:down
DELETE FROM ledger.advice WHERE code IN (
    'authorization-code-needed', 'authorization-code-or-server', 'client-password-needed', 'app-password-needed',
    'oauth2-needed', 'imap-off', 'login-unclear', 'unsafe-login', 'too-many-sessions'
);
ALTER TABLE registry.mailboxes DROP COLUMN login_refusals;
DROP TABLE registry.connection_tests;
