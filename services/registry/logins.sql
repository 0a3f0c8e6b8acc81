-- name: holders
-- Mailboxes that hold a login, those of the same company first, and whether an operator lets this company read it too.
SELECT m.company_id, m.mailbox_id, EXISTS (
        SELECT FROM registry.mailbox_links l WHERE l.login_hash = m.login_hash
            AND l.company_id = least(m.company_id, %(company_id)s COLLATE "C")
            AND l.other_company_id = greatest(m.company_id, %(company_id)s COLLATE "C")
    ) AS linked
FROM registry.mailboxes m
WHERE (m.login_hash = %(login_hash)s OR (m.login_hash = %(earlier_hash)s AND m.port = %(port)s))
    AND m.state = ANY (%(connected)s)
    AND (m.company_id, m.mailbox_id) <> (%(company_id)s, %(mailbox_id)s)
ORDER BY m.company_id <> %(company_id)s, m.company_id, m.mailbox_id

-- name: login_hash
-- The hash of the login of a mailbox, and its port.
SELECT login_hash, port FROM registry.mailboxes WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: login
-- The login of a mailbox, sealed, and the state of the mailbox.
SELECT m.state, m.host, m.port, m.tls, m.address_sealed, m.user_sealed, m.sent_override, s.sealed AS secret, s.kind
FROM registry.mailboxes m LEFT JOIN registry.secrets s USING (company_id, mailbox_id)
WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s

-- name: store_secret
-- Stores the sealed password or refresh token of a mailbox.
INSERT INTO registry.secrets (company_id, mailbox_id, sealed, key_id, kind)
VALUES (%(company_id)s, %(mailbox_id)s, %(sealed)s, %(key_id)s, %(kind)s)
ON CONFLICT (company_id, mailbox_id) DO UPDATE
SET sealed = excluded.sealed, key_id = excluded.key_id, kind = excluded.kind, changed_at = clock_timestamp()
