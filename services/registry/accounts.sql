-- name: add_account
-- Adds an account unless it is registered already; its company must exist.
INSERT INTO registry.accounts (company_id, account_id, kind, synced_by_platform_from)
VALUES (%(company_id)s, %(account_id)s, %(kind)s, %(synced_from)s)
ON CONFLICT DO NOTHING RETURNING account_id

-- name: account
-- The kind of an account, since when the platform syncs it, and when it was registered.
SELECT kind, synced_by_platform_from, created_at FROM registry.accounts
WHERE company_id = %(company_id)s AND account_id = %(account_id)s

-- name: set_synced
-- Sets since when an account answers through the platform's own mail; null when it no longer does. No row when nothing
-- changes.
UPDATE registry.accounts SET synced_by_platform_from = %(synced_from)s
WHERE company_id = %(company_id)s AND account_id = %(account_id)s
    AND (synced_by_platform_from IS NULL) <> (%(synced_from)s::timestamptz IS NULL)
RETURNING clock_timestamp() AS now

-- name: platform_sync_started
-- Coverage of an account that answers through the platform from this instant on.
INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at)
VALUES (%(company_id)s, %(account_id)s, NULL, %(from_at)s, %(from_at)s)

-- name: platform_sync_ended
-- The platform no longer syncs an account: the time for which it did stays covered.
INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, removed_at, from_at)
VALUES (%(company_id)s, %(account_id)s, NULL, %(from_at)s, %(removed_at)s, %(from_at)s)
