-- name: take
-- Takes ownership of a partition: a new epoch fences off the previous owner. Returns the next offset to read.
INSERT INTO ledger.offsets AS stored (topic, partition, owner_epoch) VALUES (%(topic)s, %(partition)s, 1)
ON CONFLICT (topic, partition) DO UPDATE SET owner_epoch = stored.owner_epoch + 1
RETURNING owner_epoch, next_offset

-- name: advance
-- Moves a partition's offset if this process still owns the partition and the offset is the one it expects.
UPDATE ledger.offsets SET next_offset = %(next)s
WHERE topic = %(topic)s AND partition = %(partition)s AND owner_epoch = %(epoch)s AND next_offset = %(expected)s
RETURNING partition

-- name: topic
-- Id of the topic that the offsets belong to.
SELECT topic_id FROM ledger.topics WHERE topic = %(topic)s FOR UPDATE

-- name: new_topic
-- Remembers the id of a new topic of the same name.
INSERT INTO ledger.topics (topic, topic_id) VALUES (%(topic)s, %(topic_id)s)
ON CONFLICT (topic) DO UPDATE SET topic_id = excluded.topic_id, seen_at = clock_timestamp()

-- name: restart
-- Every partition of a recreated topic is read from its start and has no owner.
UPDATE ledger.offsets SET next_offset = 0, owner_epoch = owner_epoch + 1 WHERE topic = %(topic)s

-- name: merge_inquiries
-- Facts of inquiries, each inquiry at most once. The record with the smallest (received_at, facts_id) supplies the values; lists are
-- united and cut to the 64 smallest. Returns the inquiries that changed and the instants from which they did. One that was archived
-- while this statement waited is new, although `previous` still has it.
WITH new AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(inquiries)s::jsonb) new (
        company_id text COLLATE "C", inquiry_id text COLLATE "C", account_id text, received_at timestamptz, facts_id text,
        buyer_id text, buyer_region text, buyer_sent_from_region text, thread_id text, channel text,
        buyer_addresses text[], message_ids text[], reply_addresses text[]
    )
),
previous AS MATERIALIZED (SELECT inquiry.* FROM ledger.inquiries inquiry JOIN new USING (company_id, inquiry_id)),
merged AS (
INSERT INTO ledger.inquiries AS stored (
    company_id, inquiry_id, account_id, received_at, facts_id, buyer_id, buyer_region, buyer_sent_from_region,
    thread_id, channel, buyer_addresses, message_ids, reply_addresses
)
SELECT new.company_id, new.inquiry_id, new.account_id, new.received_at, new.facts_id, new.buyer_id, new.buyer_region,
    new.buyer_sent_from_region, new.thread_id, new.channel, new.buyer_addresses, new.message_ids, new.reply_addresses
FROM new
LEFT JOIN ledger.erased erased ON erased.company_id = new.company_id
WHERE erased.at IS NULL OR new.received_at > erased.at
ON CONFLICT (company_id, inquiry_id) DO UPDATE SET
    (account_id, received_at, facts_id, buyer_id, buyer_region, buyer_sent_from_region, thread_id, channel) = (
        SELECT version.account_id, version.received_at, version.facts_id, version.buyer_id, version.buyer_region,
            version.buyer_sent_from_region, version.thread_id, version.channel
        FROM (VALUES
            (stored.account_id, stored.received_at, stored.facts_id, stored.buyer_id, stored.buyer_region,
                stored.buyer_sent_from_region, stored.thread_id, stored.channel),
            (excluded.account_id, excluded.received_at, excluded.facts_id, excluded.buyer_id, excluded.buyer_region,
                excluded.buyer_sent_from_region, excluded.thread_id, excluded.channel)
        ) version (account_id, received_at, facts_id, buyer_id, buyer_region, buyer_sent_from_region, thread_id, channel)
        ORDER BY version.received_at NULLS LAST, version.facts_id COLLATE "C" LIMIT 1
    ),
    buyer_addresses = ledger.smallest(stored.buyer_addresses, excluded.buyer_addresses),
    message_ids = ledger.smallest(stored.message_ids, excluded.message_ids),
    reply_addresses = ledger.smallest(stored.reply_addresses, excluded.reply_addresses)
-- The same record again, as the matcher repeats it with each reply, changes nothing: writing it would leave a dead row.
WHERE (stored.account_id, stored.received_at, stored.facts_id, stored.buyer_id, stored.buyer_region, stored.buyer_sent_from_region,
        stored.thread_id, stored.channel, stored.buyer_addresses, stored.message_ids, stored.reply_addresses)
    IS DISTINCT FROM (excluded.account_id, excluded.received_at, excluded.facts_id, excluded.buyer_id, excluded.buyer_region,
        excluded.buyer_sent_from_region, excluded.thread_id, excluded.channel, excluded.buyer_addresses, excluded.message_ids,
        excluded.reply_addresses)
RETURNING stored.*, xmax = 0 AS is_new
)
SELECT merged.company_id, merged.inquiry_id, least(merged.received_at, previous.received_at) AS at
FROM merged LEFT JOIN previous USING (company_id, inquiry_id)
WHERE merged.is_new OR ROW(merged.*) IS DISTINCT FROM ROW(previous.*, false)

-- name: merge_statuses
-- Statuses, as a set. Returns the new ones.
INSERT INTO ledger.statuses (company_id, inquiry_id, status, at, account_id)
SELECT DISTINCT new.company_id, new.inquiry_id, new.status, new.at, new.account_id
FROM jsonb_to_recordset(%(statuses)s::jsonb) new (
    company_id text, inquiry_id text, status text, at timestamptz, account_id text
)
LEFT JOIN ledger.erased erased ON erased.company_id = new.company_id
WHERE erased.at IS NULL OR new.at > erased.at
ON CONFLICT DO NOTHING RETURNING company_id, inquiry_id, at

-- name: merge_replies
-- Replies, as a set. Returns the new ones.
INSERT INTO ledger.replies (
    company_id, inquiry_id, reply_id, source, account_id, mailbox_id, replied_at, evidence, kind, kind_reason, matched_by
)
SELECT DISTINCT new.company_id, new.inquiry_id, new.reply_id, new.source, new.account_id, new.mailbox_id, new.replied_at,
    new.evidence, new.kind, new.kind_reason, new.matched_by
FROM jsonb_to_recordset(%(replies)s::jsonb) new (
    company_id text, inquiry_id text, reply_id text, source text, account_id text, mailbox_id text,
    replied_at timestamptz, evidence text, kind text, kind_reason text, matched_by text
)
LEFT JOIN ledger.erased erased ON erased.company_id = new.company_id
WHERE erased.at IS NULL OR new.replied_at > erased.at
ON CONFLICT DO NOTHING RETURNING company_id, inquiry_id, replied_at AS at

-- name: bound_statuses
-- Keeps the 16 smallest and the 16 largest by (at, account_id) of each status of the touched inquiries. Returns what was cut.
DELETE FROM ledger.statuses stored USING (
    SELECT company_id, inquiry_id, status, at, account_id,
        row_number() OVER (PARTITION BY company_id, inquiry_id, status ORDER BY at, account_id) AS rank_up,
        row_number() OVER (PARTITION BY company_id, inquiry_id, status ORDER BY at DESC, account_id DESC) AS rank_down
    FROM ledger.statuses
    WHERE (company_id, inquiry_id) IN (
        SELECT * FROM unnest(%(companies)s::text[] COLLATE "C", %(inquiries)s::text[] COLLATE "C")
    )
) ranked
WHERE ranked.rank_up > 16 AND ranked.rank_down > 16
    AND (stored.company_id, stored.inquiry_id, stored.status, stored.at, stored.account_id)
        = (ranked.company_id, ranked.inquiry_id, ranked.status, ranked.at, ranked.account_id)
RETURNING stored.company_id, stored.inquiry_id, stored.at

-- name: bound_replies
-- Keeps, of mail, the 4 smallest of each (kind, matched_by, evidence) from received_at - 300 s on, and all of it while
-- received_at is unknown; of platform replies the 64 smallest of each kind. Marks of the buyer's own mail (kind_reason
-- from-buyer) are a group of their own. Returns what was cut.
DELETE FROM ledger.replies stored USING (
    SELECT reply.ctid AS row_id,
        reply.source = 'mail' AND inquiry.received_at IS NOT NULL AND reply.replied_at < inquiry.received_at - interval '300 s' AS early,
        reply.source = 'mail' AND inquiry.received_at IS NULL AS unbounded,
        row_number() OVER (
            PARTITION BY reply.company_id, reply.inquiry_id, reply.source, reply.kind, reply.kind_reason = 'from-buyer',
                CASE WHEN reply.source = 'mail' THEN reply.matched_by END, CASE WHEN reply.source = 'mail' THEN reply.evidence END,
                reply.source = 'mail' AND reply.replied_at < inquiry.received_at - interval '300 s'
            ORDER BY reply.replied_at, reply.reply_id, reply.account_id, reply.mailbox_id, reply.kind_reason
        ) AS rank,
        CASE WHEN reply.source = 'mail' THEN 4 ELSE 64 END AS bound
    FROM ledger.replies reply
    LEFT JOIN ledger.inquiries inquiry USING (company_id, inquiry_id)
    WHERE (reply.company_id, reply.inquiry_id) IN (
        SELECT * FROM unnest(%(companies)s::text[] COLLATE "C", %(inquiries)s::text[] COLLATE "C")
    )
) ranked
WHERE stored.ctid = ranked.row_id AND NOT ranked.unbounded AND (ranked.early OR ranked.rank > ranked.bound)
RETURNING stored.company_id, stored.inquiry_id, stored.replied_at AS at

-- name: mark_dirty
-- These companies must be judged again: rows from the earliest changed fact on, outcomes from the earliest inquiry with a changed
-- fact on; everything of a company whose change has neither instant nor inquiry.
WITH changed_company AS (
    SELECT fact.company_id, min(coalesce(fact.at, '-infinity')) AS earliest,
        coalesce(min(CASE WHEN fact.inquiry_id IS NULL THEN '-infinity' ELSE least(inquiry.received_at, archived.received_at) END),
            'infinity') AS received_from
    FROM unnest(%(companies)s::text[], %(inquiries)s::text[], %(ats)s::timestamptz[]) fact (company_id, inquiry_id, at)
    LEFT JOIN ledger.inquiries inquiry ON inquiry.company_id = fact.company_id COLLATE "C"
        AND inquiry.inquiry_id = fact.inquiry_id COLLATE "C"
    LEFT JOIN ledger.archived_inquiries archived ON archived.company_id = fact.company_id COLLATE "C"
        AND archived.inquiry_id = fact.inquiry_id COLLATE "C"
    GROUP BY fact.company_id
),
new_company AS (INSERT INTO ledger.companies (company_id) SELECT company_id FROM changed_company ON CONFLICT DO NOTHING)
INSERT INTO ledger.dirty (company_id, earliest, received_from, cause)
SELECT company_id, earliest, received_from, CASE WHEN company_id = ANY (%(erased)s) THEN 'erase' ELSE 'late-fact' END
FROM changed_company

-- name: erase_remember
-- The instant up to which a company was erased.
INSERT INTO ledger.erased AS stored (company_id, at) VALUES (%(company_id)s, %(at)s)
ON CONFLICT (company_id) DO UPDATE SET at = greatest(stored.at, excluded.at)

-- name: await_restore
-- Waits for a transaction that restores archived units of the company: the statements below see them then.
SELECT company.company_id FROM ledger.companies company
WHERE company.company_id = %(company_id)s
    AND EXISTS (SELECT FROM ledger.archive_parts part WHERE part.company_id = company.company_id)
FOR UPDATE OF company

-- name: erase_replies
-- Replies up to the erase, and mail that answered an erased inquiry.
DELETE FROM ledger.replies reply WHERE reply.company_id = %(company_id)s AND (
    reply.replied_at <= %(at)s
    OR reply.source = 'mail' AND EXISTS (
        SELECT FROM ledger.inquiries inquiry
        WHERE inquiry.company_id = reply.company_id AND inquiry.inquiry_id = reply.inquiry_id AND inquiry.received_at <= %(at)s
    )
)

-- name: erase_statuses
-- Statuses up to the erase.
DELETE FROM ledger.statuses WHERE company_id = %(company_id)s AND at <= %(at)s

-- name: erase_inquiries
-- Inquiries up to the erase.
DELETE FROM ledger.inquiries WHERE company_id = %(company_id)s AND (received_at IS NULL OR received_at <= %(at)s)

-- name: erasable_parts
-- Archived units up to the erase. After the statements above: they wait for a process that is archiving units of the company. Parts with
-- later facts too are restored by the next refresh, which refuses the erased ones.
SELECT file_id FROM ledger.archive_parts WHERE company_id = %(company_id)s AND last_fact_at <= %(at)s

-- name: mark_outdated
-- Files with units of an erased company are written again without them. Locked before the parts, in one order, as the archiver does.
UPDATE ledger.archive_files file SET is_outdated = true
FROM (SELECT file_id FROM ledger.archive_files WHERE file_id = ANY (%(files)s) ORDER BY file_id FOR UPDATE) locked
WHERE file.file_id = locked.file_id AND file.superseded_at IS NULL

-- name: erase_archived
-- Those units that are in these files still.
DELETE FROM ledger.archive_parts WHERE company_id = %(company_id)s AND last_fact_at <= %(at)s AND file_id = ANY (%(files)s)
