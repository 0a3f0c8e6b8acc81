-- migrate:up
-- additive: yes

-- Servers that offer nothing but port 143: TLS starts there with the command STARTTLS.
ALTER TABLE registry.mailboxes ADD COLUMN tls text COLLATE "C" NOT NULL DEFAULT 'implicit'
    CHECK (tls IN ('implicit', 'starttls'));
COMMENT ON COLUMN registry.mailboxes.tls IS
    'When TLS starts: with the first byte (implicit) or after the command STARTTLS. It is verified in both cases, and nothing is sent without it.';
COMMENT ON COLUMN registry.mailboxes.login_hash IS
    'HMAC(key, mailbox, host, user), with host:port for a port other than 993 and 143: finds one mailbox in two companies.';

INSERT INTO ledger.advice VALUES
    ('starttls-missing', 'The server offers no encryption on this port; connect with port 993, or another mailbox.', '服务器在此端口不支持加密，请使用 993 端口重新连接，或连接其他邮箱。'),
    ('starttls-unsafe', 'Before the encryption something was sent that must not be there; connect from another network, or ask the provider.', '加密开始前收到了不应出现的数据，请更换网络后重新连接，或咨询服务商。')
ON CONFLICT (code) DO NOTHING;

-- migrate:down
DELETE FROM ledger.advice WHERE code IN ('starttls-missing', 'starttls-unsafe');
COMMENT ON COLUMN registry.mailboxes.login_hash IS 'HMAC(key, mailbox, host, user): finds one mailbox in two companies.';
ALTER TABLE registry.mailboxes DROP COLUMN tls;
