-- name: link
-- Lets another company read the login of a mailbox too.
INSERT INTO registry.mailbox_links (login_hash, company_id, other_company_id, linked_by)
SELECT m.login_hash, least(m.company_id, %(other_id)s COLLATE "C"), greatest(m.company_id, %(other_id)s COLLATE "C"), %(by)s
FROM registry.mailboxes m
WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s AND m.state = ANY (%(connected)s)
ON CONFLICT DO NOTHING
RETURNING linked_at

-- name: unlink
-- Removes a link.
DELETE FROM registry.mailbox_links l USING registry.mailboxes m
WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s AND l.login_hash = m.login_hash
    AND l.company_id = least(m.company_id, %(other_id)s COLLATE "C")
    AND l.other_company_id = greatest(m.company_id, %(other_id)s COLLATE "C")
RETURNING l.linked_at

-- name: links
-- Companies that may read the login of a mailbox besides its own, and the mailbox as which they have it connected.
SELECT CASE WHEN l.company_id = m.company_id THEN l.other_company_id ELSE l.company_id END AS company_id, l.linked_by,
    l.linked_at, linked.mailbox_id
FROM registry.mailboxes m
JOIN registry.mailbox_links l ON l.login_hash = m.login_hash AND m.company_id IN (l.company_id, l.other_company_id)
LEFT JOIN registry.mailboxes linked ON linked.login_hash = m.login_hash AND linked.state = ANY (%(connected)s)
    AND linked.company_id IN (l.company_id, l.other_company_id) AND linked.company_id <> m.company_id
WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s
ORDER BY 1

-- name: delete_links
-- Links of the login of a connected mailbox: they end with it.
DELETE FROM registry.mailbox_links l USING registry.mailboxes m
WHERE m.company_id = %(company_id)s AND m.mailbox_id = %(mailbox_id)s AND m.state = ANY (%(connected)s)
    AND l.login_hash = m.login_hash AND m.company_id IN (l.company_id, l.other_company_id)
