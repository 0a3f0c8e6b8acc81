-- name: count_rows
-- How many rows the registry has of a company, in the tables that a person asks about.
SELECT
    (SELECT count(*) FROM registry.accounts WHERE company_id = %(company_id)s) AS accounts,
    (SELECT count(*) FROM registry.addresses WHERE company_id = %(company_id)s) AS addresses,
    (SELECT count(*) FROM registry.mailboxes WHERE company_id = %(company_id)s) AS mailboxes,
    (SELECT count(*) FROM registry.secrets WHERE company_id = %(company_id)s) AS secrets,
    (SELECT count(*) FROM registry.published_records WHERE company_id = %(company_id)s) + (
        SELECT count(*) FROM registry.published_messages message JOIN registry.mailboxes mailbox
            ON message.message_key BETWEEN registry.message_key(mailbox.company_id, mailbox.mailbox_id, repeat('0', 32))
                AND registry.message_key(mailbox.company_id, mailbox.mailbox_id, repeat('f', 32))
        WHERE mailbox.company_id = %(company_id)s
    ) AS published,
    (SELECT count(*) FROM registry.coverage WHERE company_id = %(company_id)s) AS coverage

-- name: forget_until
-- Up to when facts are forgotten: now, or when the last running poll must have ended, and as far ahead of its filing as the Date
-- of a mail is trusted (services/mail/trust.py, SAVE_TOLERANCE).
SELECT greatest(clock_timestamp(), max(lease_until)) + %(clock_lead)s AS at FROM registry.mailboxes WHERE company_id = %(company_id)s

-- name: erase
-- Deletes every row that the registry has of a company.
SELECT registry.erase_company(%(company_id)s)
