-- name: lock
-- The archive's identity. One process writes and removes files at a time.
SELECT archive_id::text AS archive_id FROM ledger.archive FOR UPDATE SKIP LOCKED

-- name: identity
-- rare: an aggregator starts.
-- The archive's identity, and whether it has files.
SELECT archive_id::text AS archive_id, EXISTS (SELECT FROM ledger.archive_files) AS has_files FROM ledger.archive

-- name: begin
-- Whether units may be archived yet; earlier releases are refused from then on.
SELECT ledger.begin_archive() AS may_begin

-- name: unfinished
-- Whether a recompute is under way: it would publish outcomes of units that were archived meanwhile.
SELECT EXISTS (SELECT FROM ledger.recomputes) AS unfinished

-- name: active_rule_sets
-- The active rule sets, which stay active until the end of the transaction.
SELECT parameters::text AS parameters FROM ledger.rule_sets WHERE active ORDER BY name FOR SHARE

-- name: stored_rule_sets
-- Every rule set that may have outcomes.
SELECT name FROM ledger.rule_sets ORDER BY name

-- name: due_group
-- The group of the company that has waited longest.
SELECT (hashtextextended(company_id, 0) & 15)::smallint AS company_group FROM ledger.companies
WHERE archive_due_at <= %(now)s ORDER BY archive_due_at LIMIT 1

-- name: due
-- Companies of the group to look at; locked, so that nobody judges them meanwhile.
SELECT company_id, judged_at, EXISTS (SELECT FROM ledger.dirty WHERE dirty.company_id = company.company_id) AS is_dirty
FROM ledger.companies company
WHERE archive_due_at <= %(now)s AND (hashtextextended(company_id, 0) & 15)::smallint = %(company_group)s
ORDER BY archive_due_at LIMIT %(most)s FOR UPDATE SKIP LOCKED

-- name: candidates
-- The oldest inquiries of a company after a given one and received before an instant, and whether only a late fact can still change each: its outcome by
-- every active rule set is final, and no fact of it is dated after the last judgement.
SELECT inquiry.inquiry_id, inquiry.buyer_id, inquiry.thread_id, inquiry.received_at,
    inquiry.account_id IS NOT NULL AND inquiry.buyer_id IS NOT NULL
        AND NOT EXISTS (
            SELECT FROM ledger.archived_inquiries archived
            WHERE archived.company_id = inquiry.company_id AND archived.inquiry_id = inquiry.inquiry_id
        )
        AND NOT EXISTS (
            SELECT FROM unnest(%(rule_sets)s::text[], %(identities)s::text[]) active (rule_set, identity)
            WHERE NOT EXISTS (
                SELECT FROM ledger.outcomes outcome
                WHERE outcome.rule_set = active.rule_set AND outcome.company_id = inquiry.company_id
                    AND outcome.inquiry_id = inquiry.inquiry_id AND outcome.rule_version = active.identity
                    AND outcome.state = 'final' AND outcome.outcome <> 'pending'
            )
        )
        AND NOT EXISTS (
            SELECT FROM ledger.statuses status WHERE status.company_id = inquiry.company_id
                AND status.inquiry_id = inquiry.inquiry_id AND status.at >= %(judged_at)s
        )
        AND NOT EXISTS (
            SELECT FROM ledger.replies reply WHERE reply.company_id = inquiry.company_id
                AND reply.inquiry_id = inquiry.inquiry_id AND reply.replied_at >= %(judged_at)s
        ) AS is_final
FROM ledger.inquiries inquiry
WHERE inquiry.company_id = %(company_id)s AND inquiry.received_at < %(received_before)s
    AND (inquiry.received_at, inquiry.inquiry_id) > (%(after_received_at)s, %(after_inquiry_id)s)
ORDER BY inquiry.received_at, inquiry.inquiry_id LIMIT %(most)s

-- name: later_mates
-- Younger inquiries that may share a unit with one of the candidates, which end with the given one: of the same buyer within some 26
-- hours, or of the same thread.
SELECT younger.inquiry_id, younger.buyer_id, younger.thread_id, younger.received_at
FROM ledger.inquiries younger
WHERE younger.company_id = %(company_id)s AND (younger.received_at, younger.inquiry_id) > (%(last_received_at)s, %(last_inquiry_id)s)
    AND (younger.received_at < %(last_received_at)s::timestamptz + interval '26 hours' OR younger.thread_id IS NOT NULL AND EXISTS (
        SELECT FROM unnest(%(buyers)s::text[], %(threads)s::text[]) candidate (buyer_id, thread_id)
        WHERE candidate.buyer_id = younger.buyer_id AND candidate.thread_id = younger.thread_id
    ))

-- name: take_inquiries
-- Takes inquiries out of the ledger.
DELETE FROM ledger.inquiries WHERE company_id = %(company_id)s AND inquiry_id = ANY (%(inquiries)s) RETURNING *

-- name: take_statuses
-- Takes their statuses.
DELETE FROM ledger.statuses WHERE company_id = %(company_id)s AND inquiry_id = ANY (%(inquiries)s) RETURNING *

-- name: take_replies
-- Takes their replies.
DELETE FROM ledger.replies WHERE company_id = %(company_id)s AND inquiry_id = ANY (%(inquiries)s) RETURNING *

-- name: take_outcomes
-- Takes their outcomes.
DELETE FROM ledger.outcomes WHERE rule_set = ANY (%(rule_sets)s) AND company_id = %(company_id)s AND inquiry_id = ANY (%(inquiries)s)
RETURNING *

-- name: take_outcome_history
-- Takes their previous outcomes.
DELETE FROM ledger.outcome_history WHERE rule_set = ANY (%(rule_sets)s) AND company_id = %(company_id)s
    AND inquiry_id = ANY (%(inquiries)s)
RETURNING *

-- name: add_file
-- A file counts from now on.
INSERT INTO ledger.archive_files (file_id, path, company_group, month, schema_version, inquiries, bytes, sha256)
VALUES (%(file_id)s, %(path)s, %(company_group)s, %(month)s, %(schema_version)s, %(inquiries)s, %(bytes)s, %(sha256)s)

-- name: add_part
-- What a file has of a company.
INSERT INTO ledger.archive_parts
    (file_id, company_id, inquiries, first_received_at, last_received_at, first_fact_at, last_fact_at, archived_at)
VALUES (%(file_id)s, %(company_id)s, %(count)s, %(first_received_at)s, %(last_received_at)s, %(first_fact_at)s, %(last_fact_at)s, %(now)s)
RETURNING part_id

-- name: add_archived
-- Its inquiries, accounts and counts by day.
WITH inquiry AS (
    INSERT INTO ledger.archived_inquiries (company_id, inquiry_id, part_id, account_id, received_at, thread_key)
    SELECT %(company_id)s, inquiry_id, %(part_id)s, account_id, received_at, hashtextextended(buyer_id, hashtextextended(thread_id, 0))
    FROM unnest(%(inquiry_ids)s::text[], %(outcome_accounts)s::text[], %(received_ats)s::timestamptz[], %(buyer_ids)s::text[],
        %(thread_ids)s::text[]) inquiry (inquiry_id, account_id, received_at, buyer_id, thread_id)
),
account AS (
    INSERT INTO ledger.archived_accounts (part_id, company_id, account_id, named_at)
    SELECT %(part_id)s, %(company_id)s, account_id, named_at
    FROM unnest(%(account_ids)s::text[], %(named_ats)s::timestamptz[]) account (account_id, named_at)
)
INSERT INTO ledger.archived_days (part_id, rule_set, company_id, account_id, day, outcome, inquiries, excluded, units)
SELECT %(part_id)s, rule_set, %(company_id)s, account_id, day, outcome, inquiries, excluded, units
FROM jsonb_to_recordset(%(days)s::jsonb) counted (
    rule_set text, account_id text, day date, outcome text, inquiries integer, excluded integer, units integer
)

-- name: look_again
-- When to look at companies again.
UPDATE ledger.companies SET archive_due_at = %(due_at)s WHERE company_id = ANY (%(companies)s)

-- name: outdated_file
-- A file with rows that are no longer archived; locked, so that none of its parts is restored or erased meanwhile.
SELECT file_id, path, company_group, month, sha256 FROM ledger.archive_files
WHERE is_outdated AND NOT file_id = ANY (%(unreadable)s::uuid[]) ORDER BY file_id LIMIT 1 FOR UPDATE

-- name: parts_of_file
-- The companies whose rows in a file still count.
SELECT company_id FROM ledger.archive_parts WHERE file_id = %(file_id)s ORDER BY company_id FOR UPDATE

-- name: move_parts
-- They are in a new file.
UPDATE ledger.archive_parts SET file_id = %(new_file_id)s WHERE file_id = %(file_id)s

-- name: supersede_file
-- A file does not count any more.
UPDATE ledger.archive_files SET superseded_at = clock_timestamp(), is_outdated = false WHERE file_id = %(file_id)s

-- name: remove_superseded
-- rare: once an hour.
-- Files that have not counted since an instant are removed.
DELETE FROM ledger.archive_files WHERE superseded_at <= %(before)s RETURNING path

-- name: listed
-- rare: once an hour.
-- Every file, and whether it counts.
SELECT path, superseded_at IS NULL AS counts FROM ledger.archive_files
