-- name: of_mailbox
-- Messages of a mailbox that were published before: compact ones, and those that an earlier release stored.
SELECT right(replace(message.message_key::text, '-', ''), 16) || lpad(to_hex(message.message_tail), 16, '0') AS message_id,
    message.sent_at, message.first_seen, message.record
FROM registry.published_messages message WHERE message.message_key = ANY (ARRAY(
    SELECT registry.message_key(%(company_id)s, %(mailbox_id)s, id) FROM unnest(%(message_ids)s::text[]) id
))
UNION ALL
SELECT message_id, sent_at, published_at, record FROM registry.published_records
WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s AND message_id = ANY (%(message_ids)s)

-- name: since
-- Messages of a mailbox that were first seen and sent after two instants.
SELECT message_id, sent_at, first_seen, record
FROM registry.messages_since(%(company_id)s, %(mailbox_id)s, %(first_seen)s, %(sent_at)s)

-- name: form
-- Whether fetchers write the compact form: none of an earlier release, which does not know it, can run any more.
SELECT compact FROM registry.published_form

-- name: save
-- Stores messages of a mailbox. The caller holds the lease of the mailbox and has looked up that they are new.
INSERT INTO registry.published_messages (message_key, message_tail, sent_at, first_seen, record)
SELECT registry.message_key(%(company_id)s, %(mailbox_id)s, new.message_id), registry.message_tail(new.message_id),
    new.sent_at, new.first_seen, new.record
FROM unnest(%(message_ids)b::text[], %(sent_ats)b::timestamptz[], %(first_seens)b::timestamptz[], %(records)b::bytea[])
    new (message_id, sent_at, first_seen, record)

-- name: save_records
-- The same for fetchers of an earlier release, which may run: records as they were sent.
INSERT INTO registry.published_records (company_id, mailbox_id, message_id, sent_at, record)
SELECT %(company_id)s, %(mailbox_id)s, new.message_id, new.sent_at, new.record
FROM unnest(%(message_ids)b::text[], %(sent_ats)b::timestamptz[], %(records)b::bytea[]) new (message_id, sent_at, record)
ON CONFLICT DO NOTHING

-- name: keep_weeks
-- Creates and drops the tables of weeks, and begins the compact form when its time has come.
SELECT registry.keep_published(%(horizon_days)s) AS rows

-- name: take_records
-- Deletes some records of an earlier release, in the order of their keys, to be stored again in the compact form. Their mailboxes are
-- locked, so that one that is removed meanwhile leaves nothing behind.
WITH piece AS MATERIALIZED (
    SELECT record.company_id, record.mailbox_id, record.message_id, mailbox.account_id
    FROM registry.published_records record JOIN registry.mailboxes mailbox USING (company_id, mailbox_id)
    WHERE (record.company_id, record.mailbox_id, record.message_id) > (%(company_id)s, %(mailbox_id)s, %(message_id)s)
        AND record.message_id ~ '^[0-9a-f]{32}$'
        AND record.sent_at BETWEEN statement_timestamp() - make_interval(days => %(horizon_days)s)
            AND statement_timestamp() + interval '4 weeks'
    ORDER BY record.company_id, record.mailbox_id, record.message_id LIMIT %(most)s FOR SHARE OF mailbox
)
DELETE FROM registry.published_records record USING piece
WHERE (record.company_id, record.mailbox_id, record.message_id) = (piece.company_id, piece.mailbox_id, piece.message_id)
RETURNING record.company_id, record.mailbox_id, piece.account_id, record.message_id, record.sent_at,
    record.published_at AS first_seen, record.record
