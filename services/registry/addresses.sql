-- name: address
-- The address of an account in a role: masked for display, hashed for comparison.
SELECT address_masked, address_hash, changed_at FROM registry.addresses
WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND role = %(role)s

-- name: set_address
-- Stores the current address of an account in a role.
INSERT INTO registry.addresses AS stored (company_id, account_id, role, address_sealed, address_masked, address_hash)
VALUES (%(company_id)s, %(account_id)s, %(role)s, %(sealed)s, %(masked)s, %(hash)s)
ON CONFLICT (company_id, account_id, role) DO UPDATE
SET address_sealed = excluded.address_sealed, address_masked = excluded.address_masked,
    address_hash = excluded.address_hash, changed_at = clock_timestamp()
WHERE stored.address_hash <> excluded.address_hash
RETURNING role

-- name: address_changed
-- Mailboxes of the account's previous address in this role must be connected again. When the previous address is not known
-- (null), those of any address but the new one.
UPDATE registry.mailboxes
SET state = %(to)s, state_reason = %(reason)s, state_changed_at = clock_timestamp(),
    lease_owner = NULL, lease_until = NULL, lease_epoch = lease_epoch + 1
WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND role = %(role)s
    AND CASE WHEN %(previous_hash)s::text IS NULL THEN address_hash <> %(hash)s ELSE address_hash = %(previous_hash)s END
    AND state = ANY (%(froms)s)
RETURNING mailbox_id

-- name: remove_address
-- Deletes the address of an account in a role.
DELETE FROM registry.addresses WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND role = %(role)s
RETURNING role
