-- by hand
-- name: count_sealed
-- How many mailboxes and addresses have sealed values.
SELECT (SELECT count(*) FROM registry.mailboxes WHERE user_sealed IS NOT NULL)
    + (SELECT count(*) FROM registry.addresses) AS count

-- name: sealed_mailboxes
-- Sealed values of the next mailboxes after the given key; their rows stay locked until they are sealed again.
SELECT m.company_id, m.mailbox_id, m.host, m.port, m.address_sealed, m.user_sealed, s.sealed AS secret, s.kind
FROM registry.mailboxes m LEFT JOIN registry.secrets s USING (company_id, mailbox_id)
WHERE (m.company_id, m.mailbox_id) > (%(company_id)s, %(mailbox_id)s) AND m.user_sealed IS NOT NULL
ORDER BY m.company_id, m.mailbox_id LIMIT %(count)s FOR UPDATE OF m

-- name: sealed_addresses
-- Sealed addresses of the next accounts after the given key; their rows stay locked until they are sealed again.
SELECT company_id, account_id, role, address_sealed FROM registry.addresses
WHERE (company_id, account_id, role) > (%(company_id)s, %(account_id)s, %(role)s)
ORDER BY company_id, account_id, role LIMIT %(count)s FOR UPDATE

-- name: seal_mailbox
-- The same values sealed with another key.
UPDATE registry.mailboxes SET address_sealed = %(address)s, user_sealed = %(user)s
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: seal_secret
-- The same password or refresh token sealed with another key.
UPDATE registry.secrets SET sealed = %(sealed)s, key_id = %(key_id)s
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s

-- name: seal_address
-- The same address sealed with another key.
UPDATE registry.addresses SET address_sealed = %(sealed)s
WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND role = %(role)s
