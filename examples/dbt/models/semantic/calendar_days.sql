-- The days that metrics are shown by.
SELECT day::date AS day FROM generate_series(current_date - interval '3 years', current_date + interval '1 day', interval '1 day') AS day
