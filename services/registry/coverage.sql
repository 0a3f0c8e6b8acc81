-- name: spans_of_polls
-- Goes before `thin`: adds the span of each poll, which is complete from `from_at` through `through_at`. With it the newest rows
-- of these mailboxes that nothing supersedes; more of them are left to `spans_of_mailbox`.
WITH poll AS MATERIALIZED (
    SELECT company_id COLLATE "C" AS company_id, account_id COLLATE "C" AS account_id, mailbox_id COLLATE "C" AS mailbox_id,
        connected_at, from_at, through_at
    FROM unnest(%(company_ids)s::text[], %(account_ids)s::text[], %(mailbox_ids)s::text[], %(connected_ats)s::timestamptz[],
        %(from_ats)s::timestamptz[], %(through_ats)s::timestamptz[])
        poll (company_id, account_id, mailbox_id, connected_at, from_at, through_at)
),
recorded AS (
    INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at, through_at, recorded_at)
    SELECT company_id, account_id, mailbox_id, connected_at, from_at, through_at,
        coalesce(%(recorded_at)s::timestamptz, clock_timestamp())
    FROM poll
    RETURNING coverage_id, company_id, account_id, mailbox_id, connected_at, from_at, through_at, recorded_at
),
span AS MATERIALIZED (
    SELECT stored.* FROM poll CROSS JOIN LATERAL (
        SELECT newest.coverage_id, newest.company_id, newest.account_id, newest.mailbox_id, newest.connected_at, newest.from_at,
            newest.through_at, newest.recorded_at
        FROM registry.coverage newest
        WHERE newest.company_id = poll.company_id AND newest.account_id = poll.account_id AND newest.mailbox_id = poll.mailbox_id
            AND coalesce(newest.superseded_at, 'infinity') = 'infinity' AND newest.removed_at IS NULL AND newest.through_at IS NOT NULL
        ORDER BY newest.recorded_at DESC LIMIT %(most)s
    ) stored
    UNION ALL SELECT * FROM recorded
)

-- name: spans_of_mailbox
-- Goes before `thin`: the oldest rows of a mailbox that nothing supersedes.
WITH span AS MATERIALIZED (
    SELECT coverage_id, company_id, account_id, mailbox_id, connected_at, from_at, through_at, recorded_at
    FROM registry.coverage
    WHERE company_id = %(company_id)s AND account_id = %(account_id)s AND mailbox_id = %(mailbox_id)s
        AND coalesce(superseded_at, 'infinity') = 'infinity' AND removed_at IS NULL AND through_at IS NOT NULL
    ORDER BY recorded_at LIMIT %(most)s
)

-- name: thin
-- Continues from `span`. A row goes when the next one says all that it says and no judgement can lie between them: no day ends
-- there in any zone, and everything published before the next one has been counted, also by judgements that began a minute ago.
-- Of those that wait for this a few stay, and the newest. What stays because a day ended is superseded by the next such row.
, bounds AS MATERIALIZED (
    SELECT least((SELECT passed_at FROM registry.coverage_counted), clock_timestamp()) - interval '1 minute' AS counted_until,
        (SELECT array_agg(time_zone) FROM registry.coverage_zones) AS zones
),
following AS (
    SELECT span.*, lead(recorded_at) OVER mailbox AS next_recorded_at,
        lead(connected_at) OVER mailbox = connected_at AND lead(from_at) OVER mailbox <= from_at
            AND lead(through_at) OVER mailbox >= through_at AS is_repeated,
        count(*) FILTER (WHERE recorded_at > bounds.counted_until) OVER mailbox AS waiting_no
    FROM span CROSS JOIN bounds
    WINDOW mailbox AS (PARTITION BY company_id, account_id, mailbox_id ORDER BY recorded_at, coverage_id)
),
step AS (
    SELECT following.*, next_recorded_at <= bounds.counted_until OR waiting_no > %(most_waiting)s AS may_go,
        EXISTS (
            SELECT FROM unnest(bounds.zones) zone
            WHERE (recorded_at AT TIME ZONE zone)::date < (next_recorded_at AT TIME ZONE zone)::date
        ) AS ends_day
    FROM following CROSS JOIN bounds
),
run AS (
    SELECT step.*, is_repeated AND may_go AND NOT ends_day AS is_spare, next_recorded_at IS NOT NULL AND (ends_day OR NOT is_repeated) AS stays,
        count(*) FILTER (WHERE NOT is_repeated) OVER (
            PARTITION BY company_id, account_id, mailbox_id ORDER BY recorded_at, coverage_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS run_no
    FROM step
),
superseding AS (
    SELECT coverage_id, is_spare, stays, is_repeated, min(recorded_at) FILTER (WHERE stays) OVER (
            PARTITION BY company_id, account_id, mailbox_id, run_no ORDER BY recorded_at, coverage_id
            ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
        ) AS superseded_at,
        -- A row that waits to go must meet its next row again.
        count(*) FILTER (WHERE NOT is_spare AND NOT stays) OVER (
            PARTITION BY company_id, account_id, mailbox_id ORDER BY recorded_at, coverage_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS earlier_waiting
    FROM run
),
spare AS (
    DELETE FROM registry.coverage stored USING superseding
    WHERE stored.coverage_id = superseding.coverage_id AND superseding.is_spare RETURNING stored.coverage_id
),
superseded AS (
    UPDATE registry.coverage stored SET superseded_at = superseding.superseded_at FROM superseding
    WHERE stored.coverage_id = superseding.coverage_id AND superseding.stays AND superseding.is_repeated
        AND superseding.superseded_at IS NOT NULL AND superseding.earlier_waiting = 0
    RETURNING stored.coverage_id
)
SELECT (SELECT count(*) FROM spare) AS deleted, (SELECT count(*) FROM superseded) AS superseded

-- name: crowded
-- Some mailboxes behind a given one, and of each whether it has more rows that nothing supersedes than polls leave: those that an
-- older release has written.
SELECT mailbox.company_id, mailbox.account_id, mailbox.mailbox_id, (
    SELECT count(*) FROM (
        SELECT FROM registry.coverage stored
        WHERE stored.company_id = mailbox.company_id AND stored.account_id = mailbox.account_id
            AND stored.mailbox_id = mailbox.mailbox_id AND coalesce(stored.superseded_at, 'infinity') = 'infinity'
        LIMIT %(most)s + 1
    ) stored
) > %(most)s AS is_crowded
FROM registry.mailboxes mailbox WHERE (mailbox.company_id, mailbox.mailbox_id) > (%(company_id)s, %(mailbox_id)s)
ORDER BY mailbox.company_id, mailbox.mailbox_id LIMIT %(mailboxes)s

-- name: lock_mailbox
-- Keeps polls of a mailbox from ending until the transaction does; no row while one is ending.
SELECT FROM registry.mailboxes WHERE company_id = %(company_id)s AND mailbox_id = %(mailbox_id)s FOR UPDATE SKIP LOCKED
