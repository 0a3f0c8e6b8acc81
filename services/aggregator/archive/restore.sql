-- name: archived_companies
-- Which of these companies have archived units.
SELECT DISTINCT company_id FROM ledger.archive_parts WHERE company_id = ANY (%(companies)s)

-- name: shared_threads
-- The earliest receipt of an archived inquiry of a thread that has an inquiry with a changed fact.
SELECT changed.company_id, min(archived.received_at) AS received_from
FROM unnest(%(companies)s::text[], %(received_froms)s::timestamptz[]) changed (company_id, received_from)
JOIN ledger.inquiries inquiry ON inquiry.company_id = changed.company_id COLLATE "C" AND inquiry.received_at >= changed.received_from
    AND inquiry.thread_id IS NOT NULL AND inquiry.company_id = ANY (%(companies)s)
JOIN ledger.archived_inquiries archived ON archived.company_id = inquiry.company_id
    AND archived.thread_key = hashtextextended(inquiry.buyer_id, hashtextextended(inquiry.thread_id, 0))
    AND archived.company_id = ANY (%(companies)s)
GROUP BY changed.company_id

-- name: needed_parts
-- What must be in Postgres before companies are judged: archived units received at a needed instant or later, and those from
-- before an erase, whose facts are refused when they are merged again.
SELECT part.part_id, part.file_id, part.company_id, part.inquiries, erased.at AS erased_at
FROM unnest(%(companies)s::text[], %(needed_froms)s::timestamptz[]) needed (company_id, needed_from)
JOIN ledger.archive_parts part ON part.company_id = needed.company_id COLLATE "C" AND part.company_id = ANY (%(companies)s)
LEFT JOIN ledger.erased erased ON erased.company_id = part.company_id
WHERE part.last_received_at >= needed.needed_from OR part.first_fact_at <= erased.at
ORDER BY part.company_id, part.part_id

-- name: lock_file
-- The file of a part, which is written again without it; none when the file was written again while this waited.
UPDATE ledger.archive_files file SET is_outdated = true FROM ledger.archive_parts part
WHERE part.part_id = %(part_id)s AND file.file_id = part.file_id AND file.superseded_at IS NULL
RETURNING file.path, file.sha256

-- name: part
-- Whether a part is still archived.
SELECT part_id FROM ledger.archive_parts WHERE part_id = %(part_id)s

-- name: restore_outcomes
-- Outcomes of inquiries that are known again, by rule sets that are active.
INSERT INTO ledger.outcomes
SELECT stored.* FROM jsonb_populate_recordset(NULL::ledger.outcomes, %(rows)s::jsonb) stored
JOIN ledger.inquiries inquiry ON inquiry.company_id = stored.company_id AND inquiry.inquiry_id = stored.inquiry_id
JOIN ledger.rule_sets rules ON rules.name = stored.rule_set AND rules.active
ON CONFLICT DO NOTHING

-- name: restore_outcome_history
-- Their history.
INSERT INTO ledger.outcome_history
SELECT stored.* FROM jsonb_populate_recordset(NULL::ledger.outcome_history, %(rows)s::jsonb) stored
JOIN ledger.inquiries inquiry ON inquiry.company_id = stored.company_id AND inquiry.inquiry_id = stored.inquiry_id
JOIN ledger.rule_sets rules ON rules.name = stored.rule_set AND rules.active
ON CONFLICT DO NOTHING

-- name: remove_part
-- They are not archived any more.
DELETE FROM ledger.archive_parts WHERE part_id = %(part_id)s

-- name: recompute_again
-- What recomputes have judged of these companies lacks the units that are restored.
DELETE FROM ledger.recomputed WHERE company_id = ANY (%(companies)s)

-- name: archive_later
-- What changed lately is likely to change again soon: the company is looked at in a week.
UPDATE ledger.companies SET archive_due_at = greatest(archive_due_at, %(due_at)s::timestamptz) WHERE company_id = ANY (%(companies)s)
