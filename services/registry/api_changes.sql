-- name: note_change
-- A change that the key of this transaction makes.
INSERT INTO registry.api_changes (key_id, key_name, company_id, action, subject)
VALUES (%(key_id)s, %(key_name)s, %(company_id)s, %(action)s, %(subject)s)

-- name: changes
-- by hand: a list for a person.
-- Changes of the companies that the token of the transaction may see, newest first.
SELECT change_id, changed_at, key_id, key_name, company_id, action, subject FROM registry.api_changes
WHERE change_id < %(before)s AND (%(company_id)s::text IS NULL OR company_id = %(company_id)s)
    AND company_id >= %(first)s COLLATE "C" AND company_id <= %(last)s COLLATE "C"
ORDER BY change_id DESC LIMIT %(limit)s
