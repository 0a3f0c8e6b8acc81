-- migrate:up
-- additive: yes

-- Slots are numbered without holes from here on, so that their number is the highest one and none is counted.
INSERT INTO registry.login_slots (provider, kind, number)
SELECT slots.provider, slots.kind, new.number
FROM (SELECT provider, kind, max(number) AS most FROM registry.login_slots GROUP BY provider, kind) slots,
    generate_series(1, slots.most) new (number)
ON CONFLICT DO NOTHING;

-- migrate:down
SELECT 1;
