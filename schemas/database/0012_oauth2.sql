-- migrate:up
-- additive: yes

-- A secret may be a refresh token. It is sealed for another place than a password, so a release that does not know this
-- column cannot open it and sends it to no server as a password.
ALTER TABLE registry.secrets
    ADD COLUMN kind text NOT NULL DEFAULT 'password' CHECK (kind IN ('password', 'oauth2'));
COMMENT ON COLUMN registry.secrets.kind IS 'What is sealed: a password, or the refresh token of a sign-in (OAuth2).';

INSERT INTO ledger.advice VALUES
    ('oauth2-grant-ended', 'The sign-in at the provider has ended: connect the mailbox again by signing in.', '服务商的登录授权已失效：请重新登录授权连接该邮箱。'),
    ('oauth2-login-refused', 'The mail server refused the sign-in: check that IMAP is on and that the account is the one of this mailbox, and connect again.', '邮件服务器拒绝了登录授权：请确认已开启 IMAP 且授权账户与该邮箱一致，然后重新连接。'),
    ('oauth2-not-offered', 'This mail server offers no sign-in: connect the mailbox with a password.', '该邮件服务器不支持登录授权：请改用密码连接。'),
    ('oauth2-unavailable', 'The provider''s sign-in service does not answer; it is tried again.', '服务商的授权服务暂无响应，系统会稍后重试。'),
    ('oauth2-client-refused', 'The provider refuses our application; the operator must correct its registration.', '服务商拒绝了本系统的应用，须由运营方更正应用注册。'),
    ('oauth2-not-set-up', 'Sign-in is not set up for this provider; the operator must do it.', '尚未为该服务商配置登录授权，须由运营方配置。')
ON CONFLICT (code) DO NOTHING;

-- migrate:down
DELETE FROM ledger.advice WHERE code IN (
    'oauth2-grant-ended', 'oauth2-login-refused', 'oauth2-not-offered', 'oauth2-unavailable', 'oauth2-client-refused',
    'oauth2-not-set-up'
);
DELETE FROM registry.secrets WHERE kind = 'oauth2';
ALTER TABLE registry.secrets DROP COLUMN kind;
