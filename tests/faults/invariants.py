"""What must hold in the tables, whatever faults happened."""

import psycopg


def differences_of(connection: psycopg.Connection) -> list[str]:
    """A sentence for each violated invariant."""
    wrong = []
    for name, statement in INVARIANTS.items():
        rows = connection.execute(statement.encode()).fetchall()
        wrong += [f"{name}: {violation}" for violation in rows[:5]]
    return wrong


INVARIANTS = {
    "counts of a rate do not add up": """
        SELECT company_id, as_of, account_id FROM report_v1.reply_rate
        WHERE counted <> timely + late + unanswered OR timely > counted OR excluded > inquiries
            OR rate IS DISTINCT FROM CASE WHEN rate IS NOT NULL THEN timely::numeric / counted END
            OR rate NOT BETWEEN 0 AND 1 OR coverage NOT BETWEEN 0 AND 1""",
    "two versions of one rate hold": """
        SELECT rule_set, level, company_id, account_id, as_of FROM ledger.rate_rows WHERE valid_to IS NULL
        GROUP BY 1, 2, 3, 4, 5 HAVING count(*) > 1""",
    "a rate of a company is not the sum of its accounts": """
        SELECT c.company_id, c.as_of, a.* FROM report_v1.reply_rate c, LATERAL (
            SELECT sum(a.timely) AS timely, sum(a.late) AS late, sum(a.unanswered) AS unanswered,
                sum(a.unmeasured) AS unmeasured, sum(a.pending) AS pending, sum(a.inquiries) AS inquiries
            FROM report_v1.reply_rate a WHERE a.level = 'account'
                AND (a.rule_set, a.company_id, a.as_of) = (c.rule_set, c.company_id, c.as_of)) a
        WHERE c.level = 'company' AND (c.timely, c.late, c.unanswered, c.unmeasured, c.pending, c.inquiries)
            IS DISTINCT FROM (a.timely, a.late, a.unanswered, a.unmeasured, a.pending, a.inquiries)""",
    "a unit's first inquiry is not in it": """
        SELECT o.company_id, o.inquiry_id FROM report_v1.inquiry_outcomes o
        WHERE o.outcome = 'merged' AND NOT EXISTS (
            SELECT FROM report_v1.inquiry_outcomes f
            WHERE (f.rule_set, f.company_id, f.inquiry_id, f.unit_inquiry_id)
                = (o.rule_set, o.company_id, o.unit_inquiry_id, o.unit_inquiry_id))""",
    "a reply precedes its inquiry": """
        SELECT r.company_id, r.inquiry_id FROM ledger.replies r JOIN ledger.inquiries i USING (company_id, inquiry_id)
        WHERE r.source = 'mail' AND r.replied_at < i.received_at - interval '300 s'""",
    "a reply belongs to another company": """
        SELECT r.company_id, r.mailbox_id FROM ledger.replies r JOIN registry.mailboxes m USING (mailbox_id)
        WHERE m.company_id <> r.company_id""",
    "a mailbox is complete for the future": """
        SELECT mailbox_id FROM registry.mailboxes WHERE complete_through > clock_timestamp()""",
}
