-- name: cursor
-- How far a folder is published.
SELECT uidvalidity, high_uid, scan_down_to_uid, uidnext, recent_uids, lower_bound_at, scan_began_at, scan_below, refused FROM registry.folders
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND folder = %(folder)s AND current

-- name: retire_cursors
-- Cursors of a folder under another UIDVALIDITY are no longer current.
UPDATE registry.folders SET current = false
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND folder = %(folder)s
    AND uidvalidity <> %(uidvalidity)s AND current

-- name: save_cursor
-- Stores the cursor of a folder and adds to its counts.
INSERT INTO registry.folders AS stored (
    company_id, mailbox_id, folder, uidvalidity, high_uid, scan_down_to_uid, uidnext, recent_uids, messages,
    lower_bound_at, scan_done, uids_passed, uids_found, scan_below, refused
) VALUES (
    %(company_id)s, %(mailbox_id)s, %(folder)s, %(uidvalidity)s, %(high)s, %(scan_down_to)s, %(uidnext)s, %(recent)s,
    %(messages)s, %(lower_bound_at)s, %(messages_scanned)s, %(uids_passed)s, %(uids_found)s,
    %(scan_below)s, %(refused)s
)
ON CONFLICT (company_id, mailbox_id, folder, uidvalidity) DO UPDATE
SET current = true, high_uid = excluded.high_uid, scan_down_to_uid = excluded.scan_down_to_uid,
    uidnext = excluded.uidnext, recent_uids = excluded.recent_uids, messages = excluded.messages,
    lower_bound_at = excluded.lower_bound_at, scan_below = excluded.scan_below, refused = excluded.refused,
    uids_passed = stored.uids_passed + excluded.uids_passed, uids_found = stored.uids_found + excluded.uids_found,
    scan_done = CASE WHEN %(scan_started)s THEN 0 ELSE stored.scan_done END + excluded.scan_done,
    scan_began_at = CASE WHEN %(scan_started)s THEN clock_timestamp() ELSE stored.scan_began_at END

-- name: retire_folders
-- Folders that are not Sent folders any more.
UPDATE registry.folders SET current = false
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND current AND NOT folder = ANY (%(folders)s)

-- name: trim_folders
-- Deletes cursors that are not current beyond the newest ones: a server may rename its folders in each LIST.
DELETE FROM registry.folders WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM registry.folders
    WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND NOT current
    ORDER BY scan_began_at DESC OFFSET %(most)s
))

-- name: save_unread_folders
-- Folders with the name of a Sent folder that are not read, and how many messages the server reports in each; folders that
-- no longer exist are deleted.
WITH deleted_folder AS (
    DELETE FROM registry.other_folders
    WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND NOT folder = ANY (%(folders)s)
)
INSERT INTO registry.other_folders AS stored (company_id, mailbox_id, folder, messages, first_messages)
SELECT %(company_id)s, %(mailbox_id)s, new.folder, new.messages, new.messages
FROM unnest(%(folders)s::bytea[], %(counts)s::bigint[]) new (folder, messages)
ON CONFLICT (company_id, mailbox_id, folder) DO UPDATE
SET messages = excluded.messages, first_messages = least(stored.first_messages, excluded.messages), seen_at = clock_timestamp()

-- name: count_messages
-- Counts messages seen for the first time, by day and kind.
INSERT INTO registry.message_counts AS stored (company_id, mailbox_id, folder, day, kind, messages, suspect)
SELECT %(company_id)s, %(mailbox_id)s, %(folder)s, new.day, new.kind, count(*), count(*) FILTER (WHERE new.suspect)
FROM unnest(%(days)s::date[], %(kinds)s::text[], %(suspects)s::boolean[]) new (day, kind, suspect)
GROUP BY new.day, new.kind
ON CONFLICT (company_id, mailbox_id, folder, day, kind) DO UPDATE
SET messages = stored.messages + excluded.messages, suspect = stored.suspect + excluded.suspect
