-- migrate:up
-- additive: yes

-- What lies behind the horizon is found by the hour without reading the table: rows come about in the order of their times.
CREATE INDEX published_sent ON registry.published USING brin (sent_at) WITH (autosummarize = on);

-- migrate:down
DROP INDEX registry.published_sent;
