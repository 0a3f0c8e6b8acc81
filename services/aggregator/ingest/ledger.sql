-- name: take
-- Owns a partition from now on: a new epoch fences whoever owned it before. Tells where to go on.
INSERT INTO ledger.offsets AS held (topic, partition, owner_epoch) VALUES (%(topic)s, %(partition)s, 1)
ON CONFLICT (topic, partition) DO UPDATE SET owner_epoch = held.owner_epoch + 1
RETURNING owner_epoch, next_offset

-- name: advance
-- Moves a partition's offset, if it stands where this process believes and is still its own.
UPDATE ledger.offsets SET next_offset = %(next)s
WHERE topic = %(topic)s AND partition = %(partition)s AND owner_epoch = %(epoch)s AND next_offset = %(expected)s
RETURNING partition

-- name: topic
-- The topic that the offsets belong to.
SELECT topic_id FROM ledger.topics WHERE topic = %(topic)s FOR UPDATE

-- name: new_topic
-- Another topic of the same name: remembers it.
INSERT INTO ledger.topics AS held (topic, topic_id) VALUES (%(topic)s, %(topic_id)s)
ON CONFLICT (topic) DO UPDATE SET topic_id = excluded.topic_id, seen_at = clock_timestamp()

-- name: restart
-- Every partition of a recreated topic is read from its start, and belongs to nobody.
UPDATE ledger.offsets SET next_offset = 0, owner_epoch = owner_epoch + 1 WHERE topic = %(topic)s

-- name: merge_inquiries
-- Facts of inquiries, each inquiry once. The smallest (received_at, facts_id) speaks; lists are united, 64 smallest.
-- Tells which companies changed, and from when on.
WITH new AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(inquiries)s::jsonb) new (
        company_id text COLLATE "C", inquiry_id text COLLATE "C", account_id text, received_at timestamptz, facts_id text,
        buyer_id text, buyer_region text, buyer_sent_from_region text, thread_id text, channel text,
        buyer_addresses text[], message_ids text[], reply_addresses text[]
    )
),
before AS MATERIALIZED (SELECT i.* FROM ledger.inquiries i JOIN new USING (company_id, inquiry_id)),
merged AS (
INSERT INTO ledger.inquiries AS held (
    company_id, inquiry_id, account_id, received_at, facts_id, buyer_id, buyer_region, buyer_sent_from_region,
    thread_id, channel, buyer_addresses, message_ids, reply_addresses
)
SELECT new.company_id, new.inquiry_id, new.account_id, new.received_at, new.facts_id, new.buyer_id, new.buyer_region,
    new.buyer_sent_from_region, new.thread_id, new.channel, new.buyer_addresses, new.message_ids, new.reply_addresses
FROM new
LEFT JOIN ledger.erased e ON e.company_id = new.company_id
WHERE e.at IS NULL OR new.received_at > e.at
ON CONFLICT (company_id, inquiry_id) DO UPDATE SET
    (account_id, received_at, facts_id, buyer_id, buyer_region, buyer_sent_from_region, thread_id, channel) = (
        SELECT one.account_id, one.received_at, one.facts_id, one.buyer_id, one.buyer_region,
            one.buyer_sent_from_region, one.thread_id, one.channel
        FROM (VALUES
            (held.account_id, held.received_at, held.facts_id, held.buyer_id, held.buyer_region,
                held.buyer_sent_from_region, held.thread_id, held.channel),
            (excluded.account_id, excluded.received_at, excluded.facts_id, excluded.buyer_id, excluded.buyer_region,
                excluded.buyer_sent_from_region, excluded.thread_id, excluded.channel)
        ) one (account_id, received_at, facts_id, buyer_id, buyer_region, buyer_sent_from_region, thread_id, channel)
        ORDER BY one.received_at NULLS LAST, one.facts_id COLLATE "C" LIMIT 1
    ),
    buyer_addresses = ledger.smallest(held.buyer_addresses, excluded.buyer_addresses),
    message_ids = ledger.smallest(held.message_ids, excluded.message_ids),
    reply_addresses = ledger.smallest(held.reply_addresses, excluded.reply_addresses)
RETURNING held.*
)
SELECT m.company_id, m.inquiry_id, least(m.received_at, b.received_at) AS at
FROM merged m LEFT JOIN before b USING (company_id, inquiry_id)
WHERE ROW(m.*) IS DISTINCT FROM ROW(b.*)

-- name: merge_statuses
-- Statuses, as a set; tells what is new.
INSERT INTO ledger.statuses (company_id, inquiry_id, status, at, account_id)
SELECT DISTINCT new.company_id, new.inquiry_id, new.status, new.at, new.account_id
FROM jsonb_to_recordset(%(statuses)s::jsonb) new (
    company_id text, inquiry_id text, status text, at timestamptz, account_id text
)
LEFT JOIN ledger.erased e ON e.company_id = new.company_id
WHERE e.at IS NULL OR new.at > e.at
ON CONFLICT DO NOTHING RETURNING company_id, inquiry_id, at

-- name: merge_replies
-- Replies, as a set; tells what is new.
INSERT INTO ledger.replies (
    company_id, inquiry_id, reply_id, source, account_id, mailbox_id, replied_at, evidence, kind, kind_reason, matched_by
)
SELECT DISTINCT new.company_id, new.inquiry_id, new.reply_id, new.source, new.account_id, new.mailbox_id, new.replied_at,
    new.evidence, new.kind, new.kind_reason, new.matched_by
FROM jsonb_to_recordset(%(replies)s::jsonb) new (
    company_id text, inquiry_id text, reply_id text, source text, account_id text, mailbox_id text,
    replied_at timestamptz, evidence text, kind text, kind_reason text, matched_by text
)
LEFT JOIN ledger.erased e ON e.company_id = new.company_id
WHERE e.at IS NULL OR new.replied_at > e.at
ON CONFLICT DO NOTHING RETURNING company_id, inquiry_id, replied_at AS at

-- name: bound_statuses
-- Of each status of the touched inquiries the 16 smallest and the 16 largest by (at, account_id) stay.
DELETE FROM ledger.statuses s USING (
    SELECT company_id, inquiry_id, status, at, account_id,
        row_number() OVER (PARTITION BY company_id, inquiry_id, status ORDER BY at, account_id) AS up,
        row_number() OVER (PARTITION BY company_id, inquiry_id, status ORDER BY at DESC, account_id DESC) AS down
    FROM ledger.statuses
    WHERE (company_id, inquiry_id) IN (
        SELECT * FROM unnest(%(companies)s::text[] COLLATE "C", %(inquiries)s::text[] COLLATE "C")
    )
) ranked
WHERE ranked.up > 16 AND ranked.down > 16
    AND (s.company_id, s.inquiry_id, s.status, s.at, s.account_id)
        = (ranked.company_id, ranked.inquiry_id, ranked.status, ranked.at, ranked.account_id)
RETURNING s.company_id, s.inquiry_id, s.at

-- name: bound_replies
-- Mail: of each (kind, matched_by, evidence) the 4 smallest from received_at - 300 s on; platform: 64 of each kind.
DELETE FROM ledger.replies r USING (
    SELECT p.ctid AS place,
        p.source = 'mail' AND i.received_at IS NOT NULL AND p.replied_at < i.received_at - interval '300 s' AS early,
        p.source = 'mail' AND i.received_at IS NULL AS uncut,
        row_number() OVER (
            PARTITION BY p.company_id, p.inquiry_id, p.source, p.kind,
                CASE WHEN p.source = 'mail' THEN p.matched_by END, CASE WHEN p.source = 'mail' THEN p.evidence END,
                p.source = 'mail' AND p.replied_at < i.received_at - interval '300 s'
            ORDER BY p.replied_at, p.reply_id, p.account_id, p.mailbox_id, p.kind_reason
        ) AS rank,
        CASE WHEN p.source = 'mail' THEN 4 ELSE 64 END AS bound
    FROM ledger.replies p
    LEFT JOIN ledger.inquiries i USING (company_id, inquiry_id)
    WHERE (p.company_id, p.inquiry_id) IN (
        SELECT * FROM unnest(%(companies)s::text[] COLLATE "C", %(inquiries)s::text[] COLLATE "C")
    )
) ranked
WHERE r.ctid = ranked.place AND NOT ranked.uncut AND (ranked.early OR ranked.rank > ranked.bound)
RETURNING r.company_id, r.inquiry_id, r.replied_at AS at

-- name: mark_dirty
-- These companies must be judged again: rows from the earliest fact on that changed, outcomes from the earliest inquiry
-- that such a fact belongs to. Without an instant and an inquiry everything.
WITH named AS (
    SELECT n.company_id, min(coalesce(n.at, '-infinity')) AS earliest,
        coalesce(min(CASE WHEN n.inquiry_id IS NULL THEN '-infinity' ELSE i.received_at END), 'infinity') AS received_from
    FROM unnest(%(companies)s::text[], %(inquiries)s::text[], %(ats)s::timestamptz[]) n (company_id, inquiry_id, at)
    LEFT JOIN ledger.inquiries i ON i.company_id = n.company_id COLLATE "C" AND i.inquiry_id = n.inquiry_id COLLATE "C"
    GROUP BY n.company_id
),
known AS (INSERT INTO ledger.companies (company_id) SELECT company_id FROM named ON CONFLICT DO NOTHING)
INSERT INTO ledger.dirty (company_id, earliest, received_from, cause)
SELECT company_id, earliest, received_from, CASE WHEN company_id = ANY (%(erased)s) THEN 'erase' ELSE 'late-fact' END FROM named

-- name: erase_remember
-- Up to when a company was erased.
INSERT INTO ledger.erased AS held (company_id, at) VALUES (%(company_id)s, %(at)s)
ON CONFLICT (company_id) DO UPDATE SET at = greatest(held.at, excluded.at)

-- name: erase_replies
-- Replies up to the erase, and mail that answered an inquiry that goes.
DELETE FROM ledger.replies r WHERE r.company_id = %(company_id)s AND (
    r.replied_at <= %(at)s
    OR r.source = 'mail' AND EXISTS (
        SELECT FROM ledger.inquiries i
        WHERE i.company_id = r.company_id AND i.inquiry_id = r.inquiry_id AND i.received_at <= %(at)s
    )
)

-- name: erase_statuses
-- Statuses up to the erase.
DELETE FROM ledger.statuses WHERE company_id = %(company_id)s AND at <= %(at)s

-- name: erase_inquiries
-- Inquiries up to the erase.
DELETE FROM ledger.inquiries WHERE company_id = %(company_id)s AND (received_at IS NULL OR received_at <= %(at)s)

-- name: lag
-- Where the ledger stands in a topic.
SELECT partition, next_offset FROM ledger.offsets WHERE topic = %(topic)s
