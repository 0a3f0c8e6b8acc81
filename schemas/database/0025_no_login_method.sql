-- migrate:up
-- additive: yes

INSERT INTO ledger.advice VALUES
    ('no-login-method', 'The mail server accepts no password and offers no sign-in: ask its administrator to allow logins with a password over TLS, and connect again.', '邮件服务器不接受密码，也未提供登录授权：请联系管理员允许通过 TLS 使用密码登录，然后重新连接。')
ON CONFLICT (code) DO NOTHING;

-- migrate:down
DELETE FROM ledger.advice WHERE code = 'no-login-method';
