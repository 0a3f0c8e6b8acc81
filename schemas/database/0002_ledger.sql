-- migrate:up

-- The ledger: the union of all joined states ever seen, and how far each partition has been merged into it.
-- Facts only; what they mean is judged by rule sets (0003). Only an erase takes anything away.

CREATE SCHEMA ledger;
COMMENT ON SCHEMA ledger IS 'Facts of inquiries, statuses and replies; offsets; outcomes and rates. Private; read report_v1.';

CREATE TABLE ledger.topics (
    topic text COLLATE "C" PRIMARY KEY,
    topic_id text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN ledger.topics.topic_id IS 'Differs when a topic was deleted and created again: it is read from its start then.';

CREATE TABLE ledger.offsets (
    topic text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    owner_epoch bigint NOT NULL DEFAULT 0,
    next_offset bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition)
);
COMMENT ON COLUMN ledger.offsets.owner_epoch IS 'Fencing token: a process that names an older epoch writes nothing.';

CREATE TABLE ledger.companies (
    company_id text COLLATE "C" PRIMARY KEY,
    judged_at timestamptz,
    due_at timestamptz,
    coverage_seen bigint NOT NULL DEFAULT 0
);
CREATE INDEX companies_due ON ledger.companies (due_at);
COMMENT ON COLUMN ledger.companies.due_at IS 'When time alone changes something next: a deadline, or a day''s turn.';
COMMENT ON COLUMN ledger.companies.coverage_seen IS 'Last coverage row that the outcomes take into account.';

-- Companies whose facts changed. Inserted by ingest, deleted by the refresh that saw the row; never updated, so that
-- ingest waits for no refresh.
CREATE TABLE ledger.dirty (
    dirty_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    company_id text COLLATE "C" NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX dirty_company ON ledger.dirty (company_id);

CREATE TABLE ledger.erased (
    company_id text COLLATE "C" PRIMARY KEY,
    at timestamptz NOT NULL
);

CREATE TABLE ledger.inquiries (
    company_id text COLLATE "C" NOT NULL,
    inquiry_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C",
    received_at timestamptz,
    facts_id text COLLATE "C",
    buyer_id text COLLATE "C",
    buyer_region text COLLATE "C",
    buyer_sent_from_region text COLLATE "C",
    thread_id text COLLATE "C",
    channel text COLLATE "C",
    buyer_addresses text[] COLLATE "C" NOT NULL DEFAULT '{}',
    message_ids text[] COLLATE "C" NOT NULL DEFAULT '{}',
    reply_addresses text[] COLLATE "C" NOT NULL DEFAULT '{}',
    PRIMARY KEY (company_id, inquiry_id)
);
CREATE INDEX inquiries_received ON ledger.inquiries (company_id, received_at);

CREATE TABLE ledger.statuses (
    company_id text COLLATE "C" NOT NULL,
    inquiry_id text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    account_id text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (company_id, inquiry_id, status, at, account_id)
);
COMMENT ON COLUMN ledger.statuses.account_id IS 'Empty where the status names no account.';

CREATE TABLE ledger.replies (
    company_id text COLLATE "C" NOT NULL,
    inquiry_id text COLLATE "C" NOT NULL,
    reply_id text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    mailbox_id text COLLATE "C" NOT NULL DEFAULT '',
    replied_at timestamptz NOT NULL,
    evidence text COLLATE "C" NOT NULL DEFAULT '',
    kind text COLLATE "C" NOT NULL,
    kind_reason text COLLATE "C" NOT NULL DEFAULT '',
    matched_by text COLLATE "C" NOT NULL,
    PRIMARY KEY (
        company_id, inquiry_id, reply_id, source, account_id, mailbox_id, replied_at, evidence, kind, kind_reason, matched_by
    )
);
COMMENT ON COLUMN ledger.replies.mailbox_id IS 'Empty for replies through the platform; so are evidence and kind_reason.';

-- The 64 smallest of two sets of hashes, sorted.
CREATE FUNCTION ledger.smallest(one text[], other text[]) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY(SELECT DISTINCT found COLLATE "C" FROM unnest(one || other) found ORDER BY 1 LIMIT 64);

-- migrate:down
DROP SCHEMA ledger CASCADE;
