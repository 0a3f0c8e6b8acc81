-- migrate:up
-- additive: yes

-- Which hash key this installation uses. With another key, old and new hashes would never be equal, and nobody would notice.
CREATE TABLE registry.hash_key (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    fingerprint text COLLATE "C" NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE registry.hash_key IS 'The hash key of the installation, as a keyed digest of a constant; noted by the first process that starts with a key.';
COMMENT ON COLUMN registry.hash_key.only_row IS 'Always true: there is one row at most.';
COMMENT ON COLUMN registry.hash_key.fingerprint IS 'HMAC(key, fingerprint, hash-key): equal for the same key, and of no use to find the key.';
COMMENT ON COLUMN registry.hash_key.noted_at IS 'When it was noted.';
GRANT SELECT, INSERT ON registry.hash_key TO replyrate_fetcher;
GRANT SELECT ON registry.hash_key TO replyrate_aggregator;

-- migrate:down
DROP TABLE registry.hash_key;
