-- name: note
-- Notes what the session of this transaction reads or changes; false without a session.
SELECT registry.note_staff_action(%(action)s, %(company_id)s, %(account_id)s, %(mailbox_id)s, %(inquiry_id)s, %(detail)s) AS noted
