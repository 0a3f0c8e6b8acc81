-- name: lock_tests
-- Tests of a company or of a login are counted one after the other, so that no two see the same count.
SELECT pg_advisory_xact_lock(hashtextextended('connection-test ' || key, 0))
FROM unnest(ARRAY[%(company_id)s::text, %(login_hash)s::text]) key ORDER BY key

-- name: failed_tests
-- Tests of the last hour that did not pass, of a login and of a company, and when the next test may be made.
SELECT count(*) FILTER (WHERE login_hash = %(login_hash)s) AS of_login,
    min(tested_at) FILTER (WHERE login_hash = %(login_hash)s) + interval '1 hour' AS login_again_at,
    (array_agg(code ORDER BY tested_at DESC, test_id DESC) FILTER (
        WHERE login_hash = %(login_hash)s AND company_id = %(company_id)s
    ))[1] AS login_code,
    count(*) FILTER (WHERE company_id = %(company_id)s) AS of_company,
    min(tested_at) FILTER (WHERE company_id = %(company_id)s) + interval '1 hour' AS company_again_at
FROM registry.connection_tests
WHERE tested_at > clock_timestamp() - interval '1 hour' AND code NOT IN ('passed', 'provider-busy')
    AND (login_hash = %(login_hash)s OR company_id = %(company_id)s)

-- name: begin_test
-- A test that starts.
INSERT INTO registry.connection_tests (company_id, login_hash) VALUES (%(company_id)s, %(login_hash)s)
RETURNING test_id, tested_at

-- name: end_test
-- The result of a test.
UPDATE registry.connection_tests SET stage = %(stage)s, code = %(code)s, detail = %(detail)s WHERE test_id = %(test_id)s
