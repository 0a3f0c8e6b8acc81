-- migrate:up
-- additive: yes

-- Staff make links with which sellers connect mailboxes (docs/decisions/0098-staff-make-links-for-sellers.md). What a link of the console
-- may be is checked here, so that somebody who controls its process can make no other: for the connect page, within a day, for one
-- address, leading back nowhere, and with the id of the session that made it.
GRANT INSERT (session_id, token_hash, company_id, account_id, role, mailbox_id, expected_address_hash, language, return_url, created_by,
    purpose, expires_at) ON registry.portal_sessions TO replyrate_console;
CREATE POLICY staff ON registry.portal_sessions FOR INSERT TO replyrate_console WITH CHECK (
    (SELECT registry.staff_role()) IS NOT NULL
    AND starts_with(company_id, (SELECT registry.key_prefix()))
    AND purpose = 'connect' AND return_url IS NULL AND opened_at IS NULL AND consent_by IS NULL
    AND expected_address_hash IS NOT NULL
    AND expires_at <= clock_timestamp() + interval '1440 minutes'
    AND right(created_by, 16) = '(' || (SELECT staff.session_id FROM registry.staff_session() staff) || ')'
);

-- migrate:down
DROP POLICY staff ON registry.portal_sessions;
REVOKE INSERT (session_id, token_hash, company_id, account_id, role, mailbox_id, expected_address_hash, language, return_url, created_by,
    purpose, expires_at) ON registry.portal_sessions FROM replyrate_console;
