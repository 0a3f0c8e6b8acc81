-- migrate:up

-- The registry: who connected which mailbox, how far its Sent folders have been read, and for which spans of time
-- we can say that nothing was missed. Written by the fetcher and the command line; read by the reporting views.
-- Addresses, user names and secrets stand here only sealed (see docs/privacy.md); masked forms are for people.

CREATE SCHEMA registry;
COMMENT ON SCHEMA registry IS 'Companies, accounts, mailboxes, sealed secrets, cursors, leases and coverage. Private.';

CREATE TABLE registry.companies (
    company_id text COLLATE "C" PRIMARY KEY CHECK (length(company_id) BETWEEN 1 AND 128),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE registry.accounts (
    company_id text COLLATE "C" NOT NULL REFERENCES registry.companies ON DELETE CASCADE,
    account_id text COLLATE "C" NOT NULL CHECK (length(account_id) BETWEEN 1 AND 128),
    kind text NOT NULL DEFAULT 'main' CHECK (kind IN ('main', 'sub')),
    synced_by_platform_from timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (company_id, account_id)
);
COMMENT ON COLUMN registry.accounts.synced_by_platform_from IS
    'Set when the account answers through the platform''s own mail: replies come as reply-recorded from then on.';

-- The addresses an account has on the platform: its registered one and, perhaps, a backup.
CREATE TABLE registry.addresses (
    company_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    role text NOT NULL CHECK (role IN ('registered', 'backup')),
    address_sealed bytea NOT NULL,
    address_masked text NOT NULL,
    address_hash text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (company_id, account_id, role),
    FOREIGN KEY (company_id, account_id) REFERENCES registry.accounts ON DELETE CASCADE
);
COMMENT ON COLUMN registry.addresses.address_hash IS 'Keyed hash (kind address) used to tell whether a mailbox still matches.';

CREATE TABLE registry.mailboxes (
    company_id text COLLATE "C" NOT NULL,
    mailbox_id text COLLATE "C" NOT NULL CHECK (length(mailbox_id) BETWEEN 1 AND 128),
    account_id text COLLATE "C" NOT NULL,
    role text NOT NULL CHECK (role IN ('registered', 'backup')),
    state text NOT NULL DEFAULT 'pending_test'
        CHECK (state IN ('pending_test', 'active', 'paused', 'needs_reconnect', 'refused', 'synced_by_platform', 'removed')),
    state_reason text,
    state_changed_at timestamptz NOT NULL DEFAULT now(),
    address_sealed bytea,
    address_masked text NOT NULL,
    address_hash text NOT NULL,
    host text NOT NULL,
    port integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    user_sealed bytea,
    login_hash text NOT NULL,
    sent_override bytea[],
    consent_by text NOT NULL,
    consent_at timestamptz NOT NULL,
    consent_text_version text NOT NULL,
    connected_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz,
    next_poll_at timestamptz NOT NULL DEFAULT now(),
    failures integer NOT NULL DEFAULT 0,
    last_success_at timestamptz,
    last_attempt_at timestamptz,
    complete_through timestamptz,
    complete_from timestamptz,
    reconcile_after timestamptz,
    lease_owner text,
    lease_epoch bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    PRIMARY KEY (company_id, mailbox_id),
    FOREIGN KEY (company_id, account_id) REFERENCES registry.accounts ON DELETE CASCADE
);
CREATE INDEX mailboxes_due ON registry.mailboxes (next_poll_at) WHERE state = 'active';
-- One login belongs to one mailbox that is not removed, in every company together.
CREATE UNIQUE INDEX mailboxes_login ON registry.mailboxes (login_hash) WHERE state <> 'removed';
COMMENT ON COLUMN registry.mailboxes.login_hash IS 'HMAC(key, mailbox, host, user): finds one mailbox in two companies.';
COMMENT ON COLUMN registry.mailboxes.lease_epoch IS 'Fencing token: a write that names an older epoch hits no row.';

-- Secrets apart from the mailboxes, so that a role may read one and not the other.
CREATE TABLE registry.secrets (
    company_id text COLLATE "C" NOT NULL,
    mailbox_id text COLLATE "C" NOT NULL,
    sealed bytea NOT NULL,
    key_id text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (company_id, mailbox_id),
    FOREIGN KEY (company_id, mailbox_id) REFERENCES registry.mailboxes ON DELETE CASCADE
);

-- One row per Sent folder and UIDVALIDITY; `current` marks the one being read.
CREATE TABLE registry.folders (
    company_id text COLLATE "C" NOT NULL,
    mailbox_id text COLLATE "C" NOT NULL,
    folder bytea NOT NULL,
    uidvalidity bigint NOT NULL,
    current boolean NOT NULL DEFAULT true,
    high_uid bigint NOT NULL DEFAULT 0,
    scan_down_to_uid bigint,
    scan_done bigint NOT NULL DEFAULT 0,
    uidnext bigint,
    recent_uids bigint[] NOT NULL DEFAULT '{}',
    messages bigint NOT NULL DEFAULT 0,
    lower_bound_at timestamptz,
    scan_began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (company_id, mailbox_id, folder, uidvalidity),
    FOREIGN KEY (company_id, mailbox_id) REFERENCES registry.mailboxes ON DELETE CASCADE
);
COMMENT ON COLUMN registry.folders.folder IS 'Raw bytes of the folder name as the server lists it.';
COMMENT ON COLUMN registry.folders.high_uid IS 'All UIDs up to here that lie above the scan start are published; ascends.';
COMMENT ON COLUMN registry.folders.scan_down_to_uid IS
    'First scan: all UIDs from here up to the start are published; descends to the horizon; NULL when the scan is done.';
COMMENT ON COLUMN registry.folders.recent_uids IS 'Known UIDs of the look-back window, ascending.';
COMMENT ON COLUMN registry.folders.scan_began_at IS 'When the last scan began: a reconcile scans each folder once.';
COMMENT ON COLUMN registry.folders.scan_done IS 'Messages that the scan under way has read.';
COMMENT ON COLUMN registry.folders.lower_bound_at IS
    'complete_through before this UIDVALIDITY was met: the lower bound for messages first found in its rescan.';

-- What was published within the horizon and with which times, so that a message read again is republished unchanged.
CREATE TABLE registry.published (
    company_id text COLLATE "C" NOT NULL,
    mailbox_id text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    sent_at timestamptz NOT NULL,
    record bytea NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (company_id, mailbox_id, message_id),
    FOREIGN KEY (company_id, mailbox_id) REFERENCES registry.mailboxes ON DELETE CASCADE
);
COMMENT ON COLUMN registry.published.record IS 'The event as published (hashes and times only), sent again byte for byte.';

-- Spans for which a mailbox (or an account synced by the platform, mailbox_id NULL) is known to be complete. Append-only.
CREATE TABLE registry.coverage (
    coverage_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    company_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    mailbox_id text COLLATE "C",
    connected_at timestamptz NOT NULL,
    removed_at timestamptz,
    from_at timestamptz,
    through_at timestamptz,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (through_at >= from_at)
);
CREATE INDEX coverage_company ON registry.coverage (company_id, account_id, mailbox_id, recorded_at);

-- Messages first seen, per mailbox, folder, UTC day of sent_at and kind.
CREATE TABLE registry.message_counts (
    company_id text COLLATE "C" NOT NULL,
    mailbox_id text COLLATE "C" NOT NULL,
    folder bytea NOT NULL,
    day date NOT NULL,
    kind text NOT NULL,
    messages bigint NOT NULL DEFAULT 0,
    suspect bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (company_id, mailbox_id, folder, day, kind),
    FOREIGN KEY (company_id, mailbox_id) REFERENCES registry.mailboxes ON DELETE CASCADE
);

-- migrate:down
DROP SCHEMA registry CASCADE;
