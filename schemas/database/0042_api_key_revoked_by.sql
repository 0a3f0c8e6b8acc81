-- migrate:up
-- additive: yes

ALTER TABLE registry.api_keys ADD COLUMN revoked_by text;
COMMENT ON COLUMN registry.api_keys.revoked_by IS
    'Operator who revoked the key, or replaced it by another; null for others, and for keys that ended before this column was added.';

-- migrate:down
ALTER TABLE registry.api_keys DROP COLUMN revoked_by;
